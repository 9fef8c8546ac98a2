from dataclasses import replace

import pytest

from placement.cost.traffic import PCIE, Traffic, decode_stages, decode_traffic
from placement.inventory import Role
from placement.machines.machine import CPU
from placement.planner import plan
from placement.rules import parse_rules
from placement.workload import Workload
from tests.placement.models import GIB, MIB, deepseek_v3, machine, tiny

LOAD = Workload(context_tokens=256, ubatch_tokens=32)
MODEL = tiny()


def placed(*rules: str, gpus: int = 0, model=MODEL):
    there, shares = machine(*[64 * MIB] * gpus), (1.0,) * gpus or None
    return plan(model, there, parse_rules(rules, there.device_names), LOAD, shares=shares)


def test_a_token_reads_all_but_the_experts_it_does_not_use_and_the_rows_it_is_not():
    by_role = MODEL.by_role()
    row = 64 // 32 * 34  # one row of 64 values in Q8_0
    expected = (
        MODEL.nbytes
        - by_role[Role.EMBEDDING]
        + row
        - by_role[Role.ROUTED_EXPERT] * 6 // 8  # 2 of 8 experts are used
    )
    assert decode_traffic(placed(), MODEL) == {CPU: Traffic(expected, 0)}


def test_a_tied_embedding_is_read_whole_as_the_head_and_once_more_as_a_row():
    tied = tiny(tied=True)
    row = 64 // 32 * 34
    [apart], [joined] = (
        decode_traffic(placed(model=model), model).values() for model in (MODEL, tied)
    )
    assert joined == apart
    assert apart.weight_bytes > 512 * row  # the head's 512 rows


def test_cached_rows_are_read_once_per_layer_in_the_caches_format():
    f16, q8_0 = placed(), replace(placed(), workload=replace(LOAD, cache_format="q8_0"))
    assert decode_traffic(f16, MODEL, 100)[CPU].cache_bytes == 4 * 100 * 40 * 2
    assert decode_traffic(q8_0, MODEL, 100)[CPU].cache_bytes == 4 * 100 * 2 * 34
    read = decode_traffic(f16, MODEL, 100)[CPU]
    assert read.total_bytes == read.weight_bytes + read.cache_bytes


def test_each_device_reads_what_it_holds_and_together_they_read_the_same():
    alone = decode_traffic(placed(), MODEL, 100)
    split = decode_traffic(placed("exps=CPU", gpus=2), MODEL, 100)
    assert list(split) == [CPU, "CUDA0", "CUDA1"]
    experts = MODEL.by_role()[Role.ROUTED_EXPERT] * 2 // 8
    assert split[CPU] == Traffic(experts + 64 // 32 * 34, 0)
    assert all(split[name].cache_bytes > 0 for name in ("CUDA0", "CUDA1"))
    assert sum(read.total_bytes for read in split.values()) == alone[CPU].total_bytes


def test_a_cache_in_ram_is_read_there_whichever_device_reads_it():
    at_home = placed("exps=CPU", gpus=2)
    in_ram = replace(at_home, workload=replace(LOAD, cache_in_ram=True))
    read = decode_traffic(in_ram, MODEL, 100)
    assert [read[name].cache_bytes for name in (CPU, "CUDA0", "CUDA1")] == [4 * 100 * 40 * 2, 0, 0]


def test_a_range_of_experts_is_read_as_often_as_it_is_chosen():
    whole = decode_traffic(placed("exps=CPU", gpus=1), MODEL)
    ranged = decode_traffic(placed("exps#0-1=CUDA0", "exps=CPU", gpus=1), MODEL)
    moved = MODEL.by_role()[Role.ROUTED_EXPERT] // 4 * 2 // 8  # 2 of 8 experts lie on the GPU
    assert ranged["CUDA0"].weight_bytes - whole["CUDA0"].weight_bytes == moved
    assert whole[CPU].weight_bytes - ranged[CPU].weight_bytes == moved


def test_stages_are_the_same_bytes_by_what_waits_for_what():
    made = placed("exps=CPU", gpus=2)
    stages = decode_stages(made, MODEL, 100)
    assert len(stages) == 2 + 2 * len(made.layers)
    for name, read in decode_traffic(made, MODEL, 100).items():
        assert sum(stage.get(name, 0) for stage in stages) == read.total_bytes
    first, *blocks, last = stages
    assert first == {CPU: 64 // 32 * 34}
    assert [set(stage) for stage in blocks[::2]] == [{home} for home in made.layers]
    experts = [part for part in MODEL.tensors if part.role is Role.ROUTED_EXPERT]
    with_experts = {part.layer for part in experts}
    assert [CPU in stage for stage in blocks[1::2]] == [
        layer in with_experts for layer in range(len(made.layers))
    ]
    assert set(last) == {made.layers[-1]}


def test_a_cache_is_read_with_its_blocks_attention():
    made = placed("exps=CPU", gpus=1)
    without, with_rows = decode_stages(made, MODEL, 0), decode_stages(made, MODEL, 100)
    more = [
        after["CUDA0"] - before["CUDA0"] for before, after in zip(without, with_rows, strict=True)
    ]
    assert more == [0, *[100 * 40 * 2, 0] * 4, 0]


def test_a_cache_in_ram_comes_over_the_bus_to_blocks_on_gpus_alone():
    made = placed("exps=CPU", r"blk\.0\.=CPU", gpus=1)
    in_ram = replace(made, workload=replace(LOAD, cache_in_ram=True))
    stages = decode_stages(in_ram, MODEL, 100)
    assert made.layers == (CPU, "CUDA0", "CUDA0", "CUDA0")
    assert [stage.get(PCIE, 0) for stage in stages] == [0, 0, 0, *[100 * 40 * 2, 0] * 3, 0]
    without = decode_stages(in_ram, MODEL, 0)
    assert stages[1][CPU] - without[1][CPU] == 100 * 40 * 2


def test_a_matrix_elsewhere_and_a_range_of_experts_are_read_in_their_blocks_stage():
    home = decode_stages(placed("exps=CUDA0", gpus=2), MODEL)
    away = decode_stages(placed("attn_output=CPU", "exps=CUDA0", gpus=2), MODEL)
    assert [CPU in stage for stage in away[1:-1]] == [True, False] * 4
    ranged = decode_stages(placed("exps#0-1=CUDA1", "exps=CUDA0", gpus=2), MODEL)
    for before, after, split in zip(home, away, ranged, strict=True):
        assert sum(before.values()) == sum(after.values()) == sum(split.values())
    assert any(set(stage) == {"CUDA0", "CUDA1"} for stage in ranged[2::2])


def test_a_tied_embedding_is_read_at_both_ends():
    tied = tiny(tied=True)
    first, *_, last = decode_stages(placed(model=tied), tied)
    assert last[CPU] > 500 * first[CPU] > 0


def test_blocks_that_are_not_loaded_are_not_read():
    more = tiny(mtp=True)
    assert more.nbytes > MODEL.nbytes
    assert decode_traffic(placed(model=more), more) == decode_traffic(placed(), MODEL)


def test_deepseek_v3_reads_its_published_count_of_active_weights():
    model = deepseek_v3()
    made = plan(model, machine(ram=1024 * GIB), [], LOAD)
    # "37B" with the embedding; the query matrix of this model is whole, not two of rank 1536
    published = 37e9 - 7168 * 129280
    whole_query = 61 * (7168 * 24576 - 1536 * (7168 + 24576))
    read = decode_traffic(made, model)[CPU].weight_bytes
    assert read == pytest.approx((published + whole_query) * 144 / 256, rel=0.03)  # routers are F32
