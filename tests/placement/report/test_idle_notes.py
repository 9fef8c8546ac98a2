"""GPUs that stay empty are told with what would fill them."""

import pytest

from placement.machines.machine import DeviceKind
from placement.planner import plan
from placement.rules import Rule, cpu_moe_rule, n_cpu_moe_rules, parse_rules
from placement.units import rate
from placement.workload import Workload
from tests.placement.models import GIB, deepseek_v3, machine, tiny

MANY = machine(*[40 * GIB] * 6, ram=400 * GIB, kind=DeviceKind.GPU)


def idle_lines(*rules: Rule, gpus: int = 6) -> list[str]:
    where = machine(*[40 * GIB] * gpus, ram=400 * GIB, kind=DeviceKind.GPU)
    notes = plan(deepseek_v3(), where, rules, Workload(8192)).notes
    return [note for note in notes if "of VRAM stay free" in note]


def test_vram_that_rules_leave_free_is_told_with_the_speed_without_them() -> None:
    (line,) = idle_lines(*parse_rules(["exps=CPU"], MANY.device_names))
    assert "without rule 1 (exps=CPU) experts fill it: about " in line
    without = plan(deepseek_v3(), MANY, (), Workload(8192)).prediction
    assert without is not None
    assert f"about {rate(without.decode[0].tokens_per_s)} tok/s" in line


def test_n_cpu_moe_is_one_of_the_rules_that_leave_it_free() -> None:
    rules = [*n_cpu_moe_rules(20, 61, has_gpu=True), *parse_rules(["exps=CPU"], MANY.device_names)]
    (line,) = idle_lines(*sorted(rules, key=lambda rule: rule.is_fallback))
    assert "without rule 1 (--n-cpu-moe 20) and rule 2 (exps=CPU) experts" in line


@pytest.mark.parametrize(("rules", "gpus"), [((), 6), ((cpu_moe_rule(),), 1)])
def test_nothing_is_told_without_such_rules_or_where_little_is_won(
    rules: tuple[Rule, ...], gpus: int
) -> None:
    assert not idle_lines(*rules, gpus=gpus)


@pytest.mark.parametrize(
    ("gpus", "shares", "words"),
    [
        (0, (3.0, 1.5), "-ts 3,1.5 has no effect: no GPU"),
        (1, (1.0, 2.0, 3.0), "-ts has 3 parts and there is one GPU: it has no effect"),
        (2, (1.0, 2.0, 3.0), "-ts has 3 parts and there are 2 GPUs: the first 2 count"),
        (2, (0.0, 0.0, 3.0), "the first 2 are 0, so it has no effect"),
        (3, (1.0,), "-ts has 1 part and there are 3 GPUs: CUDA1-2 get no blocks"),
        (2, (1.0, 1.0), None),
    ],
)
def test_shares_for_another_number_of_gpus_are_told(
    gpus: int, shares: tuple[float, ...], words: str | None
) -> None:
    made = plan(tiny(), machine(*[GIB] * gpus), (), Workload(256, 16), shares=shares)
    lines = [note for note in made.notes if note.startswith("-ts")]
    assert [words in line for line in lines] == [True] if words else not lines
