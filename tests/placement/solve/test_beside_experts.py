"""Blocks whose routed experts rules put on a GPU live beside them, where that is sooner done."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from placement.machines.choice import described_machine
from placement.plan import PlacementPlan
from placement.planner import plan
from placement.request import Request
from placement.rules import fallbacks_last, n_cpu_moe_rules, parse_rules
from placement.solve.draft import draft
from placement.solve.fill import FALLEN, ticks
from placement.solve.trials import overfull
from placement.units import rate
from placement.workload import Workload
from tests.placement.golden_reports import rig
from tests.placement.models import GIB, deepseek_v3
from tests.placement.solve.fitting import needs_fit
from tests.placement.solve.test_solver import contiguous, drawn, places_of_the_head

EXPERTS = r"blk\.(3|4|5)\.ffn_.*_exps=CUDA0"
RULED = 1  # the block of the drawn cases


def planned(*texts: str, **options: object) -> PlacementPlan:
    where = described_machine("2xepyc-4090")
    rules = parse_rules(texts, where.device_names)
    load = Workload(8192, kernels="fast", threads=128)
    return plan(deepseek_v3(), where, rules, load, **options)  # type: ignore[arg-type]


def decode_rate(made: PlacementPlan) -> float:
    assert made.prediction is not None
    return made.prediction.decode[0].tokens_per_s


def test_attention_follows_the_experts_that_a_rule_puts_on_a_gpu() -> None:
    made = planned(EXPERTS, "exps=CPU")
    assert "CPU" in made.layers[6:]  # there is no room for all of the blocks behind
    assert made.layers[2:6] == ("CPU", "CUDA0", "CUDA0", "CUDA0")
    assert not any("reference kernels" in note for note in made.notes)
    whole = planned(r"blk\.[345]\.=CUDA0", "exps=CPU")
    assert decode_rate(made) >= decode_rate(whole)
    reasons = {part.reason for part in made.assignments if part.tensor == "blk.3.attn_q.weight"}
    assert reasons == {"attention of layer 3, where rules moved its routed experts"}


def test_what_is_faster_without_experts_that_crowd_blocks_out_is_told() -> None:
    made = planned(EXPERTS, "exps=CPU")
    (note,) = [note for note in made.notes if "stay on the CPU beside" in note]
    now, then = rate(decode_rate(made)), rate(decode_rate(planned("exps=CPU")))
    assert note.startswith("layers 0-2, 6-")
    assert note.endswith(
        f"; faster: without rule 1 ({EXPERTS}), about {then} tok/s in place of {now}"
    )


def test_n_cpu_moe_that_crowds_blocks_out_is_told_as_one() -> None:
    where, load = described_machine("2xepyc-4090"), Workload(8192, kernels="fast", threads=128)
    rules = fallbacks_last(n_cpu_moe_rules(58, 61, has_gpu=True))
    made, free = (plan(deepseek_v3(), where, its, load) for its in (rules, ()))
    (note,) = [note for note in made.notes if "stay on the CPU beside" in note]
    now, then = rate(decode_rate(made)), rate(decode_rate(free))
    assert note.endswith(f"faster: without --n-cpu-moe 58, about {then} tok/s in place of {now}")


def test_gpu_layers_are_obeyed_all_the_same() -> None:
    assert set(planned(EXPERTS, "exps=CPU", gpu_layers=2).layers[:60]) == {"CPU"}


def test_blocks_of_gpu_layers_may_be_out_of_turn() -> None:
    """Not all behind layer 3 have room on the second card, where its experts are."""
    where = rig(24 * GIB, 24 * GIB, ram=512 * GIB)
    rules = parse_rules([EXPERTS.replace("CUDA0", "CUDA1"), "exps=CPU"], where.device_names)
    load = Workload(8192, kernels="fast", threads=32)
    made = plan(deepseek_v3(), where, rules, load, gpu_layers=99)
    assert "CPU" not in made.layers
    assert made.layers[2:7] == ("CUDA0", "CUDA1", "CUDA1", "CUDA1", "CUDA0")


def test_shares_are_not_advised_where_they_part_blocks_from_their_experts() -> None:
    where = described_machine("8xh200")
    load = Workload(8192, kernels="fast", threads=112)

    def idle(*texts: str) -> str:
        rules = parse_rules(texts, where.device_names)
        made = plan(deepseek_v3(), where, rules, load)
        (note,) = [note for note in made.notes if "have no blocks" in note]
        return note

    assert idle(r"blk\.5.\.ffn_.*_exps=CUDA0").endswith(" longer")
    assert idle().endswith(" longer; -ts 1,1,1,1,1,1,1,1 shares them out")


@pytest.mark.parametrize("seed", range(60))
def test_no_way_is_faster(seed: int) -> None:
    """Neither contiguous blocks nor those around the one beside its experts."""
    request = drawn(seed, rf"blk\.{RULED}\..*_exps=CUDA0", "exps=CPU")
    made = draft(request)
    ways = [
        seconds_of(request, homes, head)
        for homes in every_way(request)
        for head in places_of_the_head(homes)
        if needs_fit(request, made.assignments, homes, head)
    ]
    (head,) = (part.device for part in made.assignments if part.tensor == "output.weight")
    if not ways:
        assert overfull(made)
        return
    assert not overfull(made)
    assert seconds_of(request, list(made.layers), head) == min(ways)


def test_the_drawn_cases_have_blocks_out_of_turn() -> None:
    """Else the test above would show nothing."""
    found = 0
    for seed in range(60):
        layers = draft(drawn(seed, rf"blk\.{RULED}\..*_exps=CUDA0", "exps=CPU")).layers
        found += list(layers) != sorted(layers)
    assert found > 5


def every_way(request: Request) -> Iterator[list[str]]:
    names = request.machine.device_names
    for numbers in contiguous(request.inventory.shape.layers, len(names) - 1):
        yield [names[number] for number in numbers]
    for numbers in contiguous(request.inventory.shape.layers - 1, len(names) - 1):
        homes = [names[number] for number in numbers]
        yield [*homes[:RULED], "CUDA0", *homes[RULED:]]


def seconds_of(request: Request, homes: list[str], head: str) -> int:
    costs = request.costs
    assert costs is not None
    total = ticks(costs.head(head, "decode"))
    for layer, home in enumerate(homes):
        total += ticks(costs.block(layer, home, "decode"))
        if layer >= request.inventory.shape.dense_layers:
            here = layer == RULED and home == "CUDA0"
            total += ticks(costs.experts(layer, home, 0.0 if here else 1.0, "decode"))
            total += FALLEN if layer == RULED and not here else 0
    return total + sum(ticks(costs.handover(a, b, "decode")) for a, b in pairwise([*homes, head]))
