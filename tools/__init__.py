"""For developers and power users: checks, model makers, comparisons. Not in the wheel.

Must not be known by `hybrid`, `placement` or `kernels`; may import all three.
Start reading at `conformance.py`: one command, one table.
Called by hand, by `make` and by the tests.
"""
