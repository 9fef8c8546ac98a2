from dataclasses import replace

from placement.inventory import Role
from placement.machines.machine import DeviceKind, Link
from placement.planner import plan
from placement.report.device_memory import (
    DeviceMemory,
    alike,
    device_memory,
    device_rows,
    unloaded_texts,
)
from placement.rules import parse_rules
from placement.workload import Workload
from tests.placement.golden_reports import rig
from tests.placement.models import GIB, machine, tensor, tiny

LOAD = Workload(256, 16)


def test_parts_sum_to_the_plans_totals() -> None:
    where = machine(GIB, GIB)
    made = plan(tiny(), where, parse_rules(["exps#0-3=CUDA1"], where.device_names), LOAD)
    made = replace(
        made, devices=tuple(replace(use, other_bytes=7 * i) for i, use in enumerate(made.devices))
    )
    memory = device_memory(made, tiny(), where)
    assert [d.total_bytes for d in memory] == [use.total_bytes for use in made.devices]
    assert dict(memory[2].parts)["other"] == 14
    weights = sum(nbytes for d in memory for _, nbytes in d.parts[:5])
    assert weights == tiny().nbytes
    assert "other" in device_rows(memory)[0]


def test_a_link_is_told_at_its_best_generation_and_its_present_width() -> None:
    where = rig(GIB, GIB, ram=8 * GIB, nodes=2)
    links = (Link("CUDA0", 1, 8, 5, 16), Link("CUDA1", None, None, None, None))
    memory = device_memory(plan(tiny(), where, (), LOAD), tiny(), replace(where, links=links))
    assert [d.link for d in memory] == ["", "PCIe 5 x8", ""]
    assert [d.node for d in memory] == ["0-1", "0", "1"]
    assert device_rows(memory)[0][-2:] == ["node", "link"]
    assert device_rows(memory)[3][-2:] == ["1", "-"]


def test_nodes_and_links_that_nobody_knows_have_no_columns() -> None:
    where = machine(GIB, kind=DeviceKind.GPU)
    rows = device_rows(device_memory(plan(tiny(), where, (), LOAD), tiny(), where))
    assert rows[0][-1] == "headroom"


def test_what_stays_in_the_file_is_named_by_reason() -> None:
    stock = tiny(mtp=True)
    odd = tensor("blk.1.attn_k_b.weight", (4, 4), Role.UNUSED)
    many = [tensor(f"blk.4.some_long_name_{i}.weight", (4, 4), Role.MTP) for i in range(9)]
    stock = replace(stock, tensors=(*stock.tensors, odd, *many))
    texts = unloaded_texts(plan(stock, machine(), (), LOAD), stock)
    assert texts == [
        "9.1 KiB of 10 tensors of blk.4: next-token prediction is not loaded",
        "64 B of blk.1.attn_k_b: not read by this model",
    ]


def test_many_gpus_that_are_shown_alike_have_one_row() -> None:
    rows = [["CPU", "1"], ["CUDA0", "2"], *(["CUDA" + str(i), "3"] for i in (1, 2, 4)), ["CUDA3"]]
    assert alike(rows) == [("CPU", 0), ("CUDA0", 1), ("CUDA1-2, 4", 2), ("CUDA3", 5)]
    assert [name for name, _ in alike(rows[:5])] == ["CPU", "CUDA0", "CUDA1", "CUDA2", "CUDA4"]


def test_the_table_says_that_its_rows_are_of_one_gpu_each() -> None:
    for count, first, names in ((4, "in GiB", 5), (8, "each in GiB", 2)):
        gpus = [DeviceMemory(f"CUDA{i}", 2 * GIB, (("cache", GIB),)) for i in range(count)]
        rows = device_rows((DeviceMemory("CPU", GIB, (("cache", GIB),)), *gpus))
        assert rows[0][0] == first
        assert len(rows) == 1 + names
    assert rows[2][:2] == ["CUDA0-7", "1.00"]
