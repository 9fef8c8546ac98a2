"""Measures what this machine's RAM, CPU, GPUs and buses give, for the planner's predictions.

Must not know: plans, files of models, how a table is printed.
Start reading at `machine.py`; `host.py` and `gpu.py` have a function for each figure.
Called by `hybrid doctor`, which prints the figures and keeps them as a profile.
"""
