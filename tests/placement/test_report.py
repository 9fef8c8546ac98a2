"""Golden reports: after a wanted change, print the case's text, read it, and save it."""

from pathlib import Path

import pytest

from placement.planner import plan
from placement.report import text_report
from placement.rules import n_cpu_moe_rules, parse_rules
from placement.workload import Workload
from tests.placement.models import GIB, MIB, deepseek_v3, machine, tiny

GOLDEN = Path(__file__).parent / "golden"


def cpu_only() -> str:
    return text_report(plan(tiny(), machine(), (), Workload(256, 16)), tiny())


def one_gpu() -> str:
    inventory, where = deepseek_v3(), machine(12 * GIB, ram=400 * GIB)
    return text_report(plan(inventory, where, (), Workload(32768)), inventory)


def two_gpus_with_rules() -> str:
    inventory, where = deepseek_v3(), machine(40 * GIB, 24 * GIB, ram=512 * GIB)
    texts = [r"blk\.(3|4)\..*_exps=CUDA0,exps=CPU", "up_exps=CUDA1", r"blk\.5.attn_out=CUDA1"]
    rules = (
        *parse_rules([*texts, "fnn_down=CPU"], where.device_names),
        *n_cpu_moe_rules(9, 61, True),
    )
    load = Workload(16384, cache_format="q8_0")
    return text_report(plan(inventory, where, rules, load, shares=(32, 29)), inventory)


def expert_range() -> str:
    where = machine(2 * MIB, MIB)
    rules = parse_rules(["exps#0-2=CUDA0,exps#3-3=CUDA1"], where.device_names)
    load = Workload(256, 16, attention_work_bytes=MIB // 4)
    return text_report(plan(tiny(mtp=True), where, rules, load, shares=(3, 1)), tiny(mtp=True))


@pytest.mark.parametrize(
    "case", [cpu_only, one_gpu, two_gpus_with_rules, expert_range], ids=lambda case: case.__name__
)
def test_report_reads_as_the_golden_text(case) -> None:
    assert case() == (GOLDEN / f"{case.__name__}.txt").read_text(encoding="utf-8")


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


def test_narrow_report_wraps_all_but_the_table() -> None:
    text = text_report(plan(tiny(), machine(), (), Workload(256, 16)), tiny(), width=60)
    table = text.split("\n\n")[2]
    assert all(len(line) <= 60 for line in text.replace(table, "").splitlines())
