"""Which CPUs the native threads are pinned to: one per physical core, spread over the NUMA nodes.

Two threads of a core share its load units, so a core's second CPU adds little to reading RAM and is
taken last. The limits are those of the machine's finding: affinity mask and cgroup quota.
"""

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from placement.probe import UsableCpus, numa_nodes, usable_cpus
from placement.sysfiles import number_list, read_text


@dataclass(frozen=True, slots=True)
class ThreadCpus:
    """One entry per thread; any first few of them are spread as evenly as all."""

    cpus: tuple[int, ...]
    nodes: tuple[int, ...]  # of the cpus, numbered 0 .. n - 1 without gaps
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
    nodes = _nodes(sysfs, cpus)
    ranks = _sibling_ranks(sysfs, cpus)
    cores = list(ranks.values()).count(0)
    most = min(len(cpus), usable.count)
    count = min(cores if threads is None else threads, most)
    chosen = _spread(cpus, nodes, ranks)[:count]
    dense = {node: number for number, node in enumerate(sorted({nodes[cpu] for cpu in chosen}))}
    notes = _notes(threads, count, cores, _limit(usable, len(cpus)))
    return ThreadCpus(tuple(chosen), tuple(dense[nodes[cpu]] for cpu in chosen), notes)


def _nodes(sysfs: Path, cpus: list[int]) -> dict[int, int]:
    """NUMA node of each CPU; 0 for those that no node lists."""
    listed = {cpu: node.index for node in numa_nodes(sysfs) for cpu in node.cpus}
    return {cpu: listed.get(cpu, 0) for cpu in cpus}


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


def _spread(cpus: list[int], nodes: dict[int, int], ranks: dict[int, int]) -> list[int]:
    """All CPUs: first siblings before second ones, among equals one node after the other."""
    order: list[int] = []
    for rank in sorted(set(ranks.values())):
        per_node = [
            [cpu for cpu in cpus if ranks[cpu] == rank and nodes[cpu] == node]
            for node in sorted(set(nodes.values()))
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
