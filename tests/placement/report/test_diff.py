from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from placement.machines.machine import UNLOADED
from placement.plan import Assignment, PlacementPlan
from placement.planner import plan
from placement.report.diff import ABSENT, Change, diff_plans, diff_text, models_note
from placement.rules import parse_rules
from placement.workload import Workload
from tests.placement.golden_reports import MEASURED
from tests.placement.models import GIB, machine, tiny

WHERE = machine(GIB, GIB)
LOAD = Workload(256, 16)


def planned(*texts: str, load: Workload = LOAD) -> PlacementPlan:
    return plan(tiny(mtp=True), WHERE, parse_rules(texts, WHERE.device_names), load)


def test_equal_plans_are_said_to_be_alike() -> None:
    found = diff_plans(planned(), planned())
    assert (found.asked, found.moves, found.homes) == ((), (), ())
    assert diff_text(found).startswith("the plans place everything alike\n")


def test_moves_are_compressed_and_the_largest_comes_first() -> None:
    found = diff_plans(planned("exps=CPU"), planned("exps=CUDA0,^output\\.=CPU"))
    assert [(move.before, move.after) for move in found.moves][0] == ("CPU", "CUDA0")
    text = diff_text(found)
    assert "blk.1-3.ffn_{gate,up,down}_exps" in text
    sizes = [move.nbytes for move in found.moves]
    assert sizes == sorted(sizes, reverse=True)


def test_only_the_experts_that_moved_are_told() -> None:
    found = diff_plans(planned("exps#0-3=CUDA0,exps=CPU"), planned("exps#2-5=CUDA0,exps=CPU"))
    moves = {(move.experts, move.before, move.after) for move in found.moves}
    assert moves == {((0, 1), "CUDA0", "CPU"), ((4, 5), "CPU", "CUDA0")}
    nbytes = sum(t.nbytes for t in tiny().tensors if "_exps" in t.name)
    assert [move.nbytes for move in found.moves] == [nbytes // 4] * 2


def test_what_was_asked_for_is_compared() -> None:
    before = planned("exps=CPU")
    after = planned("exps=CUDA1", load=replace(LOAD, cache_format="q8_0", context_tokens=512))
    asked = diff_plans(before, after).asked
    assert Change("context tokens", "256", "512") in asked
    assert Change("cache format", "f16", "q8_0") in asked
    assert Change("rule", "exps=CPU", "-") in asked
    assert Change("rule", "-", "exps=CUDA1") in asked


def test_rules_in_another_order_are_a_change() -> None:
    found = diff_plans(planned("exps=CPU,shexp=CPU"), planned("shexp=CPU,exps=CPU"))
    assert [change.what for change in found.asked] == ["order of rules"]


def test_devices_and_speeds_stand_side_by_side() -> None:
    slow = replace(planned(), prediction=MEASURED)
    fast = replace(MEASURED, decode=(replace(MEASURED.decode[0], tokens_per_s=27.0),))
    found = diff_plans(slow, replace(planned("exps=CUDA0"), prediction=fast))
    assert [change.what for change in found.devices] == ["CPU", "CUDA0", "CUDA1"]
    assert found.speeds[0] == Change("decode at 0", "13.9 tok/s", "27.0 tok/s")
    assert found.speeds[1].after == "-"
    assert diff_plans(replace(planned(), prediction=None), slow).speeds == ()


def test_another_models_tensors_are_absent() -> None:
    other = plan(tiny(), WHERE, (), LOAD)
    found = diff_plans(planned(), other)
    assert [(move.before, move.after) for move in found.moves] == [(UNLOADED, ABSENT)]
    assert [change.what for change in found.asked] == ["model bytes"]
    line = diff_text(found).split("\n\n")[1].splitlines()[1]
    assert "  left in the file  not in this model  blk." in line


def test_plans_of_two_models_or_two_files_are_said_to_be() -> None:
    before = planned()
    assert models_note(before, planned("exps=CPU")) is None
    other = models_note(before, replace(before, model="other"))
    assert other is not None
    assert "of different models, tiny (deepseek2, " in other
    assert " and other (deepseek2, " in other
    file = models_note(before, replace(before, model_bytes=3 * GIB))
    assert file is not None
    assert "of different files of one model" in file
    assert "3.0 GiB" in file


def test_experts_that_one_model_has_alone_are_absent_from_the_other() -> None:
    def of(experts: int) -> PlacementPlan:
        half, name = experts // 2, "blk.1.ffn_up_exps.weight"
        ranges = (((0, half - 1), "CUDA0"), ((half, experts - 1), "CPU"))
        parts = [Assignment(name, held, device, 10 * half, None, "") for held, device in ranges]
        return replace(planned(), assignments=tuple(parts))

    moves = diff_plans(of(64), of(256)).moves
    assert {(move.experts, move.before, move.after, move.nbytes) for move in moves} == {
        ((32, 63), "CPU", "CUDA0", 320),
        ((64, 127), ABSENT, "CUDA0", 640),
        ((128, 255), ABSENT, "CPU", 1280),
    }


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 2)), max_size=3))
def test_the_moves_lead_from_one_plan_to_the_other(pieces) -> None:
    texts = [f"exps#{min(a, b)}-{max(a, b)}={WHERE.device_names[d]}" for a, b, d in pieces]
    before, after = planned("exps=CPU"), planned(*texts, "exps=CUDA1")
    held = dict.fromkeys([*WHERE.device_names, UNLOADED], 0)
    for part in before.assignments:
        held[part.device] += part.nbytes
    for move in diff_plans(before, after).moves:
        held[move.before] -= move.nbytes
        held[move.after] += move.nbytes
    for part in after.assignments:
        held[part.device] -= part.nbytes
    assert set(held.values()) == {0}
