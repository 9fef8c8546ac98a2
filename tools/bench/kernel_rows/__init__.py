"""What `tools/bench/kernels.py` times, a file per family of ops.

Must not know: arguments and tables.
Start reading at `measure.py`: groups, contenders, rounds.
Called by `tools/bench/kernels.py`.
"""
