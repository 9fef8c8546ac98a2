"""The rows of `gpu_crossing`: what the machine's memory, graphs and crossings give.

Must not know: models, plans, how a table is printed.
Start reading at `crossings.py`; `memory.py` and `graphs.py` stand alone.
Called by `tools/bench/gpu_crossing.py`.
"""
