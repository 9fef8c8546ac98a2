"""Machines that this one is made to look like."""

from dataclasses import replace

import pytest

from placement.machines.cpus import ThreadCpus, choose_cpus
from placement.machines.machine import Machine, NumaNode
from placement.machines.probe import probe_machine

GIB = 1 << 30


def pretend_nodes(
    monkeypatch: pytest.MonkeyPatch, *free_bytes: int, without_cpus: tuple[int, ...] = ()
) -> None:
    """`hybrid.load` sees so many NUMA nodes, with so much free on each, and threads on all."""
    nodes = tuple(
        NumaNode(n, () if n in without_cpus else (n,), 64 * GIB, free)
        for n, free in enumerate(free_bytes)
    )

    def probe(**given: object) -> Machine:
        return replace(probe_machine(**given), numa_nodes=nodes)

    def choose(threads: int | None) -> ThreadCpus:
        holders = tuple(node.index for node in nodes if node.cpus)
        return replace(choose_cpus(threads), system_nodes=holders)

    monkeypatch.setattr("hybrid.runtime.machines.probe_machine", probe)
    monkeypatch.setattr("hybrid.runtime.prepare.choose_cpus", choose)
