"""A machine that is not here, or is kept for later: a TOML file <-> `Machine`.

    about = "1x RTX 3090, 128 GB"            # all but ram and a GPU's memory may be left out
    sources = ["where the figures come from"]

    [host]
    cpu = "AMD Ryzen 9 5950X"
    cores = 16                               # physical ones; guessed from the rest, with a note
    threads = 32                             # CPUs the system counts; as many as cores
    ram = "128GiB"
    free_ram = "120GiB"                      # all but what a system takes
    cuda_torch = true                        # torch's CUDA build: more RAM where no GPU is used

    [[host.node]]                            # one for each NUMA node, if there are several
    cpus = "0-15"
    ram = "128GiB"

    [[gpu]]                                  # CUDA0, CUDA1, ... in this order
    name = "NVIDIA GeForce RTX 3090"
    count = 2                                # equal ones
    memory = "24GiB"
    free_memory = "23.5GiB"                  # all of it
    compute_capability = "8.6"
    pcie_generation = 4
    pcie_width = 16
    node = 0

Speeds, where they are known, stand in [host.speeds] and [gpu.speeds] under the names of
`HostSpeeds` and `GpuSpeeds`; `[speeds]` may say their source and error. The others are estimated.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from placement.errors import RequestError
from placement.machines.estimates import (
    ESTIMATED,
    estimate_error,
    speeds_from,
    with_contexts,
)
from placement.machines.host import read_host
from placement.machines.machine import CPU, Device, DeviceKind, Finding, Link, Machine
from placement.machines.speeds import GpuSpeeds, HostSpeeds, MachineSpeeds
from placement.machines.speeds_table import (
    all_figures,
    figure_homes,
    figure_values,
    needed_names,
    read_figures,
    rounded,
)
from placement.machines.toml_table import Table, read_toml, toml_lines
from placement.tensor_names import number_ranges
from placement.units import flag_bytes, format_bytes

WHAT = "a machine file"
MOST_GPUS = 64
GIVEN_ERROR = 0.15  # of predictions from figures that somebody gave, unless the file says otherwise
_GIB = 1 << 30


def read_machine(path: Path, origin: str | None = None) -> Machine:
    """The machine that a file describes, with speeds for every device.

    origin   of the figures, for reports: "preset 16x3090"; the file's name when left out
    Raises RequestError naming table, key, value and what to write instead.
    """
    table = read_toml(path, WHAT)
    origin = origin or path.name
    about = table.text("about", "")
    table.texts("sources")
    host_table, gpu_tables = table.table("host"), table.tables("gpu")
    said = table.table("speeds")
    table.finish(figure_homes())
    bare, host_speeds = read_host(host_table)
    gpus = _gpus(gpu_tables, bare)
    found = Finding("machine", about or origin, str(path))
    machine = replace(
        bare,
        devices=(bare.host, *(device for device, _, _ in gpus)),
        links=tuple(link for _, link, _ in gpus),
        findings=(
            found,
            *bare.findings,
            *_findings(bare),
            *(_gpu_finding(device) for device, _, _ in gpus),
        ),
    )
    speeds = _speeds(machine, host_speeds, gpus, said, origin)
    return with_contexts(replace(machine, speeds=speeds))


def machine_text(machine: Machine, about: str) -> str:
    """The file that `read_machine` makes this machine of, with figures to DIGITS digits.

    Simulated GPUs are written like real ones.
    """
    values: dict[str, Any] = {"about": about}
    if machine.speeds is not None:
        source, error = machine.speeds.source, rounded(machine.speeds.error)
        values["speeds"] = {"source": source, "error": error}
    values["host"] = _host_values(machine)
    if machine.gpus:
        values["gpu"] = [_gpu_values(machine, gpu) for gpu in machine.gpus]
    lines = ["# A machine for hybrid plan MODEL --machine FILE", *toml_lines(values)]
    return "\n".join(lines) + "\n"


def size_text(nbytes: int) -> str:
    """Exactly these bytes: "24GiB", "1500MiB", "1000B"."""
    text = f"{nbytes // _GIB}GiB" if nbytes % _GIB == 0 else flag_bytes(nbytes)
    return f"{text}B" if text.isdecimal() else text


_Gpu = tuple[Device, Link, Table]


def _gpus(tables: list[Table], host: Machine) -> list[_Gpu]:
    gpus: list[_Gpu] = []
    for table in tables:
        count = table.whole("count", 1, MOST_GPUS, 1, example=2)
        device, link = _gpu(table, host)
        speeds = table.table("speeds")
        table.finish(figure_homes())
        for _ in range(count):
            name = f"CUDA{len(gpus)}"
            gpus.append((replace(device, name=name), replace(link, device=name), speeds))
        if len(gpus) > MOST_GPUS:
            raise RequestError(f"{len(gpus)} GPUs", remedy=f"at most {MOST_GPUS} in a machine file")
    return gpus


def _gpu(table: Table, host: Machine) -> tuple[Device, Link]:
    name = table.text("name", "GPU of unknown name")
    if not table.has("memory"):
        raise table.wrong("memory", 'memory = "24GiB"')
    memory = table.size("memory")
    free = table.size("free_memory", memory, "23.5GiB", least=0)
    if free > memory:
        raise table.wrong("free_memory", f"at most the GPU's {format_bytes(memory)}")
    capability = table.text("compute_capability", "") or None
    if capability is not None and not _is_capability(capability):
        raise table.wrong("compute_capability", 'compute_capability = "8.6"')
    generation = table.whole("pcie_generation", 0, 8, 0, example=4) or None
    width = table.whole("pcie_width", 0, 32, 0, example=16) or None
    node: int | None = None
    if table.has("node"):
        node = table.whole("node", 0, len(host.numa_nodes) - 1, example=0)
    table.offer(["node"])
    device = Device("", DeviceKind.GPU, memory, free, name, node, compute_capability=capability)
    return device, Link("", generation, width, generation, width)


def _is_capability(text: str) -> bool:
    major, dot, minor = text.partition(".")
    return bool(dot) and major.isdecimal() and minor.isdecimal() and len(text) < 6


def _speeds(
    machine: Machine, host_table: Table, gpus: list[_Gpu], said: Table, origin: str
) -> MachineSpeeds:
    """What the file gives, over estimates."""
    figures = {CPU: read_figures(host_table, HostSpeeds)}
    figures |= {device.name: read_figures(table, GpuSpeeds) for device, _, table in gpus}
    wanted = {name: needed_names(GpuSpeeds) for name in figures}
    wanted[CPU] = needed_names(HostSpeeds)
    complete = all(set(names) <= set(figures[device]) for device, names in wanted.items())
    some = any(figures.values())
    kind = "" if complete else f", partly {ESTIMATED}" if some else f", {ESTIMATED}"
    usual_error = GIVEN_ERROR if complete else estimate_error(machine)
    error = said.number("error", 1.0, 0.15) if said.has("error") else usual_error
    source = said.text("source", f"{origin}{kind}")
    said.offer(["error"])
    said.finish(figure_homes())
    return speeds_from(machine, figures, source, error)


def _findings(machine: Machine) -> tuple[Finding, ...]:
    host, source = machine.host, WHAT
    nodes = len(machine.numa_nodes)
    return (
        Finding("CPU", f"{host.description}, {machine.physical_cores} cores", source),
        Finding("RAM", format_bytes(host.total_bytes), source),
        Finding("NUMA nodes", str(nodes), source),
    )


def _gpu_finding(gpu: Device) -> Finding:
    return Finding(gpu.name, f"{gpu.description}, {format_bytes(gpu.total_bytes)}", WHAT)


def _host_values(machine: Machine) -> dict[str, Any]:
    host = machine.host
    values: dict[str, Any] = {
        "cpu": host.description,
        "cores": machine.physical_cores,
        "threads": machine.usable_cpus,
        "ram": size_text(host.total_bytes),
        "free_ram": size_text(host.free_bytes),
        "node": _node_values(machine),
    }
    if host.cuda_torch:
        values["cuda_torch"] = True
    if machine.speeds is not None:
        values["speeds"] = figure_values(all_figures(machine.speeds.host))
    return values


def _node_values(machine: Machine) -> list[dict[str, Any]]:
    """Nodes within the host: a container is let use less than its nodes have, and CPUs that are
    numbered beyond how many there are.
    """
    nodes, host = machine.memory_nodes, machine.host
    whole = max(sum(node.total_bytes for node in nodes), host.total_bytes)
    numbered = all(cpu < machine.usable_cpus for node in nodes for cpu in node.cpus)
    values = []
    for node in nodes:
        total = node.total_bytes * host.total_bytes // whole
        cpus = {"cpus": number_ranges(node.cpus).replace(", ", ",")} if numbered else {}
        free = min(node.free_bytes, total)
        values.append({**cpus, "ram": size_text(total), "free_ram": size_text(free)})
    return values


def _gpu_values(machine: Machine, gpu: Device) -> dict[str, Any]:
    link = next((link for link in machine.links if link.device == gpu.name), None)
    speeds: Mapping[str, GpuSpeeds] = machine.speeds.gpus if machine.speeds else {}
    nodes = [node.index for node in machine.memory_nodes]
    return {
        "name": gpu.description,
        "memory": size_text(gpu.total_bytes),
        "free_memory": size_text(gpu.free_bytes),
        "compute_capability": gpu.compute_capability,
        "pcie_generation": (link.max_generation or link.pcie_generation) if link else None,
        "pcie_width": link.pcie_width if link else None,
        "node": nodes.index(gpu.numa_node) if gpu.numa_node in nodes else None,
        "speeds": figure_values(all_figures(speeds[gpu.name])) if gpu.name in speeds else None,
    }
