from dataclasses import dataclass

import pytest

from placement.machines.machine import CPU
from placement.planner import plan
from placement.report.text import Page, text_report
from placement.rules import parse_rules
from placement.workload import Workload
from tests.placement.golden_reports import CASES, GOLDEN
from tests.placement.models import GIB, MIB, machine, tiny


@dataclass(frozen=True)
class Part:
    category: str
    what: str
    nbytes: int


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_report_reads_as_the_golden_text(case) -> None:
    assert case() == (GOLDEN / f"{case.__name__}.txt").read_text(encoding="utf-8")


def test_every_golden_text_has_its_case() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {case.__name__ for case in CASES}


def test_norms_and_router_are_named_where_they_part_from_the_rest() -> None:
    where = machine(GIB)
    rules = parse_rules(
        ["exps=CPU", "ffn_norm=CPU", r"blk\.3\.ffn_gate_inp=CPU"], where.device_names
    )
    text = text_report(plan(tiny(), where, rules, Workload(256, 16)), tiny())
    assert "blk.0  attention, dense -> CUDA0; norms -> CUDA0 and CPU" in text
    assert "blk.1-2  attention, shared -> CUDA0; norms -> CUDA0 and CPU; routed -> CPU" in text
    assert (
        "blk.3  attention, shared -> CUDA0; norms -> CUDA0 and CPU; router, routed -> CPU" in text
    )


def test_narrow_report_wraps_all_but_the_tables() -> None:
    text = text_report(plan(tiny(), machine(), (), Workload(256, 16)), tiny(), page=Page(60))
    tables = [part for part in text.split("\n\n") if part.startswith(("in MiB", "time "))]
    assert len(tables) == 2
    for table in tables:
        text = text.replace(table, "")
    assert all(len(line) <= 60 for line in text.splitlines())


def test_what_the_table_calls_other_is_listed_by_device() -> None:
    made = plan(tiny(), machine(), (), Workload(256, 16))
    parts = {CPU: (Part("weights", "norm", 5), Part("other", "page tables", 3 * MIB))}
    text = text_report(made, tiny(), parts=parts)
    assert "\nother     CPU: page tables 3.0 MiB\n" in text
    assert "\nother " not in text_report(made, tiny())
