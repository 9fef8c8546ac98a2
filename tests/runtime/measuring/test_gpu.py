"""GPUs' figures: arithmetic and order of measuring with played GPUs, all of it on hardware."""

import contextlib
from collections.abc import Callable
from time import perf_counter
from typing import Any

import pytest
import torch

from hybrid.errors import MachineError
from hybrid.runtime.gpu.replay import EmulatedReplay
from hybrid.runtime.measuring import crossings, gpu, gpu_time
from hybrid.runtime.measuring.machine import measure_machine
from hybrid.runtime.measuring.readings import Readings
from kernels.errors import GpuSilent
from kernels.mailbox import publish
from placement.machines.cpus import choose_cpus
from placement.machines.estimates import speeds_from
from placement.machines.machine import Device, DeviceKind
from placement.machines.probe import probe_machine
from placement.machines.speeds import GpuSpeeds, HostSpeeds
from placement.machines.speeds_table import MOST_SHARE, figure_names

GIB = 1 << 30
CPU_PLACE = torch.device("cpu")


def a_gpu(number: int) -> Device:
    return Device(f"CUDA{number}", DeviceKind.GPU, 24 * GIB, 23 * GIB, "played")


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPUs that are this CPU, and figures that are made up."""
    monkeypatch.setattr(gpu, "cuda_device", lambda _: CPU_PLACE)
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(gpu, "wake", lambda _: None)
    monkeypatch.setattr(gpu, "copy_gb_s", lambda _: 4000.0)
    monkeypatch.setattr(gpu, "_product_us", lambda *_: (40_000_000, 20.0))
    monkeypatch.setattr(gpu, "block_figures", lambda *_: {"block_us": 25.0, "cache_share": 0.5})
    figures = {"token_us": 250.0, "prompt_block_us": 2000.0}
    monkeypatch.setattr(gpu, "demo_figures", lambda _: figures)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (22 * GIB, 24 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: GIB // 4)
    monkeypatch.setattr(gpu, "matmul_tflops", lambda _: 700.0)
    monkeypatch.setattr(gpu, "bus_gb_s", lambda _: (50.0, 49.0))
    monkeypatch.setattr(gpu, "crossing_us", lambda _: 9.0)
    monkeypatch.setattr(gpu, "handover_us", lambda *_: 30.0)
    monkeypatch.setattr(gpu, "together_gb_s", lambda places: [20.0] * len(places))


def measured(*gpus: Device) -> Readings:
    readings = Readings(lambda _: None)
    gpu.measure_gpus(gpus, readings)
    return readings


def test_figures_of_one_gpu(played: None) -> None:
    readings = measured(a_gpu(0))
    assert readings.faults == []
    assert readings.figures["CPU"] == {"token_us": 250.0}
    assert readings.figures["CUDA0"] == pytest.approx(
        {
            "copy_gb_s": 4000.0,
            "product_share": 0.5,
            "block_us": 25.0,
            "cache_share": 0.5,
            "prompt_block_us": 2000.0,
            "context_mib": 0.75 * 1024 + gpu.MODELS_MIB,
            "matmul_tflops": 700.0,
            "to_gpu_gb_s": 50.0,
            "to_host_gb_s": 49.0,
            "together_gb_s": 50.0,
            "crossing_us": 9.0,
            "handover_us": 30.0,
        }
    )


def test_a_context_that_was_open_before_says_nothing_of_its_bytes(
    played: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert "context_mib" not in measured(a_gpu(0)).figures["CUDA0"]


def test_several_gpus_are_also_measured_together(played: None) -> None:
    readings = measured(a_gpu(0), a_gpu(1))
    together = [readings.figures[name]["together_gb_s"] for name in ("CUDA0", "CUDA1")]
    assert together == [20.0, 20.0]


def test_every_figure_that_is_measured_is_one_of_a_gpus_speeds(played: None) -> None:
    readings = measured(a_gpu(0))
    assert set(readings.figures["CUDA0"]) < set(figure_names(GpuSpeeds))
    assert set(readings.figures["CPU"]) < set(figure_names(HostSpeeds))


@pytest.mark.parametrize(
    ("part", "error", "lost"),
    [
        ("copy_gb_s", RuntimeError("CUDA error: out of memory"), {"copy_gb_s"}),
        ("crossing_us", GpuSilent("GPU 0 did not come; try again"), {"crossing_us"}),
        ("bus_gb_s", OSError("no pinned memory"), {"to_gpu_gb_s", "to_host_gb_s"}),
        ("_product_us", ImportError("no NVRTC"), {"product_share", "block_us", "cache_share"}),
        ("block_figures", RuntimeError("no room"), {"block_us", "cache_share"}),
        ("demo_figures", MachineError("no demo", remedy="a file"), {"prompt_block_us"}),
    ],
)
def test_a_part_that_fails_is_one_line(
    played: None, monkeypatch: pytest.MonkeyPatch, part: str, error: Exception, lost: set[str]
) -> None:
    whole = set(measured(a_gpu(0)).figures["CUDA0"])

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(gpu, part, fail)
    readings = measured(a_gpu(0))
    assert len(readings.faults) == 1
    assert readings.faults[0].startswith("CUDA0: ")
    assert "\n" not in readings.faults[0]
    assert not lost & set(readings.figures["CUDA0"])
    assert "matmul_tflops" in whole & set(readings.figures["CUDA0"])


def test_a_gpu_that_cannot_be_opened_leaves_the_others(
    played: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_one(device: Device) -> torch.device:
        if device.name == "CUDA0":
            raise MachineError("torch cannot reach CUDA0", remedy="another torch")
        return CPU_PLACE

    monkeypatch.setattr(gpu, "cuda_device", open_one)
    readings = measured(a_gpu(0), a_gpu(1))
    assert len(readings.faults) == 1
    assert "torch cannot reach CUDA0" in readings.faults[0]
    assert set(readings.figures) == {"CUDA1", "CPU"}


def test_a_share_is_one_that_a_profile_takes(played: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_product_us", lambda *_: (38_000_000, 4.1))
    assert measured(a_gpu(0)).figures["CUDA0"]["product_share"] == MOST_SHARE


def test_rates_come_from_bytes_and_microseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Callable[[], object]] = []

    def queued(queue: Callable[[], object], *_: object) -> float:
        queue()
        calls.append(queue)
        return 100.0

    monkeypatch.setattr(gpu, "queued_us", queued)
    monkeypatch.setattr(gpu, "pinned", lambda nbytes: torch.zeros(nbytes, dtype=torch.uint8))
    monkeypatch.setattr(gpu, "COPY_BYTES", 1000)
    monkeypatch.setattr(gpu, "BUS_BYTES", 2000)
    monkeypatch.setattr(gpu, "SIDE", 32)
    assert gpu.copy_gb_s(CPU_PLACE) == pytest.approx(2 * 1000 / 100e-6 / 1e9)
    assert gpu.bus_gb_s(CPU_PLACE) == pytest.approx((0.02, 0.02))
    assert gpu.matmul_tflops(CPU_PLACE) == pytest.approx(2 * 32**3 / 100e-6 / 1e12)
    assert len(calls) == 4
    monkeypatch.setattr(gpu, "together_s", lambda places, copies, n: [0.001 * n for _ in places])
    rates = gpu.together_gb_s([CPU_PLACE, CPU_PLACE])
    assert rates == pytest.approx([2000 / 0.001 / 1e9] * 2)


def test_products_are_timed_over_matrices_that_no_cache_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launched: list[int] = []

    def graph(launches: Callable[[], None], _: torch.device) -> float:
        launches()
        return 12.0

    def product(x: torch.Tensor, products: list[gpu.Product], tokens: int) -> None:
        launched.append(products[0].weight.data.data_ptr())

    monkeypatch.setattr(gpu, "graph_us", graph)
    monkeypatch.setattr(gpu, "matvec", product)
    monkeypatch.setattr(gpu, "COLD_BYTES", 100_000)
    nbytes, us = gpu._product_us(CPU_PLACE, 64, 256)
    assert nbytes == 64 * 8 * 34
    assert len(set(launched)) == len(launched) == 6
    assert us == pytest.approx(12.0 / 6)


def test_random_blocks_are_finite_weights() -> None:
    weight = gpu.random_blocks(4, 512, CPU_PLACE)
    halves = weight.blocks.view(-1, 34)[:, :2].contiguous().view(torch.float16)
    assert halves.unique().tolist() == pytest.approx([0.01], rel=1e-3)


def test_a_crossing_is_served_with_nothing_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    replays: list[EmulatedReplay] = []
    published = 0

    class Span:
        """Each crossing takes 3 microseconds."""

        def __init__(self, _: torch.device) -> None:
            self.before = 0

        def begin(self) -> None:
            self.before = published

        def end(self) -> None: ...

        def us(self) -> float:
            return 3.0 * (published - self.before)

    def counted(*given: Any) -> None:
        nonlocal published
        published += 1
        publish(*given)

    def emulated(
        _: torch.device, launches: Callable[[], None], rehearsal: Callable[[], None]
    ) -> EmulatedReplay:
        rehearsal()  # hangs for its limit unless nobody has to answer
        replays.append(EmulatedReplay(launches))
        return replays[-1]

    def ended(_: torch.device) -> None:
        for replay in replays:
            replay.wait()

    monkeypatch.setattr(crossings, "GraphReplay", emulated)
    monkeypatch.setattr(crossings, "Span", Span)
    monkeypatch.setattr(crossings, "publish", counted)
    monkeypatch.setattr(crossings, "SERVICE_LIMIT_S", 60.0)
    monkeypatch.setattr(crossings, "GPU_LIMIT_S", 60.0)
    monkeypatch.setattr(crossings, "pinned", aligned)
    monkeypatch.setattr(crossings, "CROSSINGS", 16)
    monkeypatch.setattr(crossings, "WIDTH", 64)
    monkeypatch.setattr(torch.cuda, "synchronize", ended)
    began = perf_counter()
    assert crossings.crossing_us(CPU_PLACE) == 3.0
    assert perf_counter() - began < 30, "the rehearsal waited for an answer"


def test_a_row_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossings, "pinned", aligned)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    assert 0 < crossings.handover_us(CPU_PLACE, CPU_PLACE) < 1e5


def aligned(nbytes: int) -> torch.Tensor:
    """On a multiple of 128 bytes, as pinned memory is."""
    whole = torch.zeros(nbytes + 128, dtype=torch.uint8)
    first = -whole.data_ptr() % 128
    return whole[first : first + nbytes]


@pytest.mark.gpu
@pytest.mark.alone
def test_every_figure_of_this_machine_is_measured_on_hardware() -> None:
    machine = probe_machine()
    began = perf_counter()
    readings = measure_machine(machine, choose_cpus(), lambda _: None)
    seconds = perf_counter() - began
    assert readings.faults == []
    assert set(speeds_from(machine, readings.figures, "measured", 0.15).gpus) == {
        gpu.name for gpu in machine.gpus
    }
    # other tests have opened CUDA in this process
    expected = set(figure_names(GpuSpeeds)) - {"attention_tflops", "context_mib"}
    for device in machine.gpus:
        figures = readings.figures[device.name]
        assert set(figures) - {"context_mib"} == expected
        assert 100 < figures["copy_gb_s"] < 20_000
        assert 0.1 < figures["product_share"] < 1.2
        assert 1 < figures["to_gpu_gb_s"] < 250
        assert figures["together_gb_s"] < 1.2 * figures["to_gpu_gb_s"]
        assert 1 < figures["crossing_us"] < 200
        assert 2 < figures["block_us"] < 400
        assert 0.05 < figures["cache_share"] < 1.2
        assert 100 < figures["prompt_block_us"] < 50_000
    assert seconds < 30 * max(len(machine.gpus), 1)


@pytest.mark.gpu
@pytest.mark.alone
def test_a_graph_takes_as_long_as_its_launches() -> None:
    place = torch.device("cuda", 0)
    x = torch.ones(1 << 24, device=place)
    one = gpu_time.graph_us(lambda: x.mul_(1.0), place)
    ten = gpu_time.graph_us(lambda: [x.mul_(1.0) for _ in range(10)] and None, place)
    assert 5 < ten / one < 15
