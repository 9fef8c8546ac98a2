"""Where every tensor of a model goes, and why: a plan with a reason for each, and its report.

Must not know: tensor data, torch, `hybrid`, `kernels`. Standard library; psutil, numa and pynvml
inside probe.py only.
Start reading at `planner.plan()`.
Called by `hybrid.runtime.prepare` (planner, probe) and `hybrid.cli` (doctor, reports); a plan is
obeyed by `hybrid.runtime.load`.
"""
