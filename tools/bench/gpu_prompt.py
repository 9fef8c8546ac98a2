"""Prompts through random blocks on this GPU: tokens/s, share of its peak, bytes of its memory.

    python -m tools.bench.gpu_prompt [--shape V2-Lite] [--tokens 4096] [--ubatch 512,4096]
        [--away] [--layers 27] [--profile]

All layers of a model, without embedding and head, read a prompt micro-batch after micro-batch.
Weights are random: what is computed means nothing, which `pytest -m gpu tests/runtime` checks.
Needs no model file. Without a GPU the tiny shape runs on the CPU, to see that it runs.

    tok/s        tokens over the seconds of all layers: the median of ROUNDS prompts
    TFLOP/s      of all products and attention; `of peak`: over a large product of matrices in
                 bfloat16 that is timed just before
    PCIe GB/s    with --away: experts lie in pinned RAM and are streamed, once a micro-batch
    taken MB     most that torch had allocated beside the weights and the cache; `planned MB`:
                 `placement.memory.gpu_scratch.prompt_bytes` and the residual stream
--profile prints where the time of one micro-batch goes, kernel by kernel.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hybrid.models.parts import Step
from hybrid.runtime.cache import make_cache
from hybrid.runtime.experts import ExpertWeights
from hybrid.runtime.gpu.expert_stream import ExpertStream
from hybrid.runtime.gpu.prompt import PromptPass, Turn
from hybrid.runtime.gpu.prompt_experts import ALIGNED_VALUES
from placement.memory.gpu_scratch import decoded_values, prompt_bytes, stream_bytes
from placement.workload import Workload, cache_bytes
from tools.bench.gpu_prompt_blocks import DEVICE, SHAPES, Blocks, Shape
from tools.bench.table import Cell, show

ROUNDS = 3
PEAK_SIZE = 8192
HOST_LAYERS = 4  # different experts in RAM, used in turn: more than a CPU's caches hold
PROFILED_ROWS = 25
MB = 1e6
COLUMNS = [
    *("ubatch", "tokens", "ms", "tok/s", "TFLOP/s", "of peak"),
    *("PCIe GB/s", "taken MB", "planned MB"),
]


@dataclass(frozen=True)
class Layers:
    """Passes of all layers with their caches, and what they share."""

    passes: list[PromptPass]
    caches: list[Tensor]
    streamed_bytes: int  # of one micro-batch
    stream_buffer_bytes: int


def layers_of(shape: Shape, options: argparse.Namespace, workload: Workload) -> Layers:
    blocks = Blocks(shape)
    values = decoded_values(shape.model)
    decoded = torch.empty(values, dtype=torch.bfloat16, device=DEVICE)
    turn = Turn(turn_frequency(shape), 1.0)
    stream, buffers, streamed = None, 0, 0
    if options.away:
        host = [blocks.in_ram() for _ in range(min(HOST_LAYERS, options.layers))]
        routed = range(shape.model.dense_layers, options.layers)
        parts = {layer: [host[layer % len(host)]] for layer in routed}
        one = expert_bytes(host[0])
        buffers = stream_bytes(one, host[0].count)
        memory = torch.empty(buffers, dtype=torch.uint8, device=DEVICE)
        stream = ExpertStream(parts, memory, values - ALIGNED_VALUES)
        streamed = one * host[0].count * len(parts)
    passes = []
    for layer in range(options.layers):
        made = blocks.layer(routed=layer >= shape.model.dense_layers, resident=not options.away)
        source = stream.source(layer) if stream else None
        passes.append(PromptPass(made, turn, decoded, workload.attention_work_bytes, None, source))
    room = cache_bytes(shape.model, workload, 1)
    caches = [torch.zeros(room, dtype=torch.uint8, device=DEVICE) for _ in passes]
    return Layers(passes, caches, streamed, buffers)


def turn_frequency(shape: Shape) -> Tensor:
    pairs = torch.arange(0, shape.model.rope_length, 2, dtype=torch.float64)
    return (10000.0 ** (-pairs / shape.model.rope_length)).to(DEVICE)


def expert_bytes(weights: ExpertWeights) -> int:
    matrices = (weights.gate, weights.up, weights.down)
    return sum(each.nbytes for each in matrices) // weights.count


def prompt_of(
    shape: Shape, layers: Layers, workload: Workload, tokens: int
) -> Callable[[], Tensor]:
    """Reads a whole prompt; the last micro-batch's residual stream."""
    width = shape.model.embedding_length
    source = torch.randn(min(tokens, workload.ubatch_tokens), width, device=DEVICE)
    row = shape.model.cache_row_length
    caches = [make_cache(room, row, workload.cache_format) for room in layers.caches]

    def read() -> Tensor:
        for start in range(0, tokens, workload.ubatch_tokens):
            step = Step(start, min(workload.ubatch_tokens, tokens - start))
            h = source[: step.tokens].clone()
            for block, cache in zip(layers.passes, caches, strict=True):
                block(h, step, cache)
        return h

    return read


def seconds(work: Callable[[], object]) -> float:
    """Median of ROUNDS; the first call compiles and is not counted."""
    work()
    rounds = []
    for _ in range(ROUNDS):
        _wait()
        begin = time.perf_counter()
        work()
        _wait()
        rounds.append(time.perf_counter() - begin)
    return sorted(rounds)[ROUNDS // 2]


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def peak_flop_s() -> float:
    size = PEAK_SIZE if DEVICE.type == "cuda" else 64
    a = torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16)
    b = torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16)

    def products() -> None:
        for _ in range(10):
            torch.mm(a, b)

    return 10 * 2.0 * size**3 / seconds(products)


def row_of(shape: Shape, options: argparse.Namespace, ubatch: int, peak: float) -> list[Cell]:
    workload = Workload(options.tokens, ubatch, options.cache)
    layers = layers_of(shape, options, workload)
    read = prompt_of(shape, layers, workload, options.tokens)
    buffers = 2 * decoded_values(shape.model) + layers.stream_buffer_bytes
    before = torch.cuda.memory_allocated() if DEVICE.type == "cuda" else 0
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    assert read().isfinite().all(), "random weights grew beyond float32"
    highest = torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else 0
    took = seconds(read)
    flop = shape.flop(options.layers, options.tokens, ubatch)
    micro_batches = -(-options.tokens // ubatch)
    hidden = 2 * 4 * min(ubatch, options.tokens) * shape.model.embedding_length
    planned = prompt_bytes(shape.model, workload, streamed_bytes=layers.stream_buffer_bytes)
    if options.profile and DEVICE.type == "cuda":
        profile_of(prompt_of(shape, layers, workload, min(ubatch, options.tokens)))
    return [
        ubatch,
        options.tokens,
        took * 1e3,
        options.tokens / took,
        flop / took / 1e12,
        flop / took / peak,
        layers.streamed_bytes * micro_batches / took / 1e9,
        (highest - before + buffers) / MB,
        (planned + hidden) / MB,
    ]


def profile_of(read: Callable[[], Tensor]) -> None:
    from torch.profiler import ProfilerActivity, profile  # noqa: PLC0415  slow to import

    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as found:
        read()
        torch.cuda.synchronize()
    rows = sorted(found.key_averages(), key=lambda event: -event.device_time_total)
    for event in rows[:PROFILED_ROWS]:
        each = event.device_time_total / event.count
        total = event.device_time_total / 1e3
        print(f"{total:8.2f} ms {event.count:5} x {each:8.1f} us {event.key[:90]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = "V2-Lite" if DEVICE.type == "cuda" else "tiny"
    parser.add_argument("--shape", choices=SHAPES, default=default)
    parser.add_argument("--tokens", type=int, default=4096 if DEVICE.type == "cuda" else 24)
    parser.add_argument("--ubatch", default="512,4096" if DEVICE.type == "cuda" else "16")
    parser.add_argument("--layers", type=int, default=None)
    parser.add_argument("--cache", choices=("bf16", "f16", "q8_0", "f32"), default="bf16")
    parser.add_argument("--away", action="store_true", help="experts in RAM, streamed")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    shape = SHAPES[options.shape]
    options.layers = options.layers or shape.model.layers
    peak = peak_flop_s()
    print(f"peak: {peak / 1e12:.0f} TFLOP/s in bfloat16")
    rows = [row_of(shape, options, int(each), peak) for each in options.ubatch.split(",")]
    place = "streamed" if options.away else "resident"
    show(f"prompt, {options.shape}, experts {place}", COLUMNS, rows)


if __name__ == "__main__":
    main()
