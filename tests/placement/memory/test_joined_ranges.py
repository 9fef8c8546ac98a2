from placement.inventory import Role
from placement.memory.joined_ranges import joined_ranges
from placement.plan import Assignment, PlacementPlan
from placement.planner import plan
from placement.rules import parse_rules
from placement.workload import Workload
from tests.placement.models import GIB, machine, tensor, tiny


def part(first: int, last: int, device: str, rule: int | None = None) -> Assignment:
    reason = "the planner" if rule is None else f"rule {rule + 1}"
    return Assignment("w", (first, last), device, 10 * (last + 1 - first), rule, reason)


def joined(*parts: Assignment) -> list[Assignment]:
    of_eight = tensor("w", (8, 32, 32), Role.ROUTED_EXPERT, experts=8)
    return list(joined_ranges(parts, {"w": of_eight}))


def planned(*texts: str) -> PlacementPlan:
    where = machine(GIB)
    rules = parse_rules(texts, where.device_names)
    return plan(tiny(), where, rules, Workload(256, 16, kernels="fast"))


def test_ranges_that_touch_on_one_device_are_one_with_all_reasons() -> None:
    found = joined(part(0, 2, "CPU", 1), part(3, 4, "CPU"), part(5, 7, "CUDA0", 0))
    assert found == [
        Assignment("w", (0, 4), "CPU", 50, 1, "rule 2; the planner"),
        part(5, 7, "CUDA0", 0),
    ]


def test_ranges_that_make_up_the_tensor_are_the_tensor() -> None:
    found = joined(part(0, 2, "CPU", 1), part(3, 7, "CPU", 0))
    assert found == [Assignment("w", None, "CPU", 80, 0, "rule 2; rule 1")]


def test_ranges_apart_stay_apart() -> None:
    parts = [part(0, 2, "CPU"), part(3, 4, "CUDA0"), part(5, 7, "CPU")]
    assert joined(*parts) == parts
    whole = Assignment("w", None, "CPU", 80, 0, "rule 1")
    assert joined(whole) == [whole]


def test_two_rules_for_the_same_place_plan_as_one_does() -> None:
    made, one = planned(r"blk\.2\..*_exps#0-4=CPU", "exps=CPU"), planned("exps=CPU")
    assert [(a.tensor, a.experts, a.device, a.nbytes) for a in made.assignments] == [
        (a.tensor, a.experts, a.device, a.nbytes) for a in one.assignments
    ]
    assert made.prediction == one.prediction
    assert made.notes == one.notes
