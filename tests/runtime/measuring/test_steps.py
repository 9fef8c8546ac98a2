"""Arithmetic of a block's figures; random blocks of their true shape. The figures themselves need
hardware (test_gpu.py)."""

import pytest
import torch

from hybrid.runtime.measuring import random_blocks, steps
from placement.machines.speeds_table import MOST_SHARE


def test_rows_read_as_fast_as_copies_have_a_share_of_one() -> None:
    us = steps.DEPTH * random_blocks.CACHE_ROW_BYTES / 4e6  # of 4000 GB/s
    assert steps.share_of_copy(us, 4000.0) == pytest.approx(1.0)
    assert steps.share_of_copy(2 * us, 4000.0) == pytest.approx(0.5)


@pytest.mark.parametrize(("us", "share"), [(-1.0, MOST_SHARE), (1e9, steps.LEAST_SHARE)])
def test_times_that_make_no_sense_give_a_share_that_a_profile_takes(
    us: float, share: float
) -> None:
    assert steps.share_of_copy(us, 4000.0) == share


def test_a_block_is_what_its_time_is_beside_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    body = random_blocks.random_blocks(torch.device("cpu"), dense=1, sparse=0, rows=2)
    monkeypatch.setattr(steps, "random_blocks", lambda *_, **__: body)
    times = iter([400.0, 480.0])
    monkeypatch.setattr(steps, "graph_us", lambda *_: next(times))
    found = steps.block_figures(torch.device("cpu"), 4000.0, 0.5)
    reading_us = body.step_bytes / steps.BLOCKS / 2e6
    assert found["block_us"] == pytest.approx(400 / steps.BLOCKS - reading_us)
    assert found["cache_share"] == pytest.approx(steps.share_of_copy(80 / steps.BLOCKS, 4000.0))
    assert body.source.seen.tolist() == [steps.DEPTH + 1]


def test_a_step_reads_all_of_a_dense_block_and_a_part_of_its_experts() -> None:
    place = torch.device("cpu")
    dense = random_blocks.random_blocks(place, dense=1, sparse=0, rows=1)
    q8 = 34 / 32
    attention = 2048 * (16 * 192 + 576) + 16 * 512 * 128 * 2 + 2048 * 2048
    assert dense.step_bytes == int(q8 * (attention + 3 * 2048 * 10944))
