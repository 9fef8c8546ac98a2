from dataclasses import replace

import pytest

from placement.errors import RequestError
from placement.machines.choice import described_machine
from placement.plan import PlacementPlan
from placement.planner import plan
from placement.prediction import Pace, Prediction
from placement.report.explain import MOST_TIMED, Explanation, explain, explanation_text
from placement.rules import parse_rules
from placement.units import format_bytes
from placement.workload import Workload
from tests.placement.golden_reports import slower_in_ram
from tests.placement.models import GIB, MIB, TINY, deepseek_v3, machine, model, tiny

LOAD = Workload(256, 16, attention_work_bytes=MIB // 4, kernels="fast")


def planned(*texts: str, gpu_bytes: int = GIB) -> PlacementPlan:
    where = machine(gpu_bytes, gpu_bytes)
    return plan(tiny(mtp=True), where, parse_rules(texts, where.device_names), LOAD)


def only(made: PlacementPlan, pattern: str) -> Explanation:
    (one,) = explain(made, tiny(mtp=True), pattern)
    return one


def test_the_rule_that_has_a_tensor_and_those_that_come_too_late_are_named() -> None:
    made = planned(r"blk\.3\.=CUDA1", "up_exps=CUDA0", "exps=CPU")
    one = only(made, r"blk\.3\.ffn_up_exps")
    assert (one.device, one.rule, one.later) == ("CUDA1", 0, (1, 2))
    assert one.reason == r"rule 1: blk\.3\.=CUDA1"
    text = explanation_text(made, [one])
    assert "too late   rule 2: up_exps=CUDA0\ntoo late   rule 3: exps=CPU\n" in text


def test_tensors_alike_in_many_blocks_are_one_group_with_their_bytes() -> None:
    made = planned("exps=CPU")
    one = only(made, "_exps")
    experts = [t for t in tiny().tensors if "_exps" in t.name]
    assert one.names == tuple(t.name for t in experts)
    assert one.nbytes == sum(t.nbytes for t in experts)
    assert "blk.1-3.ffn_{gate,up,down}_exps" in explanation_text(made, [one])


def test_reasons_of_the_planner_are_told_once_for_all_blocks() -> None:
    made = plan(tiny(mtp=True), machine(GIB), (), LOAD)
    one = only(made, "attn_output")
    assert one.rule is None
    assert one.reason.startswith("attention of its layer, ")


def test_ranges_of_experts_are_groups_of_their_own() -> None:
    made = planned("exps#0-2=CUDA0")
    found = explain(made, tiny(mtp=True), r"blk\.2\.ffn_up_exps")
    assert [(one.experts, one.device) for one in found] == [((0, 2), "CUDA0"), ((3, 7), "CPU")]
    assert "blk.2.ffn_up_exps#0-2" in explanation_text(made, found)


def test_elsewhere_says_what_is_left_or_short_and_how_many_would_fit() -> None:
    made = planned("exps=CPU", gpu_bytes=MIB)
    made = replace(
        made,
        devices=tuple(
            replace(use, budget_bytes=use.total_bytes + 40 * 1024) for use in made.devices
        ),
    )
    one = only(made, "up_exps")
    assert [place.device for place in one.elsewhere] == ["CUDA0", "CUDA1"]
    assert [place.left_bytes for place in one.elsewhere] == [40 * 1024 - one.nbytes] * 2
    assert [place.fitting for place in one.elsewhere] == [2, 2]
    assert "does not fit, 11.0 KiB short; 2 of the 3 would" in explanation_text(made, [one])


def test_a_move_that_sends_blocks_to_the_reference_says_what_to_move_with_it() -> None:
    made = planned("exps=CPU")
    home = made.layers[2]
    (attention,) = explain(made, tiny(mtp=True), r"blk\.2\.attn_q")
    assert attention.elsewhere[0].instead == r"blk\.2\.=CPU"
    (up,) = explain(made, tiny(mtp=True), r"blk\.2\.ffn_up_exps")
    at_home = next(place for place in up.elsewhere if place.device == home)
    assert at_home.instead == rf"blk\.2\.ffn_.*_exps={home}"
    (together,) = explain(made, tiny(mtp=True), r"blk\.2\.ffn_.*_exps")
    at_home = next(place for place in together.elsewhere if place.device == home)
    assert at_home.instead is None


def test_one_tensor_has_room_where_its_whole_block_has_none() -> None:
    where = described_machine("2xepyc-4090")
    rules = parse_rules([r"blk\.[345]\..*_exps=CUDA0", "exps=CPU"], where.device_names)
    made = plan(deepseek_v3(), where, rules, Workload(8192, kernels="fast"))
    (one,) = explain(made, deepseek_v3(), r"blk\.6\.attn_kv_a_mqa", slower_in_ram)
    (there,) = one.elsewhere
    assert one.reason.endswith("no room for the whole layer and those behind it")
    assert there.left_bytes > 0 > there.instead_bytes
    assert (there.instead, there.decode_s) == (r"blk\.6\.=CUDA0", None)
    block = sum(t.nbytes for t in deepseek_v3().tensors if t.layer == 6)
    assert there.instead_bytes == there.left_bytes + one.nbytes - block
    words = " ".join(explanation_text(made, [one]).split())
    assert f"belongs together, {format_bytes(-there.instead_bytes)} too much" in words


def test_kernels_that_take_any_block_leave_nothing_to_move_along() -> None:
    where = machine(GIB)
    made = plan(tiny(), where, (), replace(LOAD, kernels="exact"))
    (one,) = explain(made, tiny(), r"blk\.2\.attn_q")
    assert one.elsewhere[0].instead is None


def test_a_change_of_speed_is_predicted_for_what_the_gpus_kernels_take() -> None:
    made = planned("exps=CPU")
    inventory = tiny(mtp=True)

    def predict(changed: PlacementPlan) -> Prediction:
        seconds = changed.devices[0].weights_bytes / MIB
        return Prediction((Pace(0, 1, 1 / seconds, {"CPU experts": seconds}),), (), 0, "RAM", "")

    (one,) = explain(made, inventory, r"blk\.2\.ffn_.*_exps", predict)
    home, other = sorted(one.elsewhere, key=lambda place: place.device != made.layers[2])
    assert home.decode_s == pytest.approx(-one.nbytes / MIB)
    assert (other.decode_s, other.tokens_per_s) == (None, None)
    assert "; decode -49.80 ms a token" in explanation_text(made, [one])


def test_moving_one_range_of_a_layers_experts_to_the_other_makes_it_whole() -> None:
    made = planned("exps#0-2=GPU", "exps=CPU")
    home = made.layers[2]
    found = explain(made, tiny(mtp=True), r"blk\.2\.ffn_.*_exps", slower_in_ram)
    for one, there in zip(found, ("CPU", home), strict=True):
        (place,) = [place for place in one.elsewhere if place.device == there]
        assert place.instead is None
        assert place.decode_s is not None


def test_a_rule_that_has_some_of_the_experts_is_not_too_late_for_them() -> None:
    one = only(planned("up_exps#0-2=CPU", "up_exps=CPU", "exps=CPU"), "up_exps")
    assert (one.experts, one.rule, one.later) == (None, 0, (2,))
    assert one.reason == "rule 1: up_exps#0-2=CPU; rule 2: up_exps=CPU"


def test_predictions_are_left_out_where_there_would_be_too_many() -> None:
    calls = []

    def predict(made: PlacementPlan) -> Prediction:
        calls.append(made)
        return slower_in_ram(made)

    stock = model(replace(TINY, layers=150), "tall", weights="Q8_0")
    where = machine(GIB)
    texts = [rf"blk\.{i}\.ffn_.*_exps=CPU" for i in range(1, 150)]
    made = plan(stock, where, parse_rules(texts, where.device_names), LOAD)
    explain(made, stock, "_exps", predict)
    assert calls == []
    explain(made, stock, r"blk\.1[0-4]\..*_exps", predict)
    assert 5 <= len(calls) <= MOST_TIMED + 1


def test_what_stays_in_the_file_has_no_elsewhere() -> None:
    made = planned()
    one = only(made, "nextn")
    assert one.elsewhere == ()
    assert "it stays in the file" in explanation_text(made, [one])


@pytest.mark.parametrize("pattern", ["(", "no_such_tensor", "x" * 2000, "[[:none:]]"])
def test_a_pattern_that_is_none_or_finds_nothing_is_an_error(pattern: str) -> None:
    with pytest.raises(RequestError, match="--explain"):
        explain(planned(), tiny(mtp=True), pattern)


def test_paragraphs_stay_within_the_width() -> None:
    made = planned("exps=CPU")
    text = explanation_text(made, explain(made, tiny(mtp=True), "."), width=70)
    assert max(map(len, text.splitlines())) <= 75  # a rule is not broken
