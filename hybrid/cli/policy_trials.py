"""What this kernel makes of each `--numa` policy: some memory under each, touched, read back."""

from collections.abc import Sequence
from dataclasses import dataclass

from hybrid.runtime.host_pages import HostPages
from hybrid.runtime.numa_calls import NumaPolicy
from placement.machines.machine import Machine
from placement.units import format_bytes

TRIAL_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class PolicyTrial:
    """Outcome of one policy.

    policy             "interleave", "shard on node1", ...
    pages_per_node     touched pages; None where the kernel does not tell
    notes              what could not be done, or came out otherwise than asked
    """

    policy: str
    pages_per_node: dict[int, int] | None
    huge_page_bytes: int
    notes: tuple[str, ...]

    def row(self) -> list[str]:
        """Cells of a table: policy, pages, bytes in huge pages, notes."""
        pages = sorted((self.pages_per_node or {}).items())
        where = ", ".join(f"node{node}: {count}" for node, count in pages) or "not told"
        return [self.policy, where, format_bytes(self.huge_page_bytes), "; ".join(self.notes)]


def try_policies(machine: Machine, nbytes: int = TRIAL_BYTES) -> list[PolicyTrial]:
    """One trial per policy, for `shard` one per node. One node leaves nothing to choose: one trial
    then.
    """
    nodes = [node.index for node in machine.memory_nodes]
    if len(nodes) < 2:
        return [_try("any (one node)", NumaPolicy.OFF, nodes, nbytes)]
    trials = []
    for policy in NumaPolicy:
        if policy is NumaPolicy.SHARD:
            trials += [_try(f"shard on node{node}", policy, [node], nbytes) for node in nodes]
        else:
            trials.append(_try(policy.value, policy, nodes, nbytes))
    return trials


def _try(name: str, policy: NumaPolicy, nodes: Sequence[int], nbytes: int) -> PolicyTrial:
    try:
        pages = HostPages(nbytes, policy, nodes)
    except OSError as error:
        return PolicyTrial(name, None, 0, (f"no memory: {error.strerror}",))
    pages.touch()
    found = pages.placement()
    if found is None:
        return PolicyTrial(name, None, 0, tuple(pages.notes))
    notes = (*pages.notes, *pages.faults(found))
    return PolicyTrial(name, found.pages_per_node, found.huge_page_bytes, notes)
