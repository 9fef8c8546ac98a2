"""What a prompt's pass takes of a GPU's memory against what the plan reserves.

Tensors without data stand for the GPU's: what a pass asks for is counted, nothing is computed.
"""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from hybrid.models.parts import Step
from hybrid.runtime.cache import make_cache
from hybrid.runtime.experts import ExpertWeights
from hybrid.runtime.gpu import prompt, prompt_experts
from hybrid.runtime.gpu.expert_stream import ExpertStream
from hybrid.runtime.gpu.prompt import PromptPass, Turn
from hybrid.runtime.gpu.weights import (
    GpuWeights,
    HeadMatrices,
    ResidentWeights,
    RouterWeights,
)
from kernels.blocks import BlockTensor
from kernels.formats import BY_NAME
from kernels.latent_block import LatentShape
from kernels.planar import PlanarTensor
from kernels.router import Gating, GroupScore, RouterRules
from placement.inventory import ModelShape
from placement.memory.gpu_scratch import (
    STAGED_BYTES,
    decoded_values,
    passing_bytes,
    prompt_bytes,
    stream_bytes,
)
from placement.workload import Workload, cache_bytes
from tests.runtime.live_bytes import LiveBytes
from tools.bench.gpu_prompt_blocks import LITE, V3

META = torch.device("meta")
PRODUCTS = torch.bfloat16
Q8_0, F32 = BY_NAME["Q8_0"], BY_NAME["F32"]
NARROW = replace(
    LITE,
    embedding_length=64,
    feed_forward_length=96,
    head_count=3,
    key_length=48,
    value_length=32,
    latent_length=64,
    rope_length=16,
    expert_count=8,
    expert_used_count=3,
    expert_feed_forward_length=32,
    shared_feed_forward_length=32,
)


@dataclass(frozen=True)
class Layer:
    """query_latent 0: plain queries; routed: experts beside the shared feed-forward."""

    query_latent: int = 0
    joined: bool = False
    routed: bool = True


def planes(*shape: int) -> PlanarTensor:
    rows = torch.Size(shape[:-1]).numel()
    data = torch.empty(rows * Q8_0.row_bytes(shape[-1]), dtype=torch.uint8, device=META)
    return PlanarTensor(data, Q8_0, shape, rows)


def vector(length: int) -> Tensor:
    return torch.empty(length, device=META)


def weights(shape: ModelShape, layer: Layer, resident: bool) -> GpuWeights:
    width, heads, low = shape.embedding_length, shape.head_count, layer.query_latent
    nope, value = shape.key_length - shape.rope_length, shape.value_length
    length = shape.shared_feed_forward_length if layer.routed else shape.feed_forward_length
    return GpuWeights(
        shape=latent_shape(shape, low),
        attention_norm=vector(width),
        query_norm=vector(low) if low else None,
        latent_norm=vector(shape.latent_length),
        feed_forward_norm=vector(width),
        query_down=planes(low, width) if low else None,
        query=planes(heads * shape.key_length, low or width),
        compress=planes(shape.cache_row_length, width),
        **key_value(shape, nope, layer.joined),
        output=planes(width, heads * value),
        dense=(planes(length, width), planes(length, width), planes(width, length)),
        router=router(shape) if layer.routed else None,
        resident=experts(shape) if layer.routed and resident else None,
    )


def latent_shape(shape: ModelShape, query_latent: int) -> LatentShape:
    return LatentShape(
        width=shape.embedding_length,
        heads=shape.head_count,
        nope=shape.key_length - shape.rope_length,
        rope=shape.rope_length,
        value=shape.value_length,
        latent=shape.latent_length,
        query_latent=query_latent,
        absorb_up_to=0,
        expand_up_to=0,
        epsilon=1e-6,
        score_scale=0.1,
    )


def key_value(shape: ModelShape, nope: int, joined: bool) -> dict[str, HeadMatrices | bool]:
    heads, value, latent = shape.head_count, shape.value_length, shape.latent_length
    if joined:
        both = planes(heads, nope + value, latent)
        key, value_up = HeadMatrices(both, 0, nope), HeadMatrices(both, nope, value)
    else:
        key = HeadMatrices(planes(heads, latent, nope), 0, latent)
        value_up = HeadMatrices(planes(heads, value, latent), 0, value)
    return {"key": key, "value_up": value_up, "key_transposed": not joined}


def router(shape: ModelShape) -> RouterWeights:
    count = shape.expert_count
    rules = RouterRules(
        count, shape.expert_used_count, Gating.SIGMOID, 8, 4, GroupScore.TOP2_SUM, True, 2.5
    )
    return RouterWeights(planes(count, shape.embedding_length), vector(count), rules)


def experts(shape: ModelShape) -> ResidentWeights:
    count, width = shape.expert_count, shape.embedding_length
    length = shape.expert_feed_forward_length
    gate = planes(count, length, width)
    return ResidentWeights(gate, gate, planes(count, width, length), 0)


def in_ram(shape: ModelShape) -> ExpertWeights:
    count, width = shape.expert_count, shape.embedding_length
    length = shape.expert_feed_forward_length

    def blocks(rows: int, columns: int) -> BlockTensor:
        row_bytes = Q8_0.row_bytes(columns)
        memory = torch.empty(count, rows, row_bytes, dtype=torch.uint8, device=META)
        return BlockTensor(memory, Q8_0, columns)

    return ExpertWeights(blocks(length, width), blocks(length, width), blocks(width, length), 0)


@pytest.fixture(autouse=True)
def kernels_that_only_take_their_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU's kernels allocate nothing, so here they are nothing."""

    def launched(*_: object, **__: object) -> None:
        return None

    for name in ("grouped_hidden", "grouped_down", "add_pairs", "decode_into"):
        monkeypatch.setattr(prompt_experts, name, launched)
    monkeypatch.setattr(prompt, "decode_into", launched)
    monkeypatch.setattr("hybrid.runtime.gpu.expert_stream.place_rows", launched)
    monkeypatch.setattr("kernels.attention.gpu_prompt.expanded_prompt", launched)


def peak_bytes(shape: ModelShape, layer: Layer, workload: Workload, held: str) -> int:
    """Of the last micro-batch of a full context; buffers that stay are not counted."""
    values = decoded_values(shape)
    made = weights(shape, layer, held == "resident")
    stream = None
    if held == "streamed":
        part = in_ram(shape)
        one = sum(each.nbytes for each in (part.gate, part.up, part.down)) // part.count
        memory = torch.empty(stream_bytes(one, part.count), dtype=torch.uint8, device=META)
        stream = ExpertStream({0: [part]}, memory, values - 64).source(0)
    passed = PromptPass(
        made,
        Turn(torch.empty(shape.rope_length // 2, dtype=torch.float64, device=META), 1.0),
        torch.empty(values, dtype=PRODUCTS, device=META),
        workload.attention_work_bytes,
        lambda x, chosen, share: torch.zeros_like(x),
        stream,
        "triton",
    )
    room = torch.empty(cache_bytes(shape, workload, 1), dtype=torch.uint8, device=META)
    cache = make_cache(room, shape.cache_row_length, workload.cache_format)
    h = torch.empty(workload.ubatch_tokens, shape.embedding_length, device=META)
    step = Step(workload.context_tokens - workload.ubatch_tokens, workload.ubatch_tokens)
    with LiveBytes() as live:
        passed(h, step, cache)
    return live.peak


@pytest.mark.parametrize(
    "workload",
    [
        Workload(4096, 512, "bf16"),
        Workload(4096, 4096, "f16"),
        Workload(65536, 512, "q8_0", attention_work_bytes=1 << 20),
        Workload(163840, 2048, "f32", attention_work_bytes=1 << 32),
        Workload(64, 9, "q8_0"),
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [LITE, V3, NARROW], ids=["lite", "v3", "narrow"])
def test_a_pass_stays_within_the_planned_bytes(shape: ModelShape, workload: Workload) -> None:
    planned = passing_bytes(shape, workload, PRODUCTS.itemsize)
    low = 3 * shape.embedding_length // 14 // 32 * 32
    peaks = [
        peak_bytes(shape, layer, workload, held)
        for layer in (Layer(), Layer(low), Layer(low, joined=True), Layer(routed=False))
        for held in ("resident", "streamed", "away")
    ]
    assert max(peaks) <= planned
    # bounds are wide where lengths are a few values
    assert shape == NARROW or 0.5 * planned <= max(peaks)


def test_all_of_a_pass_is_its_buffers_and_what_passes() -> None:
    workload = Workload(4096)
    streamed = stream_bytes(5 << 20, 64)
    passing = passing_bytes(LITE, workload, 2)
    whole = prompt_bytes(LITE, workload, streamed_bytes=streamed)
    assert whole == 2 * decoded_values(LITE) + streamed + passing
    assert whole - streamed == prompt_bytes(LITE, workload)


@pytest.mark.parametrize(
    ("expert_bytes", "experts", "buffer_bytes"),
    [(5 << 20, 64, STAGED_BYTES), (1 << 30, 8, 1 << 30), (1 << 10, 8, 8 << 10)],
    ids=["bounded", "one expert", "few experts"],
)
def test_a_buffer_of_the_stream_holds_what_it_must(
    expert_bytes: int, experts: int, buffer_bytes: int
) -> None:
    taken = stream_bytes(expert_bytes, experts)
    assert 0 <= taken - 3 * buffer_bytes <= 3 * 1024
    part = in_ram(NARROW)
    one = sum(each.nbytes for each in (part.gate, part.up, part.down)) // part.count
    memory = torch.empty(stream_bytes(one, part.count), dtype=torch.uint8, device=META)
    assert ExpertStream({3: [part]}, memory, 1 << 20).source(3) is not None
