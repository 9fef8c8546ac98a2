"""Bytes of every device: scratch, staging, contexts, budgets; what a plan needs beside weights.

Must not know: where blocks live, how fast anything is.
Start reading at `parts.py`.
Called by solve, report, plan_check, and the loader for its constants.
"""
