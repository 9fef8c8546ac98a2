"""Weights in the file's map: RAM is what it is; what it lacks comes from disc every time."""

import re
from dataclasses import replace

import pytest

from placement.cost.predict import predict
from placement.errors import DoesNotFit, PlanError
from placement.machines.choice import described_machine
from placement.machines.machine import CPU, Machine
from placement.memory.file_map import file_map, with_mapping, without_map
from placement.memory.parts import device_parts, pinned_bytes
from placement.plan import PlacementPlan
from placement.plan_check import check_plan
from placement.plan_json import from_json, to_json
from placement.planner import plan
from placement.report.device_memory import device_memory, device_rows
from placement.report.text import text_report
from placement.units import format_bytes, rate
from placement.workload import Workload
from tests.placement.models import GIB, deepseek_v3

MODEL, MACHINE = deepseek_v3(), described_machine("1x3090-desktop")
LOAD = Workload(8192, kernels="fast", threads=16)
MAPPED = plan(MODEL, MACHINE, (), replace(LOAD, mapped=True))
ROOMY = {CPU: 1024 * GIB}


def test_what_ram_lacks_binds_a_mapped_plan() -> None:
    with pytest.raises(DoesNotFit, match="fit on CPU"):
        plan(MODEL, MACHINE, (), LOAD)
    assert MAPPED.prediction is not None
    pace = MAPPED.prediction.decode[0]
    there = file_map(MAPPED)
    assert there.room_bytes + there.missing_bytes == there.weights_bytes
    # V3's tokens choose 8 of 256 experts; the disc reads 3 GB/s where nobody says otherwise
    chosen = there.missing_share * (there.weights_bytes - 2 * GIB) * 8 / 256
    assert pace.seconds["disc"] == pytest.approx(chosen / 3e9, rel=0.05)
    assert "disc" in MAPPED.prediction.limit
    usual = plan(MODEL, MACHINE, (), LOAD, budgets=ROOMY).prediction
    assert usual is not None
    assert "disc" not in usual.decode[0].seconds
    assert MAPPED.prediction.error > usual.error + 0.2
    assert MAPPED.prediction.prompt[0].seconds["disc"] > 0


def test_a_map_that_ram_keeps_costs_nothing() -> None:
    mapped = plan(MODEL, MACHINE, (), replace(LOAD, mapped=True), budgets=ROOMY)
    copied = plan(MODEL, MACHINE, (), LOAD, budgets=ROOMY)
    assert mapped.prediction == copied.prediction
    assert file_map(mapped).missing_bytes == file_map(copied).missing_bytes == 0
    assert [note for note in mapped.notes if "disc" in note] == []


def test_a_faster_disc_of_a_machine_file_counts() -> None:
    assert MACHINE.speeds is not None
    host = replace(MACHINE.speeds.host, disk_gb_s=6.0)
    faster = replace(MACHINE, speeds=replace(MACHINE.speeds, host=host))
    twice = predict(MAPPED, MODEL, faster).decode[0].seconds["disc"]
    assert MAPPED.prediction is not None
    assert MAPPED.prediction.decode[0].seconds["disc"] == pytest.approx(2 * twice)


@pytest.mark.parametrize(
    ("disk_gb_s", "words"),
    [
        (
            3.0,
            "at 3.0 GB/s for want of a measured speed: a machine's file can give it as"
            " disk_gb_s, under [host.speeds]",
        ),
        (6.0, "at 6.0 GB/s"),
    ],
)
def test_the_disc_speed_that_a_plan_was_made_with_is_told(disk_gb_s: float, words: str) -> None:
    assert MACHINE.speeds is not None
    host = replace(MACHINE.speeds.host, disk_gb_s=disk_gb_s)
    where = replace(MACHINE, speeds=replace(MACHINE.speeds, host=host))
    made = plan(MODEL, where, (), replace(LOAD, mapped=True))
    [note] = [note for note in made.notes if "from disc again" in note]
    assert words in note
    assert ("want of" in note) == ("want of" in words)


def advice(made: PlacementPlan) -> list[str]:
    return [note for note in made.notes if note.startswith("prompts read them from disc")]


def test_a_longer_micro_batch_is_proposed_with_what_it_gives() -> None:
    [note] = advice(MAPPED)
    assert "with -ub 4096 about " in note
    longer = plan(MODEL, MACHINE, (), replace(LOAD, mapped=True, ubatch_tokens=4096))
    assert longer.prediction is not None
    then = longer.prediction.prompt[0].tokens_per_s
    assert f"about {rate(then)} tok/s instead of " in note
    assert MAPPED.prediction is not None
    assert then > 3 * MAPPED.prediction.prompt[0].tokens_per_s
    assert advice(longer) == []


def test_no_micro_batch_is_proposed_that_the_context_does_not_hold_or_that_gives_little() -> None:
    short = replace(LOAD, mapped=True, context_tokens=2100)
    [note] = advice(plan(MODEL, MACHINE, (), short))
    assert "with -ub 2048 " in note
    assert advice(plan(MODEL, MACHINE, (), replace(short, context_tokens=600))) == []
    assert advice(plan(MODEL, MACHINE, (), replace(short, ubatch_tokens=2048))) == []
    assert advice(plan(MODEL, MACHINE, (), short, budgets=ROOMY)) == []
    assert MACHINE.speeds is not None
    host = replace(MACHINE.speeds.host, disk_gb_s=1e6)
    swift = replace(MACHINE, speeds=replace(MACHINE.speeds, host=host))
    little = replace(swift, devices=swift.devices[:1])
    assert advice(plan(MODEL, little, (), short)) == []


def test_the_report_shows_the_ram_that_is_there_and_what_lacks() -> None:
    heads, row, *_ = device_rows(device_memory(MAPPED, MODEL, MACHINE))
    shown = dict(zip(heads, row, strict=True))
    assert shown["budget"] == "124.0 GiB"
    assert float(shown["mapped"]) == pytest.approx(file_map(MAPPED).weights_bytes / GIB, abs=0.01)
    assert "headroom" not in shown
    own = MAPPED.devices[0].total_bytes - file_map(MAPPED).weights_bytes
    assert shown["headroom without map"] == format_bytes(MACHINE.host.free_bytes - own)
    text = " ".join(text_report(MAPPED, MODEL, MACHINE).split())
    assert "of weights in RAM do not fit it: they come from disc again and again" in text
    assert without_map(MAPPED, MAPPED.devices[0]).budget_bytes == MACHINE.host.free_bytes


@pytest.mark.parametrize("where", [MACHINE, replace(MACHINE, devices=MACHINE.devices[:1])])
def test_what_is_not_mapped_has_to_fit_ram_and_is_all_that_is_asked_for(where: Machine) -> None:
    def planned(ram_bytes: int) -> PlacementPlan:
        return plan(MODEL, where, (), replace(LOAD, mapped=True), budgets={CPU: ram_bytes})

    with pytest.raises(DoesNotFit, match="fit on CPU") as raised:
        planned(GIB // 4)
    [needed] = re.findall(r"CPU needs (\S+) GiB \(cache .*budget 256.0 MiB", str(raised.value))
    [flag, *_] = raised.value.remedies
    [mib] = re.findall(r"^--ram (\d+)MiB", flag)
    assert int(mib) / 1024 == pytest.approx(float(needed), abs=0.06)
    assert "quantised" not in str(raised.value)
    roomy = planned(int(mib) << 20)
    assert without_map(roomy, roomy.devices[0]).total_bytes <= int(mib) << 20


def test_no_weights_in_the_map_are_pinned() -> None:
    copied = plan(MODEL, MACHINE, (), LOAD, budgets=ROOMY)
    assert pinned_bytes(copied, device_parts(copied, MODEL, MACHINE)) > 300 * GIB
    assert 0 < pinned_bytes(MAPPED, device_parts(MAPPED, MODEL, MACHINE)) < GIB


def test_a_saved_plan_goes_with_or_without_the_map() -> None:
    read = from_json(to_json(MAPPED))
    assert read == MAPPED
    check_plan(read, MODEL, MACHINE)
    with pytest.raises(PlanError, match="RAM has no room") as raised:
        with_mapping(read, mapped=False)
    assert "--mmap" in raised.value.remedies
    copied = plan(MODEL, MACHINE, (), LOAD, budgets=ROOMY)
    again = with_mapping(with_mapping(copied, mapped=True), mapped=False)
    assert again == copied
    old = to_json(copied)
    del old["workload"]["mapped"]
    assert from_json(old) == copied
