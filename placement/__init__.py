"""Where every tensor of a model goes, and why: inventory, machine, rules, workload, planner, plan, report.

Must not know: tensor data, torch, `hybrid`, `kernels`. Standard library; psutil, numa and pynvml inside probe.py only.
Start reading at `planner.plan()`.
Called by `hybrid.cli` (plan, run, doctor) and `hybrid.runtime.loader`.
"""
