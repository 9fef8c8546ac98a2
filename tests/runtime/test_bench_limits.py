"""What memories allow a decoded token."""

from dataclasses import replace

import pytest

from hybrid.runtime.bench_limits import RAM, ReadLimit, TokenReads, read_limit, token_reads
from hybrid.runtime.options import LoadOptions
from hybrid.runtime.prepare import prepare
from placement.cost.traffic import PCIE
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


def with_speeds(machine, **copy_gb_s):
    """The machine with these GPUs, their copies measured."""
    host, card = machine.devices
    speeds = speeds_of(machine)
    gpus = {name: replace(speeds.gpus["CUDA0"], copy_gb_s=gb_s) for name, gb_s in copy_gb_s.items()}
    devices = (host, *(replace(card, name=name) for name in copy_gb_s))
    return replace(machine, devices=devices, speeds=replace(speeds, gpus=gpus))


def of_stages(*stages):
    return TokenReads({}, stages)


def test_stages_wait_for_one_another(with_card):
    machine = with_speeds(with_card, CUDA0=2.0, CUDA1=4.0)
    reads = of_stages({"CUDA0": 10**9}, {"CUDA1": 10**9}, {RAM: 10**9})
    assert read_limit(reads, machine, 1.0) == ReadLimit(1 / (0.5 + 0.25 + 1.0), "RAM, CUDA0-1")


def test_memories_of_one_stage_are_read_side_by_side(with_card):
    machine = with_speeds(with_card, CUDA0=2.0)
    reads = of_stages({"CUDA0": 10**9}, {"CUDA0": 10**9, RAM: 10**9})
    assert read_limit(reads, machine, 1.0) == ReadLimit(1 / 1.5, "RAM, CUDA0")
    assert read_limit(reads, machine, 4.0) == ReadLimit(1 / 1.0, "CUDA0")


def test_a_memory_that_hardly_matters_is_not_named(with_card):
    machine = with_speeds(with_card, CUDA0=1.0)
    for ram_bytes, memory in ((10**7, "CUDA0"), (10**8, "RAM, CUDA0")):
        reads = of_stages({RAM: ram_bytes}, {"CUDA0": 10**9})
        assert read_limit(reads, machine, 1.0).memory == memory


def test_many_cards_matter_together(with_card):
    names = [f"CUDA{number}" for number in range(16)]
    machine = with_speeds(with_card, **dict.fromkeys(names, 1.0))
    reads = of_stages({RAM: 10**9}, *({name: 10**7} for name in names))
    assert read_limit(reads, machine, 1.0).text() == "RAM, CUDA0-15"
    speeds = replace(machine.speeds, gpus={"CUDA0": machine.speeds.gpus["CUDA0"]})
    in_part = replace(machine, speeds=speeds)
    assert read_limit(reads, in_part, 1.0).text() == "RAM, CUDA0-15 (estimated)"


def test_a_cache_in_ram_comes_to_a_card_over_its_bus(prepared, with_card):
    machine = with_speeds(with_card, CUDA0=1000.0)
    load = replace(prepared.plan.workload, cache_in_ram=True)
    in_ram = replace(prepared.plan, workload=load)
    reads = token_reads(in_ram, prepared.inventory, machine, 30)
    beside = token_reads(prepared.plan, prepared.inventory, machine, 30)
    assert reads.by_memory[PCIE] == reads.ram_bytes - beside.ram_bytes > 0
    bus_gb_s = machine.speeds.gpus["CUDA0"].to_gpu_gb_s
    alone = of_stages(*({PCIE: stage[PCIE]} for stage in reads.stages if PCIE in stage))
    assert read_limit(alone, machine, 1e-6).tok_s == pytest.approx(
        bus_gb_s * 1e9 / reads.by_memory[PCIE]
    )
    simulated = token_reads(in_ram, prepared.inventory, prepared.machine, 30)
    assert set(simulated.by_memory) == {RAM}


def test_a_card_that_nobody_measured_is_estimated_where_it_matters(prepared, with_card):
    reads = token_reads(prepared.plan, prepared.inventory, with_card, 5)
    limit = read_limit(reads, with_card, 1e9)
    assert limit.text() == "CUDA0 (estimated)"
    measured = read_limit(reads, with_speeds(with_card, CUDA0=7.0), 1e9)
    assert measured.text() == "CUDA0"
    ram = read_limit(reads, with_card, 0.001)
    assert ram.text() == "RAM"


def test_a_whole_token_waits_for_attention_on_the_card_and_experts_in_ram(prepared, with_card):
    reads = token_reads(prepared.plan, prepared.inventory, with_card, 5)
    machine = with_speeds(with_card, CUDA0=1.0)
    apart_s = sum(nbytes for nbytes in reads.by_memory.values()) / 1e9
    alone_s = max(reads.by_memory.values()) / 1e9
    limit = read_limit(reads, machine, 1.0)
    assert alone_s < 1 / limit.tok_s < apart_s, "shared experts are read beside those in RAM"
    assert limit.memory == "RAM, CUDA0"


def test_a_memory_that_is_not_read_is_no_limit(with_card):
    assert read_limit(of_stages({RAM: 0}, {}), with_card, 40.0) is None
    assert read_limit(of_stages({RAM: 0}, {"CUDA0": 1}), with_card, 40.0).memory == "CUDA0"
