"""The host's figures: their arithmetic, and that all of them come out on a small scale."""

import pytest
import torch

from hybrid.runtime.measuring import host
from hybrid.runtime.measuring.machine import measure_machine
from hybrid.runtime.measuring.readings import Readings
from kernels.expert_ffn import expert_ffn
from kernels.native import pool
from placement.machines.cpus import choose_cpus
from placement.machines.machine import CPU
from placement.machines.probe import probe_machine

MIB = 1 << 20


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little memory and few rounds: the figures mean nothing."""
    monkeypatch.setattr(host, "READ_BYTES", 8 * MIB)
    monkeypatch.setattr(host, "LEAST_READ_BYTES", 8 * MIB)
    monkeypatch.setattr(host, "BANK_BYTES", 16 * MIB)
    monkeypatch.setattr(host, "WIDTH", 256)
    monkeypatch.setattr(host, "FEED_FORWARD", 256)
    monkeypatch.setattr(host, "PROMPT_TOKENS", 16)
    monkeypatch.setattr(host, "JOBS", 3)


def test_every_figure_of_the_host_is_measured(small: None) -> None:
    machine = probe_machine()
    said: list[str] = []
    readings = measure_machine(machine, choose_cpus(2), said.append)
    assert readings.faults == []
    figures = readings.figures[CPU]
    expected = {"read_gb_s", "by_threads", "job_us", "product_share", "matmul_tflops"}
    assert expected <= set(figures)
    assert all(figures[name] > 0 for name in expected - {"by_threads"})
    assert figures["read_gb_s"] == figures["by_threads"][-1][1]
    assert [line.partition(":")[0] for line in said] == [CPU] * len(said)


def test_a_figure_that_fails_leaves_the_others(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(host, "_touched", no_memory)
    monkeypatch.setattr(host, "_bank", no_memory)
    readings = measure_machine(probe_machine(), choose_cpus(2), lambda _: None)
    assert len(readings.faults) >= 2
    assert "CPU: RAM reads could not be measured: [Errno 12]" in readings.faults[0]
    assert {"job_us", "matmul_tflops"} <= set(readings.figures[CPU])
    assert "read_gb_s" not in readings.figures[CPU]


def test_every_node_is_read_where_there_are_several(small: None) -> None:
    pool.start(*_two_workers())
    rates = host._by_node([0], 2, 8 * MIB)
    assert [node for node, _ in rates] == [0]
    assert rates[0][1] > 0


@pytest.mark.parametrize(
    ("most", "counts"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (16, (1, 2, 4, 8, 12, 16))]
)
def test_reads_are_made_by_some_threads_and_by_all(most: int, counts: tuple[int, ...]) -> None:
    assert host.thread_counts(most) == counts


def test_a_share_leaves_the_jobs_own_time_out() -> None:
    # 1 GB in 10 ms, of which 2 ms are the job's: 125 GB/s beside reads of 250
    assert host.share_of_read(10**9, 0.010, 2000.0, 250.0) == pytest.approx(0.5)
    assert host.share_of_read(10**9, 0.010, 0.0, 100.0) == pytest.approx(1.0)
    longer_than_the_call = host.share_of_read(10**9, 0.010, 20_000.0, 100.0)
    assert 0 < longer_than_the_call < 101


def test_the_timed_call_computes_what_the_op_computes(small: None) -> None:
    pool.start(*_two_workers())
    part, memory = host._bank([0], 1 * MIB)
    assert sum(matrix.nbytes for matrix in part) <= memory.numel()
    call = host.ExpertsCall(part, 1)
    chosen = host._chosen(host.USED)
    call(chosen)
    share = torch.full((1, host.USED), 1 / host.USED)
    expected = expert_ffn(torch.ones(1, 256), *part, chosen.long(), share, implementation="rounded")
    assert expected.isfinite().all()
    assert torch.equal(call._out, expected)


def test_readings_keep_what_is_said_and_what_failed() -> None:
    said: list[str] = []
    readings = Readings(said.append)
    readings.figure("CUDA0", "copy_gb_s", "copies", lambda: 5.0)
    readings.figure("CUDA0", "block_us", "blocks", lambda: 7.0)
    assert readings.figures == {"CUDA0": {"copy_gb_s": 5.0, "block_us": 7.0}}
    assert said == ["CUDA0: copies", "CUDA0: blocks"]

    def mistake() -> None:
        raise KeyError("ours")

    with pytest.raises(KeyError):
        readings.attempt("CPU", "a mistake of ours", mistake)


def _two_workers() -> tuple[tuple[int, ...], tuple[int, ...]]:
    chosen = choose_cpus(2)
    return chosen.cpus, chosen.nodes
