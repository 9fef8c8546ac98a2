"""Which CPUs the native threads are pinned to: one per physical core, spread over the NUMA nodes.

Two threads of a core share its load units, so a core's second CPU adds little to reading RAM and is
taken last. The limits are those of the machine's finding: affinity mask and cgroup quota.
"""

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from placement.machines.machine import Machine, NumaNode
from placement.machines.probe import UsableCpus, numa_nodes, usable_cpus
from placement.machines.sysfiles import number_list, read_text


@dataclass(frozen=True, slots=True)
class ThreadCpus:
    """Any first few of the threads are spread as evenly as all.

    cpus           one per thread
    nodes          of each CPU, numbered 0 .. n - 1 without gaps, those with memory first
    system_nodes   [n] what the system calls node 0 .. n - 1
    """

    cpus: tuple[int, ...]
    nodes: tuple[int, ...]
    system_nodes: tuple[int, ...]
    notes: tuple[str, ...]


def choose_cpus(
    threads: int | None = None,
    *,
    sysfs: Path = Path("/sys"),
    proc: Path = Path("/proc"),
) -> ThreadCpus:
    """CPUs for this many threads; None: one per physical core, within the limits.

    More threads than the affinity mask has CPUs, or than the cgroup's quota has CPUs' time (rounded
    up), are cut with a note. Where /sys is silent (macOS), every CPU counts as a core of one node.
    """
    assert threads is None or threads > 0, "the command line has checked the number of threads"
    usable = usable_cpus(sysfs, proc)
    online = number_list(read_text(sysfs / "devices/system/cpu/online"))
    cpus = sorted(usable.cpus.intersection(online) or usable.cpus)
    listed = numa_nodes(sysfs, proc)
    nodes = _nodes(listed, cpus)
    order = _node_order(listed, nodes)
    ranks = _sibling_ranks(sysfs, cpus)
    cores = list(ranks.values()).count(0)
    most = min(len(cpus), usable.count)
    count = min(cores if threads is None else threads, most)
    chosen = _spread(cpus, nodes, order, ranks)[:count]
    used = tuple(node for node in order if node in {nodes[cpu] for cpu in chosen})
    notes = _notes(threads, count, cores, _limit(usable, len(cpus)))
    return ThreadCpus(tuple(chosen), tuple(used.index(nodes[cpu]) for cpu in chosen), used, notes)


def described_cpus(machine: Machine, threads: int | None = None) -> ThreadCpus:
    """The same of a machine that is not here: one per physical core, in turn over its nodes."""
    nodes = machine.memory_nodes or (NumaNode(0, tuple(range(machine.usable_cpus)), 0, 0),)
    count = min(threads or machine.physical_cores, machine.usable_cpus)
    turns = zip_longest(*(node.cpus for node in nodes))
    pairs = [(cpu, i) for turn in turns for i, cpu in enumerate(turn) if cpu is not None][:count]
    used = tuple(nodes[i].index for i in sorted({i for _, i in pairs}))
    notes = []
    if threads is not None and threads > count:
        notes.append(f"-t {threads} is cut to {count}: the machine has {machine.usable_cpus} CPUs")
    cpus = tuple(cpu for cpu, _ in pairs)
    return ThreadCpus(cpus, tuple(used.index(nodes[i].index) for _, i in pairs), used, tuple(notes))


def _nodes(listed: tuple[NumaNode, ...], cpus: list[int]) -> dict[int, int]:
    """NUMA node of each CPU; 0 for those that no node lists."""
    found = {cpu: node.index for node in listed for cpu in node.cpus}
    return {cpu: found.get(cpu, 0) for cpu in cpus}


def _node_order(listed: tuple[NumaNode, ...], nodes: dict[int, int]) -> list[int]:
    """The CPUs' nodes. Those with memory come first, so that parts of weights, which only they
    hold, have the same numbers as their workers' nodes.
    """
    holders = {node.index for node in listed if node.holds_memory}
    return sorted(set(nodes.values()), key=lambda node: (node not in holders, node))


def _sibling_ranks(sysfs: Path, cpus: list[int]) -> dict[int, int]:
    """How many of the given CPUs before each one lie on the same core."""
    seen: dict[str, int] = {}
    ranks = {}
    for cpu in cpus:
        core = _core(sysfs / "devices/system/cpu" / f"cpu{cpu}" / "topology", cpu)
        ranks[cpu] = seen.get(core, 0)
        seen[core] = ranks[cpu] + 1
    return ranks


def _core(topology: Path, cpu: int) -> str:
    """A name of the CPU's core that its siblings share."""
    for name in ("core_cpus_list", "thread_siblings_list"):
        siblings = number_list(read_text(topology / name))
        if cpu in siblings:
            return f"of cpu{siblings[0]}"
    package = read_text(topology / "physical_package_id").strip()
    core = read_text(topology / "core_id").strip()
    return f"core {core} of package {package}" if package and core else f"of cpu{cpu}"


def _spread(
    cpus: list[int], nodes: dict[int, int], node_order: list[int], ranks: dict[int, int]
) -> list[int]:
    """All CPUs: first siblings before second ones, among equals one node after the other."""
    order: list[int] = []
    for rank in sorted(set(ranks.values())):
        per_node = [
            [cpu for cpu in cpus if ranks[cpu] == rank and nodes[cpu] == node]
            for node in node_order
        ]
        order += [cpu for turn in zip_longest(*per_node) for cpu in turn if cpu is not None]
    return order


def _limit(usable: UsableCpus, cpus: int) -> str:
    """What allows no more threads."""
    if usable.count < cpus:
        quotas = [found for found in usable.findings if found.what == "CPU time of the cgroup"]
        least = min(quotas, key=lambda found: float(found.value.split()[0]))
        return f"the cgroup's quota is {least.value} ({least.source})"
    return f"this process may run on {cpus} CPUs ({usable.findings[0].source})"


def _notes(threads: int | None, count: int, cores: int, limit: str) -> tuple[str, ...]:
    notes = []
    if threads is not None and threads > count:
        notes.append(f"-t {threads} is cut to {count}: {limit}")
    if count > cores:
        notes.append(f"{count} threads on {cores} physical cores: some share one")
    return tuple(notes)
