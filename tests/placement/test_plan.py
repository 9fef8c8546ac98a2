import copy
import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placement.errors import PlanError
from placement.plan import PlacementPlan
from placement.plan_check import check_plan
from placement.plan_json import from_json, to_json
from placement.planner import plan
from placement.rules import n_cpu_moe_rules, parse_rules
from placement.units import flag_bytes
from placement.workload import Workload
from tests.placement.models import GIB, MIB, machine, tiny

WHERE = machine(GIB, GIB)
INVENTORY = tiny(mtp=True)
RULES = (
    *parse_rules([r"blk\.1\..*exps#0-3=CUDA0", "dead=CPU"], WHERE.device_names),
    *n_cpu_moe_rules(2, 4, has_gpu=True),
)
PLAN = plan(INVENTORY, WHERE, RULES, Workload(256, 16), shares=(1, 1))


def damaged(path: str, value: object) -> dict[str, Any]:
    document = copy.deepcopy(to_json(PLAN))
    *parents, last = path.split(".")
    place: Any = document
    for key in parents:
        place = place[int(key)] if key.isdecimal() else place[key]
    place[int(last) if last.isdecimal() else last] = value
    return document


def test_a_plan_survives_json() -> None:
    assert from_json(json.loads(json.dumps(to_json(PLAN)))) == PLAN


def test_a_plan_that_nobody_predicted_survives_json() -> None:
    silent = replace(PLAN, prediction=None)
    assert PLAN.prediction is not None
    assert from_json(json.loads(json.dumps(to_json(silent)))) == silent


def test_a_plan_with_its_cache_in_ram_survives_json() -> None:
    made = plan(INVENTORY, WHERE, RULES, Workload(256, 16, cache_in_ram=True))
    assert from_json(json.loads(json.dumps(to_json(made)))) == made
    check_plan(made, INVENTORY, WHERE)


def test_a_plan_without_a_word_on_its_cache_keeps_it_with_the_layers() -> None:
    document = to_json(PLAN)
    del document["workload"]["cache_in_ram"]
    assert from_json(document) == PLAN


def test_a_plan_with_its_cache_on_gpus_is_no_plan_for_one_in_ram() -> None:
    in_ram = replace(PLAN, workload=replace(PLAN.workload, cache_in_ram=True))
    with pytest.raises(PlanError, match="cache bytes on CPU are too few"):
        check_plan(in_ram, INVENTORY, WHERE)


def test_json_has_the_keys_that_other_programs_read() -> None:
    document = to_json(PLAN)
    assert set(document["assignments"][0]) == {
        "tensor",
        "experts",
        "device",
        "bytes",
        "rule",
        "reason",
    }
    assert set(document["devices"][0]) == {
        "name",
        "budget_bytes",
        "weights_bytes",
        "cache_bytes",
        "compute_bytes",
        "other_bytes",
        "simulated",
        "total_bytes",
    }
    assert {"rules", "workload", "prediction", "model", "version", "layers"} <= set(document)


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("version", 7, "version 7"),
        ("version", True, "version must be a whole number"),
        ("model", [], "model must be an object"),
        ("assignments", {}, "assignments must be a list"),
        ("assignments.2.bytes", -1, r"assignments\[2\]\.bytes"),
        ("assignments.2.bytes", 1.5, r"assignments\[2\]\.bytes"),
        ("assignments.2.experts", [3, 1], r"assignments\[2\]\.experts"),
        ("assignments.2.experts", [1], r"assignments\[2\]\.experts"),
        ("assignments.2.rule", 99, r"assignments\[2\]\.rule"),
        ("assignments.2.device", None, r"assignments\[2\]\.device"),
        ("devices.0.total_bytes", 5, r"devices\[0\]\.total_bytes must be the sum"),
        ("rules.0.pattern", "ex(ps", r"rules\[0\]\.pattern"),
        ("rules.0.role", "cook", r"rules\[0\]\.role"),
        ("workload.cache_format", "q1", "cache format"),
        ("workload.context_tokens", 0, "context"),
        ("workload.cache_in_ram", 1, r"workload\.cache_in_ram must be true or false"),
        ("layers.0", 3, r"layers\[0\]"),
        ("prediction.error", True, r"prediction\.error must be a number"),
        ("prediction.error", float("nan"), r"prediction\.error must be a number, not negative"),
        ("prediction.decode.0.seconds.host", "1", r"decode\[0\]\.seconds\.host must be a number"),
        ("prediction.prompt.0.depth", -1, r"prompt\[0\]\.depth"),
    ],
)
def test_wrong_field_is_named(path: str, value: object, field: str) -> None:
    with pytest.raises(PlanError, match=field):
        from_json(damaged(path, value))


@pytest.mark.parametrize("value", [None, [], "plan", 3, {}, {"version": 1}, {"version": 10**30}])
def test_foreign_json_is_not_a_plan(value: object) -> None:
    with pytest.raises(PlanError, match=r"not a plan"):
        from_json(value)


@pytest.mark.parametrize("key", list(to_json(PLAN)))
def test_missing_field_is_named(key: str) -> None:
    document = to_json(PLAN)
    del document[key]
    if key in ("prediction", "machine"):
        assert from_json(document) == (
            replace(PLAN, prediction=None) if key == "prediction" else PLAN
        )
        return
    with pytest.raises(PlanError, match=f"the field {key} is missing"):
        from_json(document)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@given(
    st.sampled_from(["model", "workload", "rules.0", "devices.1", "assignments.3", "prediction"]),
    JSON,
)
def test_any_damage_is_a_plan_error(path: str, value: object) -> None:
    with suppress(PlanError):
        assert isinstance(from_json(damaged(path, value)), PlacementPlan)


def changed(**changes: object) -> PlacementPlan:
    first = replace(PLAN.assignments[0], **changes)  # type: ignore[arg-type]
    return replace(PLAN, assignments=(first, *PLAN.assignments[1:]))


def used(index: int, **changes: int) -> PlacementPlan:
    devices = list(PLAN.devices)
    devices[index] = replace(devices[index], **changes)
    return replace(PLAN, devices=tuple(devices))


def test_the_plan_of_this_file_and_machine_passes() -> None:
    check_plan(PLAN, INVENTORY, WHERE)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (changed(tensor="other"), "does not place token_embd"),
        (changed(nbytes=5), "another file"),
        (changed(device="none"), "another file"),
        (changed(device="CUDA5"), "CUDA5, which is not here"),
        (changed(device="CUDA0"), "do not add up"),
        (changed(experts=(0, 3)), "another file"),
        (replace(PLAN, assignments=PLAN.assignments[1:]), "another file"),
        (replace(PLAN, assignments=PLAN.assignments * 2), "another file"),
        (replace(PLAN, layers=("CPU",)), "another file"),
        (replace(PLAN, devices=PLAN.devices[:1]), "no entry"),
        (replace(PLAN, devices=PLAN.devices[1:]), "no entry"),
        (replace(PLAN, layers=("none", *PLAN.layers[1:])), "layer 0 no device"),
        (replace(PLAN, devices=(*PLAN.devices, PLAN.devices[0])), "lists CPU twice"),
        (used(1, cache_bytes=0), "cache bytes on CUDA0 are too few"),
        (used(1, compute_bytes=0), "compute bytes on CUDA0 are too few"),
        (used(1, budget_bytes=5), "exceed its own budget"),
        (replace(PLAN, workload=replace(PLAN.workload, ubatch_tokens=1 << 31)), "compute bytes"),
        (
            replace(PLAN, workload=replace(PLAN.workload, context_tokens=512)),
            "bytes on CUDA0 are too few",
        ),
    ],
)
def test_a_plan_that_does_not_match_is_refused(plan: PlacementPlan, words: str) -> None:
    with pytest.raises(PlanError) as error:
        check_plan(plan, INVENTORY, WHERE)
    assert words in str(error.value)


def test_a_plan_of_another_machine_names_it_and_each_way_once() -> None:
    made = replace(from_json(to_json(PLAN)), machine="2x3090-256g")
    assert from_json(to_json(made)) == made
    with pytest.raises(PlanError, match="CUDA0, which is not here") as raised:
        check_plan(made, INVENTORY, machine())
    remedies = raised.value.remedies
    assert "--machine 2x3090-256g" in remedies[0]
    budgets = [flag_bytes(use.budget_bytes) for use in PLAN.devices[1:]]
    (simulated,) = [remedy for remedy in remedies if "--simulate" in remedy]
    assert f"CUDA0={budgets[0]},CUDA1={budgets[1]}" in simulated
    with pytest.raises(PlanError) as raised:
        check_plan(replace(made, machine=""), INVENTORY, machine())
    assert raised.value.remedies == (simulated,)


def test_another_models_plan_is_told_as_such_whatever_the_machine() -> None:
    other = replace(PLAN, layers=(*PLAN.layers, "CUDA0"))
    with pytest.raises(PlanError, match="made for another file"):
        check_plan(other, INVENTORY, machine())


def test_a_plan_for_more_memory_than_is_free_is_refused() -> None:
    with pytest.raises(PlanError, match="more than is free on CUDA0"):
        check_plan(PLAN, INVENTORY, machine(MIB // 4, GIB))
