import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from placement.errors import ProbeError
from placement.machines import probe
from placement.machines.machine import DeviceKind, Machine, NumaNode
from placement.machines.probe import (
    numa_nodes,
    physical_cores,
    probe_machine,
    torch_is_for_cuda,
    usable_cpus,
)
from tests.placement.folders import write
from tests.placement.models import GIB, MIB


def finding(machine: Machine, what: str) -> str:
    return next(f"{f.value} from {f.source}" for f in machine.findings if f.what == what)


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """Two nodes of four hyper-threads each, threads n and n+4 on one core."""
    files = {}
    for node, cpus in ((0, "0-1,4-5"), (1, "2-3,6-7")):
        folder = f"devices/system/node/node{node}"
        files[f"{folder}/cpulist"] = f"{cpus}\n"
        files[f"{folder}/meminfo"] = (
            f"Node {node} MemTotal:       1048576 kB\nNode {node} MemFree:         524288 kB\n"
        )
    for cpu in range(8):
        files[f"devices/system/cpu/cpu{cpu}/topology/core_cpus_list"] = f"{cpu % 4},{cpu % 4 + 4}\n"
    files["bus/pci/devices/0000:41:00.0/numa_node"] = "1\n"
    return write(tmp_path / "sys", files)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    return write(
        tmp_path / "proc", {"self/cgroup": "0::/job/a\n", "cpuinfo": "model name\t: Test CPU\n"}
    )


def test_numa_nodes_have_their_cpus_and_bytes(sysfs: Path) -> None:
    first, second = numa_nodes(sysfs)
    assert first.cpus == (0, 1, 4, 5)
    assert second.cpus == (2, 3, 6, 7)
    assert (second.index, second.total_bytes, second.free_bytes) == (1, GIB, GIB // 2)


def test_nodes_without_memory_or_without_cpus_are_listed_but_hold_nothing(sysfs: Path) -> None:
    folder = "devices/system/node/node"
    bare = "Node 2 MemTotal: 0 kB\nNode 2 MemFree: 0 kB\n"
    write(sysfs, {f"{folder}2/cpulist": "8-9\n", f"{folder}2/meminfo": bare})
    far = "Node 10 MemTotal: 2048 kB\nNode 10 MemFree: 1024 kB\n"
    write(sysfs, {f"{folder}10/cpulist": "\n", f"{folder}10/meminfo": far})
    nodes = numa_nodes(sysfs, sysfs / "missing")
    assert [node.index for node in nodes] == [0, 1, 2, 10]
    assert (nodes[2].cpus, nodes[2].total_bytes) == ((8, 9), 0)
    assert (nodes[3].cpus, nodes[3].free_bytes) == ((), 1 * MIB)
    machine = Machine((), numa_nodes=nodes)
    assert [node.index for node in machine.memory_nodes] == [0, 1, 10]


def test_missing_folders_of_nodes_list_none(sysfs: Path) -> None:
    assert numa_nodes(sysfs / "missing") == ()
    write(sysfs, {"devices/system/node/node7/distance": "10\n"})
    assert numa_nodes(sysfs, sysfs)[-1] == NumaNode(7, (), 0, 0)


def test_file_pages_of_a_node_count_as_free(sysfs: Path) -> None:
    text = "Node 0 MemTotal: 8192 kB\nNode 0 MemFree: 1024 kB\n"
    text += "Node 0 FilePages: 4096 kB\nNode 0 Shmem: 1024 kB\n"
    write(sysfs, {"devices/system/node/node0/meminfo": text})
    assert numa_nodes(sysfs)[0].free_bytes == 4 * MIB


def test_nodes_forbidden_to_this_process_are_no_place_for_memory(sysfs: Path, proc: Path) -> None:
    write(proc, {"self/status": "Name:\tpython\nMems_allowed:\t2\nMems_allowed_list:\t1\n"})
    machine = probe_machine(sysfs=sysfs, proc=proc)
    assert [node.index for node in machine.memory_nodes] == [1]
    assert "node0: 4 CPUs, 1.0 GiB (not for this process)" in finding(machine, "NUMA nodes")


def test_hyper_threads_count_once(sysfs: Path) -> None:
    assert physical_cores(sysfs, frozenset(range(8))) == 4
    assert physical_cores(sysfs, frozenset({0, 4})) == 1
    assert physical_cores(sysfs / "missing", frozenset({0, 1})) == 2


def test_quota_of_a_parent_cgroup_limits_the_cpus(sysfs: Path, proc: Path) -> None:
    write(sysfs, {"fs/cgroup/job/cpu.max": "50000 100000\n", "fs/cgroup/cpu.max": "max 100000\n"})
    cpus = usable_cpus(sysfs, proc)
    assert cpus.count == 1
    assert any("0.5 CPUs" in f.value and "job/cpu.max" in f.source for f in cpus.findings)


def test_memory_limit_of_cgroup_version_2_bounds_the_ram(sysfs: Path, proc: Path) -> None:
    write(
        sysfs,
        {
            "fs/cgroup/job/memory.max": f"{256 * MIB}\n",
            "fs/cgroup/job/memory.current": f"{128 * MIB}\n",
            "fs/cgroup/job/memory.stat": f"anon 5\ninactive_file {64 * MIB}\n",
            "fs/cgroup/job/a/memory.max": "max\n",
        },
    )
    machine = probe_machine(simulate={"CUDA0": MIB}, sysfs=sysfs, proc=proc)
    assert machine.host.total_bytes == 256 * MIB
    assert machine.host.free_bytes == 192 * MIB
    assert "256.0 MiB from" in finding(machine, "RAM limit of the cgroup")


def test_a_full_outer_cgroup_leaves_nothing_free(sysfs: Path, proc: Path) -> None:
    write(
        sysfs,
        {
            "fs/cgroup/job/a/memory.max": f"{64 * MIB}\n",
            "fs/cgroup/job/a/memory.current": f"{8 * MIB}\n",
            "fs/cgroup/job/memory.max": f"{256 * MIB}\n",
            "fs/cgroup/job/memory.current": f"{250 * MIB}\n",
        },
    )
    host = probe_machine(simulate={"CUDA0": MIB}, sysfs=sysfs, proc=proc).host
    assert (host.total_bytes, host.free_bytes) == (64 * MIB, 6 * MIB)


def test_memory_limit_of_cgroup_version_1_bounds_the_ram(sysfs: Path, proc: Path) -> None:
    write(proc, {"self/cgroup": "4:memory:/box\n"})
    write(
        sysfs,
        {
            "fs/cgroup/memory/box/memory.limit_in_bytes": f"{100 * MIB}\n",
            "fs/cgroup/memory/box/memory.usage_in_bytes": f"{150 * MIB}\n",
        },
    )
    host = probe_machine(simulate={"CUDA0": MIB}, sysfs=sysfs, proc=proc).host
    assert (host.total_bytes, host.free_bytes) == (100 * MIB, 0)


def test_simulated_gpus_take_the_place_of_real_ones(sysfs: Path, proc: Path) -> None:
    machine = probe_machine(simulate={"CUDA0": 64 * MIB, "CUDA1": MIB}, sysfs=sysfs, proc=proc)
    assert machine.device_names == ("CPU", "CUDA0", "CUDA1")
    assert {gpu.kind for gpu in machine.gpus} == {DeviceKind.SIMULATED_GPU}
    assert machine.host.description == "Test CPU"


def test_machine_without_sys_and_libraries_is_still_a_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("psutil", "numa", "pynvml"):
        monkeypatch.setitem(sys.modules, name, None)
    machine = probe_machine(sysfs=tmp_path, proc=tmp_path)
    assert machine.device_names == ("CPU",)
    assert machine.numa_nodes == ()
    assert "psutil is missing" in finding(machine, "RAM")
    assert "not usable" in finding(machine, "NUMA library")
    assert "nvidia-ml-py is missing" in finding(machine, "GPUs")


class NVMLError(Exception):
    pass


def fake_nvml(gpus: int, *, driver: bool = True) -> ModuleType:
    module = ModuleType("pynvml")

    def init() -> None:
        if not driver:
            raise NVMLError("driver not loaded")

    def unsupported(handle: int) -> int:
        raise NVMLError("not supported")

    functions = {
        "NVMLError": NVMLError,
        "nvmlInit": init,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "580.1",
        "nvmlDeviceGetCount": lambda: gpus,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUUID": lambda handle: f"GPU-{'abc'[handle]}123",
        "nvmlDeviceGetName": lambda handle: f"Card {handle}".encode(),
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=24 * GIB, free=23 * GIB),
        "nvmlDeviceGetCudaComputeCapability": lambda handle: (9, 0),
        "nvmlDeviceGetPciInfo": lambda handle: SimpleNamespace(busId="00000000:41:00.0"),
        "nvmlDeviceGetCurrPcieLinkGeneration": lambda handle: 4,
        "nvmlDeviceGetCurrPcieLinkWidth": lambda handle: 8,
        "nvmlDeviceGetMaxPcieLinkGeneration": lambda handle: 5,
        "nvmlDeviceGetMaxPcieLinkWidth": unsupported,
    }
    for name, function in functions.items():
        setattr(module, name, function)
    return module


def test_gpus_are_read_through_nvml(
    sysfs: Path, proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(2))
    machine = probe_machine(sysfs=sysfs, proc=proc)
    gpu, link = machine.gpus[1], machine.links[1]
    assert (gpu.name, gpu.description, gpu.free_bytes) == ("CUDA1", "Card 1", 23 * GIB)
    assert (gpu.compute_capability, gpu.driver, gpu.numa_node) == ("9.0", "580.1", 1)
    assert gpu.uuid == "GPU-b123"
    assert (link.pcie_generation, link.pcie_width) == (4, 8)
    assert (link.max_generation, link.max_width) == (5, None)


@pytest.mark.parametrize(
    ("visible", "cards"),
    [("1", ["Card 1"]), ("2,0", ["Card 2", "Card 0"]), ("GPU-b", ["Card 1"]), ("", []), ("-1", [])],
)
def test_visible_devices_choose_and_order_the_gpus(
    visible: str, cards: list[str], sysfs: Path, proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(3))
    machine = probe_machine(visible=visible, sysfs=sysfs, proc=proc)
    assert [gpu.description for gpu in machine.gpus] == cards
    assert "PCI_BUS_ID" in finding(machine, "GPU order")


def test_visible_device_that_is_not_there_is_an_error(
    sysfs: Path, proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(1))
    with pytest.raises(ProbeError, match="names GPU 7, there are 1"):
        probe_machine(visible="7", sysfs=sysfs, proc=proc)


def test_missing_driver_is_a_finding(
    sysfs: Path, proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(1, driver=False))
    assert "no NVIDIA driver" in finding(probe_machine(sysfs=sysfs, proc=proc), "GPUs")


def failing_on(*broken: int, function: str = "nvmlDeviceGetMemoryInfo") -> ModuleType:
    module = fake_nvml(3)
    whole = getattr(module, function)

    def partly(handle: int) -> object:
        if handle in broken:
            raise NVMLError("GPU is lost")
        return whole(handle)

    setattr(module, function, partly)
    return module


@pytest.mark.parametrize("function", ["nvmlDeviceGetMemoryInfo", "nvmlDeviceGetHandleByIndex"])
def test_a_gpu_that_fails_is_left_out_and_named(
    function: str, sysfs: Path, proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", failing_on(1, function=function))
    machine = probe_machine(sysfs=sysfs, proc=proc)
    assert [(gpu.name, gpu.uuid) for gpu in machine.gpus] == [
        ("CUDA0", "GPU-a123"),
        ("CUDA2", "GPU-c123"),
    ]
    assert "GPU is lost" in finding(machine, "CUDA1")


def test_gpus_that_are_not_visible_are_not_asked(
    sysfs: Path, proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = failing_on(0, 1, function="nvmlDeviceGetHandleByIndex")
    monkeypatch.setitem(sys.modules, "pynvml", module)
    for visible in ("2", "GPU-c"):
        machine = probe_machine(visible=visible, sysfs=sysfs, proc=proc)
        assert [(gpu.name, gpu.uuid) for gpu in machine.gpus] == [("CUDA0", "GPU-c123")]
        assert not any("failed" in found.value for found in machine.findings)


def test_a_part_of_a_gpu_is_left_out_with_the_reason(
    sysfs: Path, proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(3))
    machine = probe_machine(visible="0,MIG-abc,1", sysfs=sysfs, proc=proc)
    assert [gpu.uuid for gpu in machine.gpus] == ["GPU-a123"]
    assert "not read" in finding(machine, "MIG-abc")


def test_a_shutdown_that_fails_loses_nothing(
    sysfs: Path, proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = fake_nvml(1)

    def shutdown() -> None:
        raise NVMLError("uninitialized")

    module.nvmlShutdown = shutdown  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert len(probe_machine(sysfs=sysfs, proc=proc).gpus) == 1


def test_this_computer_has_memory_and_cores() -> None:
    machine = probe_machine()
    assert 0 < machine.host.free_bytes <= machine.host.total_bytes
    assert machine.usable_cpus >= 1
    assert machine.physical_cores >= 1


@pytest.mark.parametrize("is_for_cuda", [False, True])
def test_the_host_knows_torchs_build(
    is_for_cuda: bool, sysfs: Path, proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "torch_is_for_cuda", lambda: is_for_cuda)
    assert probe_machine(sysfs=sysfs, proc=proc).host.cuda_torch is is_for_cuda


def test_what_stands_in_for_torch_is_no_cuda_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))  # it has no spec
    assert torch_is_for_cuda() is False


@pytest.mark.parametrize(
    ("text", "is_for_cuda"),
    [
        ("cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", True),
        ("cuda = '12.1'\n", True),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '6.4'\n", False),
        (None, False),
    ],
)
def test_torchs_build_is_told_without_importing_it(
    text: str | None, is_for_cuda: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text is not None:
        write(tmp_path, {"torch/__init__.py": "1 / 0", "torch/version.py": text})
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    importlib.invalidate_caches()
    assert torch_is_for_cuda() is is_for_cuda
