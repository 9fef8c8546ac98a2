"""The bench of crossings, as far as it goes without a GPU."""

import json
import sys

import pytest

from kernels.native import pool
from tests.kernels.aot import cuda_resources
from tools.bench import gpu_crossing
from tools.bench.crossing_rows import crossings
from tools.bench.crossing_rows.measure import PROGRAM


@pytest.fixture(autouse=True)
def no_pool_left():
    yield
    pool.stop()


def test_without_a_gpu_the_processors_rows_are_there(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = ["gpu_crossing", "--threads", "1", "--only", "waking,amx,crossing"]
    monkeypatch.setattr(sys, "argv", words)
    gpu_crossing.main()
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert len(rows) == len(crossings.IDLE_US) + 1
    assert all(0 < row["value"] < 1e6 for row in rows[:-1])
    assert rows[-1]["what"] == "AMX"


def test_its_kernels_compile():
    folder = PROGRAM.source.folders[0]
    needs = cuda_resources("kernels.cu", ["empty<0>", "read<512>"], (9, 0), folder)
    assert needs["read<512>"].spill_bytes == 0
