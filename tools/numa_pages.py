"""Memory under each NUMA policy, touched, and where the kernel put its pages: two witnesses.

    python -m tools.numa_pages [MIB]

One line per policy: pages by node as /proc/self/numa_maps counts them and as move_pages answers,
bytes in huge pages, what differs from what was asked; exit status 1 when anything does. No torch.
"""

import sys

from hybrid.runtime.host_pages import HostPages, read_placement
from hybrid.runtime.numa_calls import NumaPolicy, pages_by_node
from placement.machines.probe import probe_machine


def main(mib: int) -> int:
    nodes = [node.index for node in probe_machine(visible="").memory_nodes]
    print(f"{mib} MiB, nodes {nodes}")
    wrong = 0
    for policy in NumaPolicy:
        targets = [[node] for node in nodes] if policy is NumaPolicy.SHARD else [nodes]
        for chosen in targets:
            wrong += bool(trial(policy, chosen, mib << 20))
    return int(wrong > 0)


def trial(policy: NumaPolicy, nodes: list[int], nbytes: int) -> list[str]:
    """Print one policy's line; what went wrong."""
    pages = HostPages(nbytes, policy, nodes)
    pages.touch()
    read = read_placement(pages.address, pages.address + pages.nbytes)
    found = pages.placement()
    assert read is not None, "this kernel has no /proc/self/numa_maps"
    assert found is not None, "numa_maps is there"
    told = pages_by_node(pages.address, pages.nbytes)
    faults = [*pages.notes, *pages.faults(found)]
    # Memory without a policy is the kernel's to balance, and move_pages passes over such pages.
    if policy is not NumaPolicy.OFF and told != read.pages_per_node:
        faults.append("the witnesses differ")
    name = f"{policy.value} {nodes}"
    print(
        f"{name:20} numa_maps {read.pages_per_node}  move_pages {told}  huge "
        f"{found.huge_page_bytes >> 20} MiB  {'; '.join(faults) or 'as asked'}"
    )
    return faults


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 256))
