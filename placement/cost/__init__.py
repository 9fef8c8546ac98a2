"""Seconds of every part of a plan, and the tokens per second they come to.

Must not know: how homes are chosen, how anything is shown.
Start reading at `predict.py`.
Called by planner, solve, report.
"""
