"""Speeds for every machine: measured ones as they are, estimates for what nobody measured."""

from dataclasses import astuple, replace

import pytest

from placement.machines.cards import card_of
from placement.machines.estimates import (
    COPY_SHARE,
    ESTIMATE_ERROR,
    MATMUL_SHARE,
    TOGETHER_SHARE,
    UNKNOWN_CARD_ERROR,
    gpu_estimate,
    host_estimate,
    speeds_from,
    speeds_of,
)
from placement.machines.machine import CPU, Device, DeviceKind, Link, Machine
from placement.machines.speeds import MachineSpeeds

GIB = 1 << 30


def a_gpu(name: str, gib: int = 24, capability: str | None = "8.6") -> Device:
    return Device(
        "CUDA0", DeviceKind.GPU, gib * GIB, gib * GIB, name, compute_capability=capability
    )


def a_machine(*gpus: Device, cpu: str = "AMD EPYC 7763", cores: int = 64) -> Machine:
    host = Device(CPU, DeviceKind.CPU, 512 * GIB, 512 * GIB, cpu)
    named = (replace(gpu, name=f"CUDA{i}") for i, gpu in enumerate(gpus))
    return Machine((host, *named), physical_cores=cores, usable_cpus=cores)


@pytest.mark.parametrize(
    ("name", "gb_s", "tflops"),
    [
        ("NVIDIA GeForce RTX 3090", 936, 71),
        ("NVIDIA GeForce RTX 3090 Ti", 1008, 80),
        ("NVIDIA GeForce RTX 4090", 1008, 165),
        ("NVIDIA GeForce RTX 5090", 1792, 210),
        ("NVIDIA GeForce RTX 3060", 360, 25),
        ("NVIDIA GeForce RTX 4060 Ti", 288, 44),
        ("NVIDIA A100-SXM4-80GB", 2039, 312),
        ("NVIDIA A100-PCIE-40GB", 1555, 312),
        ("NVIDIA A100 80GB PCIe", 1935, 312),
        ("NVIDIA H100 80GB HBM3", 3350, 989),
        ("NVIDIA H100 PCIe", 2000, 756),
        ("NVIDIA H200", 4800, 989),
        ("NVIDIA RTX 6000 Ada Generation", 960, 364),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 1792, 504),
        ("NVIDIA L40S", 864, 362),
        ("NVIDIA RTX A6000", 768, 155),
    ],
)
def test_cards_are_known_by_their_names(name: str, gb_s: float, tflops: float) -> None:
    card = card_of(a_gpu(name))
    assert (card.memory_gb_s, card.tflops) == (gb_s, tflops)
    speeds = speeds_of(a_machine(a_gpu(name))).gpus["CUDA0"]
    assert speeds.copy_gb_s == pytest.approx(COPY_SHARE * gb_s)
    assert speeds.matmul_tflops == pytest.approx(MATMUL_SHARE * tflops)


def test_a_name_within_another_name_is_another_card() -> None:
    assert card_of(a_gpu("NVIDIA A10")).memory_gb_s == 600
    assert card_of(a_gpu("NVIDIA A100")).memory_gb_s == 2039
    assert card_of(a_gpu("NVIDIA L4")).memory_gb_s == 300
    laptop = card_of(a_gpu("NVIDIA GeForce RTX 4090 Laptop GPU", 16, "8.9"))
    assert laptop.memory_gb_s < 600


@pytest.mark.parametrize(
    ("capability", "least", "most"),
    [("8.0", 800, 1600), ("8.6", 400, 800), ("9.0", 500, 3000), ("12.0", 500, 1000)],
)
def test_an_unknown_card_is_judged_by_capability_and_memory(
    capability: str, least: float, most: float
) -> None:
    card = card_of(a_gpu("NVIDIA Wonder 1", 24, capability))
    assert least <= card.memory_gb_s <= most
    smaller = card_of(a_gpu("NVIDIA Wonder 1", 8, capability))
    assert smaller.memory_gb_s < card.memory_gb_s


def test_capabilities_of_the_future_and_odd_ones_have_a_guess_too() -> None:
    for capability in (None, "13.7", "7.5", "nonsense"):
        assert card_of(a_gpu("?", 24, capability)).memory_gb_s > 100


@pytest.mark.parametrize(
    ("link", "gb_s"),
    [
        (Link("CUDA0", 3, 16, 3, 16), 12.5),
        (Link("CUDA0", 4, 16, 4, 16), 25.0),
        (Link("CUDA0", 5, 16, 5, 16), 55.0),
        (Link("CUDA0", 1, 16, 4, 16), 25.0),  # it idles
        (Link("CUDA0", 4, 4, 4, 16), 6.25),  # a slot with four lanes
        (Link("CUDA0", None, None), 25.0),  # the card's own
    ],
)
def test_the_bus_follows_generation_and_lanes(link: Link, gb_s: float) -> None:
    machine = replace(a_machine(a_gpu("NVIDIA GeForce RTX 4090")), links=(link,))
    assert speeds_of(machine).gpus["CUDA0"].to_gpu_gb_s == pytest.approx(gb_s)


def test_all_gpus_together_take_no_more_than_the_ram_gives() -> None:
    machine = a_machine(*[a_gpu("NVIDIA GeForce RTX 3090")] * 16, cpu="Core i9", cores=16)
    speeds = speeds_of(machine)
    together = sum(gpu.together_gb_s for gpu in speeds.gpus.values())
    assert together == pytest.approx(TOGETHER_SHARE * speeds.host.read_gb_s)


@pytest.mark.parametrize(
    ("cpu", "cores", "gb_s"),
    [
        ("AMD EPYC 9554 64-Core Processor", 64, 0.75 * 460.8),
        ("AMD EPYC 7763 64-Core Processor", 64, 0.75 * 204.8),
        ("Intel(R) Xeon(R) Platinum 8480C", 56, 0.75 * 307.2),
        ("AMD Ryzen 9 7950X 16-Core Processor", 16, 0.75 * 83.2),
        ("AMD Ryzen 9 5950X 16-Core Processor", 16, 0.75 * 51.2),
        ("AMD EPYC 9554 64-Core Processor", 2, 20.0),
        ("CPU of unknown name", 1, 10.0),
    ],
)
def test_ram_is_as_fast_as_channels_and_cores_allow(cpu: str, cores: int, gb_s: float) -> None:
    assert host_estimate(a_machine(cpu=cpu, cores=cores)).read_gb_s == pytest.approx(gb_s)


def test_estimates_say_so_and_are_wide() -> None:
    known = speeds_of(a_machine(a_gpu("NVIDIA GeForce RTX 3090")))
    assert (known.source, known.error) == ("estimated", ESTIMATE_ERROR)
    assert speeds_of(a_machine(a_gpu("NVIDIA Wonder 1"))).error == UNKNOWN_CARD_ERROR


def test_measured_speeds_are_taken_as_they_are() -> None:
    machine = a_machine(a_gpu("NVIDIA GeForce RTX 3090"))
    host = replace(host_estimate(machine), read_gb_s=77.0)
    gpu = replace(gpu_estimate(machine, machine.gpus[0], host), copy_gb_s=800.0)
    measured = MachineSpeeds(host, {"CUDA0": gpu}, "measured 2026-11-21", 0.15)
    assert speeds_of(replace(machine, speeds=measured)) == measured


def test_gpus_without_measured_speeds_are_estimated_beside_the_others() -> None:
    machine = a_machine(a_gpu("NVIDIA L4"), a_gpu("NVIDIA L4"))
    all_of = speeds_of(machine)
    partly = MachineSpeeds(all_of.host, {"CUDA0": all_of.gpus["CUDA0"]}, "measured today", 0.15)
    found = speeds_of(replace(machine, speeds=partly))
    assert found.gpus == all_of.gpus
    assert found.source == "measured today; estimated for CUDA1"
    assert found.error == ESTIMATE_ERROR


def test_what_leans_on_a_measured_figure_follows_it() -> None:
    machine = a_machine(a_gpu("NVIDIA GeForce RTX 3090"))
    plain = speeds_of(machine).gpus["CUDA0"]
    figures = {CPU: {}, "CUDA0": {"matmul_tflops": plain.matmul_tflops / 2, "to_gpu_gb_s": 3.0}}
    found = speeds_from(machine, figures, "measured", 0.15).gpus["CUDA0"]
    assert found.attention_tflops == pytest.approx(plain.attention_tflops / 2)
    assert (found.to_host_gb_s, found.together_gb_s) == (3.0, 3.0)
    assert found.copy_gb_s == plain.copy_gb_s


def test_every_figure_of_every_kind_of_gpu_is_above_zero() -> None:
    played = replace(a_gpu("played"), kind=DeviceKind.SIMULATED_GPU)
    for gpu in (a_gpu(""), a_gpu("NVIDIA H200", 140), a_gpu("x", 0, None), played):
        speeds = speeds_of(a_machine(gpu, cores=1))
        assert all(value > 0 for value in astuple(speeds.gpus["CUDA0"]))
        assert all(value > 0 for value in astuple(speeds.host)[:5])
