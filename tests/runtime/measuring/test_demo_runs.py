"""The engine's own time with the demo model; on the CPU as far as it goes without a graph."""

from collections.abc import Callable
from dataclasses import replace
from time import sleep
from typing import Any

import pytest
import torch
from torch import Tensor

import hybrid
from hybrid.runtime.crossing import Place
from hybrid.runtime.engine import Engine
from hybrid.runtime.gpu.blocks import GpuBlock
from hybrid.runtime.measuring import demo_runs
from placement.machines.machine import CPU, Device, DeviceKind


class Graph:
    """The step of one token, which takes as long as it is told."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def start(self) -> None:
        pass

    def wait(self, limit_s: float | None = None) -> bool:
        sleep(self._seconds)
        return True


def slower(work: Callable[..., Tensor], seconds: float) -> Callable[..., Tensor]:
    def slow(*given: Any) -> Tensor:
        sleep(seconds)
        return work(*given)

    return slow


def as_on_a_gpu(engine: Engine, seconds: float) -> list[GpuBlock]:
    """The engine's blocks, a prompt slower by so much in each."""
    blocks = []
    for block in engine._model.blocks:
        made = GpuBlock(Place(CPU, torch.device("cpu")), engine._meter)
        made.prompt = slower(block, seconds)
        blocks.append(made)
    return blocks


def test_launches_are_those_of_blocks_not_of_what_a_pass_has_beside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(demo_runs, "UBATCH", 16)
    engine = hybrid.load("demo", context=64, ubatch=16, devices=(), threads=1)
    blocks = as_on_a_gpu(engine, 0.01)
    before = [block.prompt for block in blocks]
    embedding = slower(engine._model.embedding, 0.2)
    model = replace(engine._model, embedding=embedding, blocks=tuple(blocks))
    monkeypatch.setattr(engine, "_model", model)
    us = demo_runs._launches_us(engine)
    assert 0.01e6 < us < 0.05e6, "blocks of 10 ms and more; with the embedding 50 ms and more"
    assert engine.stats.prompt_tokens == (1 + demo_runs.PROMPTS) * 16
    assert [block.prompt for block in blocks] == before


def test_a_token_is_timed_less_its_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_runs, "TOKENS", 4)
    engine = hybrid.load("demo", context=64, ubatch=16, devices=(), threads=1)
    with pytest.raises(RuntimeError, match="not one graph"):
        demo_runs._token_us(engine)
    with pytest.raises(RuntimeError, match="not one graph"):
        demo_runs._launches_us(engine)
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
