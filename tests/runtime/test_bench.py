"""What is run, how often and from which depth; what the figures are made of."""

from dataclasses import replace

import pytest

import hybrid
from hybrid.errors import ContextError, UsageError
from hybrid.runtime.bandwidth import ram_read_gb_s
from hybrid.runtime.bench import (
    BenchCase,
    BenchResult,
    Work,
    bench_cases,
    context_of,
    measure,
)
from hybrid.runtime.bench_limits import RAM, ReadLimit
from placement.cost.predict import expected_pace
from placement.cost.traffic import decode_traffic

MIB = 1 << 20
PROMPT, DECODE = Work.PROMPT, Work.DECODE


@pytest.fixture(scope="module")
def engine():
    return hybrid.load("demo", devices=("none",), context=64, ubatch=4, threads=1)


@pytest.fixture
def passes(engine, monkeypatch) -> list[tuple[int, int]]:
    """(start, tokens) of every pass, as it is done."""
    seen: list[tuple[int, int]] = []
    fill = engine.fill

    def spy(ids):
        steps = fill(ids)
        seen.extend((step.start, step.tokens) for step in steps)
        return steps

    monkeypatch.setattr(engine, "fill", spy)
    return seen


def test_cases_are_every_test_at_every_depth_shallow_first_and_once():
    cases = bench_cases([128, 0, 512, 128], [32], [4096, 0])
    assert [case.name for case in cases] == [
        *("pp128", "pp512", "tg32"),
        *("pp128 @ d4096", "pp512 @ d4096", "tg32 @ d4096"),
    ]
    assert context_of(cases) == 4096 + 512


def test_nothing_to_measure_is_an_error():
    with pytest.raises(UsageError, match="nothing to measure"):
        bench_cases([0], [0], [0, 4096])


def test_every_run_starts_at_its_depth_which_is_read_once(engine, passes):
    cases = bench_cases([6], [3], [0, 2, 7])
    results = list(measure(engine, cases, 2, 40.0))

    def at(depth: int) -> list[tuple[int, int]]:
        decode = [(depth, 1), (depth + 1, 1), (depth + 2, 1)]
        warm_up = decode[:2]
        return [*[(depth, 4), (depth + 4, 2)] * 3, *warm_up, *decode * 2]

    assert passes == [*at(0), (0, 2), *at(2), (2, 4), (6, 1), *at(7)]
    assert [result.case for result in results] == list(cases)
    assert all(len(result.tok_s) == 2 for result in results)


def test_filling_to_a_depth_is_told_pass_by_pass_and_no_token_is_decoded_for_it(engine, passes):
    told: list[tuple[int, int]] = []
    decoded = engine.stats.decode_tokens
    list(measure(engine, bench_cases([2], [], [9, 14]), 1, 40.0, lambda *now: told.append(now)))
    assert told == [(0, 9), (4, 9), (9, 9), (0, 5), (5, 5)]
    assert passes[:3] == [(0, 4), (4, 4), (8, 1)]
    assert engine.stats.decode_tokens == decoded


def test_ids_are_the_same_in_every_run_and_differ_between_repetitions(engine, monkeypatch):
    def ids_of() -> list[list[int]]:
        drawn: list[list[int]] = []
        with monkeypatch.context() as patch:
            patch.setattr(engine, "fill", lambda ids: drawn.append(list(ids)) or [])
            patch.setattr(engine, "truncate", lambda tokens: None)
            patch.setattr("hybrid.runtime.bench._outside_native", lambda steps: None)
            list(measure(engine, bench_cases([8], [], [0]), 2, 40.0))
        return drawn

    first = ids_of()
    assert first == ids_of()
    assert len({tuple(ids) for ids in first}) == 3
    assert all(0 <= token < 4096 for ids in first for token in ids)


def test_decoding_is_held_against_the_bytes_that_the_ram_gives():
    engine = hybrid.load(
        "demo", simulate={"CUDA0": 64 * MIB}, rules=["exps=CPU"], context=32, threads=1
    )
    cases = [BenchCase(PROMPT, 8), BenchCase(DECODE, 4, depth_tokens=20)]
    prompt, decode = measure(engine, cases, 1, 40.0)
    traffic = decode_traffic(engine.plan, engine.prepared.inventory, 22)
    assert dict(decode.device_bytes) == {name: read.total_bytes for name, read in traffic.items()}
    assert set(decode.device_bytes) == {"CPU", "CUDA0"}
    assert decode.ram_bytes == sum(decode.device_bytes.values())  # a simulated GPU reads RAM too
    assert decode.limit == ReadLimit(pytest.approx(40e9 / decode.ram_bytes), RAM)
    assert decode.share_of_limit == decode.median_tok_s / decode.limit.tok_s
    assert (prompt.ram_bytes, prompt.limit, prompt.share_of_limit) == (None, None, None)


def test_each_speed_stands_beside_what_the_cost_model_expects_there(engine):
    cases = [BenchCase(PROMPT, 8, 3), BenchCase(DECODE, 4, 20)]
    prompt, decode = measure(engine, cases, 1, 40.0)
    known = (engine.plan, engine.prepared.inventory, engine.prepared.machine)
    assert prompt.predicted_tok_s == expected_pace(*known, 3, 8)[0].tokens_per_s
    assert decode.predicted_tok_s == expected_pace(*known, 22)[0].tokens_per_s
    assert decode.over_prediction == decode.median_tok_s / decode.predicted_tok_s - 1


def test_time_outside_native_code_is_a_share_of_the_passes_when_it_is_counted(engine, monkeypatch):
    case, fill = BenchCase(DECODE, 2), engine.fill
    [counted] = measure(engine, [case], 1, 40.0)
    assert 0 < counted.outside_native < 1
    monkeypatch.setattr(
        engine,
        "fill",
        lambda ids: [replace(step, native_s=0.75 * step.seconds) for step in fill(ids)],
    )
    [known] = measure(engine, [case], 1, 40.0)
    assert known.outside_native == pytest.approx(0.25)


def test_a_result_gives_the_median_and_the_spread():
    limit = ReadLimit(20.0, "CUDA0", is_measured=False)
    result = BenchResult(BenchCase(DECODE, 4), (9.0, 11.0, 10.0), {"CPU": 7}, 7, limit, 8.0)
    record = result.record()
    assert (record["tok_s"], record["min_tok_s"], record["max_tok_s"]) == (10.0, 9.0, 11.0)
    assert record["spread"] == pytest.approx(0.2)
    assert (record["share_of_limit"], record["over_prediction"]) == (0.5, 0.25)
    assert (record["limit_memory"], record["limit_is_measured"]) == ("CUDA0", False)
    assert (record["test"], record["work"]) == ("tg4", "decode")


def test_a_test_longer_than_the_context_fails_before_any_work(engine, passes):
    cases = [BenchCase(DECODE, 1), BenchCase(PROMPT, 40, depth_tokens=25)]
    with pytest.raises(ContextError) as raised:
        list(measure(engine, cases, 1, 40.0))
    assert "pp40 @ d25 needs 65 tokens" in str(raised.value)
    assert "-c 65" in str(raised.value)
    assert passes == []


def test_reading_the_ram_gives_gigabytes_per_second():
    assert 0.1 < ram_read_gb_s(1) < 10_000
