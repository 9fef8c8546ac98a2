import pytest
import torch

from hybrid.models.parts import Step
from hybrid.runtime import stats as stats_module
from hybrid.runtime.crossing import CrossedOp, Crossing, Place, PlacedBlock
from hybrid.runtime.stats import Meter, RunStats, StepStats

CPU = Place("CPU", torch.device("cpu"))
GPU = Place("CUDA0", torch.device("cpu"))


def test_what_crosses_is_counted_both_ways():
    meter = Meter()
    op = CrossedOp(lambda x, *, factor: x * factor, Crossing(GPU, CPU, meter))
    x = torch.ones(3, 5)
    assert torch.equal(op(x, factor=2.0), x * 2)
    assert meter.crossing_bytes == 2 * x.nbytes


def test_an_op_may_return_several_tensors():
    meter = Meter()
    chosen, share = CrossedOp(lambda x: (x.long(), x), Crossing(GPU, CPU, meter))(torch.ones(4))
    assert chosen.dtype == torch.int64
    assert meter.crossing_bytes == share.nbytes + chosen.nbytes + 16


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s

    def work(self, seconds):
        self.now_s += seconds
        return torch.ones(1)


def test_time_is_charged_to_the_device_that_works(monkeypatch):
    clock, meter = Clock(), Meter()
    monkeypatch.setattr(stats_module, "perf_counter", clock)
    away = Crossing(GPU, CPU, meter)
    with meter.on("CUDA0"):
        clock.work(2)
        away.call(lambda: clock.work(6))
        clock.work(3)
    assert meter.device_seconds == {"CPU": 6, "CUDA0": 5}


def test_an_error_on_the_away_side_leaves_the_meter_balanced():
    meter = Meter()
    with pytest.raises(ZeroDivisionError):
        Crossing(GPU, CPU, meter).call(lambda: 1 / 0)
    with meter.on("CUDA0"):
        pass
    assert set(meter.device_seconds) == {"CPU", "CUDA0"}


def test_a_block_fetches_activations_only_when_the_one_before_lives_elsewhere():
    h = torch.ones(2, 3)
    for before, crossed in ((GPU, 0), (CPU, h.nbytes)):
        meter = Meter()
        block = PlacedBlock(lambda h, step, cache: h + 1, before, GPU, meter)
        assert torch.equal(block(h, Step(0, 2), None), h + 1)
        assert meter.crossing_bytes == crossed
        assert list(meter.device_seconds) == ["CUDA0"]


def test_run_stats_sum_prompt_and_decode_apart():
    stats = RunStats()
    stats.add(StepStats(10, 0, 2.0, {"CPU": 2.0}, 5), prompt=True)
    stats.add(StepStats(1, 10, 0.5, {"CPU": 0.25, "CUDA0": 0.25}, 7), prompt=False)
    assert (stats.prompt_tokens_per_s, stats.decode_tokens_per_s) == (5.0, 2.0)
    assert stats.device_s == {"CPU": 2.25, "CUDA0": 0.25}
    assert stats.crossing_bytes == 12
    assert RunStats().decode_tokens_per_s is None
