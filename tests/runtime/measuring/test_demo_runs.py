"""The engine's own time with the demo model; on the CPU as far as it goes without a graph."""

from time import sleep

import pytest

import hybrid
from hybrid.runtime.measuring import demo_runs
from placement.machines.machine import Device, DeviceKind


class Graph:
    """The step of one token, which takes as long as it is told."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def start(self) -> None:
        pass

    def wait(self, limit_s: float | None = None) -> bool:
        sleep(self._seconds)
        return True


def test_a_prompt_is_read_anew_each_time_and_tokens_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_runs, "UBATCH", 16)
    monkeypatch.setattr(demo_runs, "TOKENS", 4)
    engine = hybrid.load("demo", context=64, ubatch=16, devices=(), threads=1)
    assert demo_runs._prompt_us(engine) > 0
    assert engine.stats.prompt_tokens == (1 + demo_runs.PROMPTS) * 16
    with pytest.raises(RuntimeError, match="not one graph"):
        demo_runs._token_us(engine)
    monkeypatch.setattr(demo_runs, "_one_token", lambda _: Graph(0.0))
    whole_us = demo_runs._token_us(engine)
    assert engine.stats.decode_tokens == demo_runs.WARM + 4
    monkeypatch.setattr(demo_runs, "_one_token", lambda _: Graph(0.2))
    assert demo_runs._token_us(engine) < whole_us - 0.1e6, "less what the graph takes"


@pytest.mark.gpu
@pytest.mark.alone
def test_the_engine_has_figures_on_hardware() -> None:
    gpu = Device("CUDA0", DeviceKind.GPU, 0, 0)
    found = demo_runs.demo_figures(gpu)
    assert 20 < found["token_us"] < 5_000
    assert 100 < found["prompt_block_us"] < 50_000
