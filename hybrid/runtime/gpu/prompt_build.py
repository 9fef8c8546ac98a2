"""The prompt passes of all blocks on one GPU, and the memory that they share."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hybrid.runtime.crossing import CrossedOp, Place
from hybrid.runtime.experts import ExpertWeights, expert_parts
from hybrid.runtime.gpu.expert_stream import ExpertStream
from hybrid.runtime.gpu.prompt import PromptPass, Turn
from hybrid.runtime.gpu.prompt_experts import ALIGNED_VALUES
from hybrid.runtime.gpu.prompt_watch import PromptWatch
from hybrid.runtime.gpu.weights import GpuWeights
from hybrid.runtime.plain_block import PlainBlock
from hybrid.runtime.stats import Meter
from placement.inventory import ModelShape
from placement.memory.gpu_scratch import decoded_values, stream_bytes, streams_experts
from placement.workload import Workload


def product_type(device: torch.device) -> torch.dtype:
    """Of products in prompts. Where kernels are emulated bfloat16 is not right."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


@dataclass(frozen=True, slots=True)
class PromptParts:
    """One block.

    in_ram   the op over its experts in RAM
    usage    of `PromptWatch`
    """

    plain: PlainBlock
    weights: GpuWeights
    in_ram: CrossedOp | None
    usage: Tensor


def prompt_passes(
    home: Place,
    blocks: Mapping[int, PromptParts],
    shape: ModelShape,
    workload: Workload,
    meter: Meter,
) -> dict[int, PromptPass]:
    """By layer, for passes of up to a micro-batch; takes the buffers that all of them share."""
    device = home.torch_device
    decoded = torch.empty(decoded_values(shape), dtype=product_type(device), device=device)
    used, experts = shape.expert_used_count, shape.expert_count
    streams = streams_experts(workload.ubatch_tokens, used, experts, workload.stream_tokens)
    stream = _stream(blocks, decoded) if streams else None
    attention = next(iter(blocks.values())).plain.attention
    turn = Turn(attention.frequency.to(device), attention.config.rope.amplitude)
    return {
        layer: PromptPass(
            weights=block.weights,
            turn=turn,
            decoded=decoded,
            work_bytes=attention.work_bytes,
            watch=PromptWatch(home, layer, meter, block.usage),
            away=block.in_ram,
            stream=None if stream is None else stream.source(layer),
            stream_tokens=workload.stream_tokens,
        )
        for layer, block in blocks.items()
    }


def _stream(blocks: Mapping[int, PromptParts], decoded: Tensor) -> ExpertStream | None:
    layers = {
        layer: expert_parts(block.in_ram.op)
        for layer, block in blocks.items()
        if block.in_ram is not None
    }
    if not layers:
        return None
    expert_bytes = max(_expert_bytes(parts) for parts in layers.values())
    experts = max(parts[0].count for parts in layers.values())
    room = stream_bytes(expert_bytes, experts)
    memory = torch.empty(room, dtype=torch.uint8, device=decoded.device)
    return ExpertStream(layers, memory, decoded.numel() - ALIGNED_VALUES)


def _expert_bytes(parts: tuple[ExpertWeights, ...]) -> int:
    """Of one expert, gate, up and down, all parts together."""
    nbytes = sum(w.gate.nbytes + w.up.nbytes + w.down.nbytes for w in parts)
    return -(-nbytes // parts[0].count)
