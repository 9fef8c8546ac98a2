"""For developers and power users: checks, model makers, comparisons. Not in the wheel.

Must not be known by `hybrid`, `placement` or `kernels`; may import all three.
Start reading at `conformance/__main__.py`: one command, one table.
Called by hand, by `make` and by the tests.
"""
