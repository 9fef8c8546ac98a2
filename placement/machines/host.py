"""The [host] of a machine file with its [[host.node]] tables -> a machine without GPUs."""

import re
from itertools import chain

from placement.errors import RequestError
from placement.machines.machine import ASSUMED, CPU, Device, DeviceKind, Finding, Machine, NumaNode
from placement.machines.speeds_table import figure_homes
from placement.machines.sysfiles import number_list
from placement.machines.toml_table import Table
from placement.units import format_bytes

SYSTEM_BYTES = 4 << 30  # the system and its services, on a machine that does nothing else
MOST_NODES, MOST_CORES = 64, 4096


def read_host(table: Table) -> tuple[Machine, Table]:
    """The machine, with findings for what was assumed, and the table of the host's speeds."""
    cpu = table.text("cpu", "CPU of unknown name")
    threads = table.whole("threads", 1, 4 * MOST_CORES, example=32) if table.has("threads") else 0
    cores, findings = _cores(table, cpu, threads)
    if not table.has("ram"):
        raise table.wrong("ram", 'ram = "128GiB" under [host]')
    ram = table.size("ram", example="128GiB")
    free = table.size("free_ram", max(ram - SYSTEM_BYTES, ram // 2), "120GiB", least=0)
    if free > ram:
        raise table.wrong("free_ram", f"at most the machine's {format_bytes(ram)}, or leave it out")
    cuda_torch = table.flag("cuda_torch")
    node_tables, speeds = table.tables("node"), table.table("speeds")
    table.offer(["threads"])
    table.finish(figure_homes())
    if len(node_tables) > MOST_NODES:
        raise RequestError(f"{len(node_tables)} NUMA nodes", remedy=f"at most {MOST_NODES}")
    host = Device(CPU, DeviceKind.CPU, ram, free, cpu, cuda_torch=cuda_torch)
    threads = threads or cores
    nodes = _nodes(node_tables, host, threads)
    return Machine((host,), (), nodes, cores, threads, findings), speeds


def _cores(table: Table, cpu: str, threads: int) -> tuple[int, tuple[Finding, ...]]:
    """As given, else from the CPU's name, else half of the threads, else one."""
    if table.has("cores"):
        return table.whole("cores", 1, MOST_CORES, example=16), ()
    table.offer(["cores"])
    named = re.search(r"\b(\d{1,3})-Cores?\b", cpu, re.IGNORECASE)
    if named and int(named[1]):
        cores, why = int(named[1]), "as the name of its CPU says"
    elif threads:
        cores, why = max(threads // 2, 1), f"half of its {threads} threads"
    else:
        cores, why = 1, "nothing tells more: predictions are for one core"
    text = f"the machine file gives no cores; {cores} assumed, {why}: write cores under [host]"
    return cores, (Finding(ASSUMED, text, "[host]"),)


def _nodes(tables: list[Table], host: Device, threads: int) -> tuple[NumaNode, ...]:
    """Those of the file, or one with everything."""
    if not tables:
        return (NumaNode(0, tuple(range(threads)), host.total_bytes, host.free_bytes),)
    nodes: list[NumaNode] = []
    for index, table in enumerate(tables):
        left = host.total_bytes - sum(node.total_bytes for node in nodes)
        total = table.size("ram", min(host.total_bytes // len(tables), left), "64GiB")
        if total > left:
            raise table.wrong(
                "ram", f"all nodes have at most the host's {format_bytes(host.total_bytes)}"
            )
        free = table.size("free_ram", total * host.free_bytes // host.total_bytes, "60GiB", least=0)
        if free > total:
            raise table.wrong("free_ram", f"at most the node's {format_bytes(total)}")
        taken = set(chain.from_iterable(node.cpus for node in nodes))
        cpus = _cpus(table, index, len(tables), threads, taken)
        table.finish()
        nodes.append(NumaNode(index, cpus, total, free))
    if not any(node.cpus for node in nodes):
        raise tables[0].wrong("cpus", 'some node with CPUs: cpus = "0-31"')
    return tuple(nodes)


def _cpus(table: Table, index: int, nodes: int, threads: int, taken: set[int]) -> tuple[int, ...]:
    """ "0-31,64-95", or an even part of all."""
    if not table.has("cpus"):
        first, end = threads * index // nodes, threads * (index + 1) // nodes
        table.text("cpus", "")
        return tuple(range(first, end))
    text = table.text("cpus")
    cpus = number_list(text)
    if set(text) - set("0123456789,- ") or (text.strip() and not cpus):
        raise table.wrong("cpus", 'cpus = "0-31,64-95"')
    if max(cpus, default=0) >= threads:
        raise table.wrong("cpus", f"the host's CPUs are 0 to {threads - 1} (threads = {threads})")
    if twice := taken.intersection(cpus):
        raise table.wrong("cpus", f"CPU {min(twice)} is in a node above: each CPU is in one")
    return cpus
