"""Where every tensor of a model goes, and why: a plan with a reason for each, and its report.

Must not know: tensor data, torch, `hybrid`, `kernels`. Standard library; psutil, numa and pynvml
inside machines/probe.py only.
Start reading at `planner.plan()`. The rooms, each of which may use those before it:

    machines/   what there is to place on, and what it does in a second
    memory/     bytes that a placement asks of each device
    cost/       seconds that it takes
    solve/      where everything goes, and what would fit instead
    report/     what a person reads of it

Called by `hybrid.runtime.prepare` (planner, probe) and `hybrid.cli` (doctor, reports); a plan is
obeyed by `hybrid.runtime.load`.
"""
