"""Where each block and expert goes: exact runs over the GPUs, experts that fill them, what would
fit instead.

Must not know: how a plan is shown.
Start reading at `draft.py`.
Called by planner.
"""
