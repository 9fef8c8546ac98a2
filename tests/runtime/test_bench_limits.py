"""Which memory binds decoding, and what it allows."""

from dataclasses import replace

import pytest

from hybrid.runtime.bench_limits import RAM, ReadLimit, read_limit, token_reads
from hybrid.runtime.options import LoadOptions
from hybrid.runtime.prepare import prepare
from placement.machines.estimates import speeds_of
from placement.machines.machine import DeviceKind

MIB = 1 << 20


@pytest.fixture(scope="module")
def prepared():
    """Experts in RAM, the rest on a simulated GPU."""
    options = LoadOptions(simulate={"CUDA0": 64 * MIB}, rules=("exps=CPU",), context=32)
    return prepare("demo", options)


@pytest.fixture(scope="module")
def with_card(prepared):
    """The same machine, as if its GPU were there."""
    host, gpu = prepared.machine.devices
    return replace(prepared.machine, devices=(host, replace(gpu, kind=DeviceKind.GPU)))


def test_a_simulated_gpu_reads_ram_and_a_card_its_own_memory(prepared, with_card):
    known = (prepared.plan, prepared.inventory)
    simulated = token_reads(*known, prepared.machine, 5)
    card = token_reads(*known, with_card, 5)
    assert simulated.by_device == card.by_device
    assert min(card.by_device.values()) > 0
    assert simulated.by_memory == {RAM: sum(card.by_device.values())}
    assert card.by_memory == {RAM: card.by_device["CPU"], "CUDA0": card.by_device["CUDA0"]}
    assert card.ram_bytes == card.by_device["CPU"]


def test_the_slowest_memory_is_the_limit(prepared, with_card):
    reads = token_reads(prepared.plan, prepared.inventory, with_card, 5)
    copy_gb_s = speeds_of(with_card).gpus["CUDA0"].copy_gb_s
    card = ReadLimit(copy_gb_s * 1e9 / reads.by_memory["CUDA0"], "CUDA0", is_measured=False)
    ram = ReadLimit(1e9 / reads.ram_bytes, RAM)
    assert read_limit(reads, with_card, 1e9) == card
    assert read_limit(reads, with_card, 1.0) == min(ram, card, key=lambda limit: limit.tok_s)


def test_the_speed_of_a_card_that_was_measured_is_known_for_sure(prepared, with_card):
    reads = token_reads(prepared.plan, prepared.inventory, with_card, 5)
    speeds = speeds_of(with_card)
    known = {"CUDA0": replace(speeds.gpus["CUDA0"], copy_gb_s=7.0)}
    machine = replace(with_card, speeds=replace(speeds, gpus=known))
    limit = read_limit(reads, machine, 1e9)
    assert limit == ReadLimit(7e9 / reads.by_memory["CUDA0"], "CUDA0")
    assert limit.text() == "CUDA0"
    assert replace(limit, is_measured=False).text() == "CUDA0 (estimated)"


def test_a_memory_that_is_not_read_is_no_limit(prepared, with_card):
    reads = token_reads(prepared.plan, prepared.inventory, with_card, 5)
    assert read_limit(replace(reads, by_memory={RAM: 0}), with_card, 40.0) is None
    alone = read_limit(replace(reads, by_memory={RAM: 0, "CUDA0": 1}), with_card, 40.0)
    assert alone.memory == "CUDA0"
