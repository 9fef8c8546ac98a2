"""From the weights of blocks that follow one another on a GPU to their chain: buffers, mailbox,
service, captured steps. All memory that a step uses is taken here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hybrid.runtime.crossing import CrossedOp, Place
from hybrid.runtime.experts import expert_parts
from hybrid.runtime.gpu.chain import SIZES, CpuSide, GpuChain, SizedStep
from hybrid.runtime.gpu.replay import EmulatedReplay, GraphReplay, Launches, Replay
from hybrid.runtime.gpu.stamps import NO_LAYER, StampedStep, Stamps
from hybrid.runtime.gpu.step import (
    MOST_TOKENS,
    BlockStep,
    Head,
    Lengths,
    StepBuffers,
    head_step,
    step_buffers,
)
from hybrid.runtime.gpu.weights import GpuWeights
from hybrid.runtime.plain_block import PlainBlock
from hybrid.runtime.stats import Meter
from kernels.latent_block import CacheMemory
from kernels.mailbox import LINE_BYTES, Mailbox
from kernels.mailbox.serve import Layer, Service
from kernels.step import StepInput, begin_step, step_input

GPU_LIMIT_S, SERVICE_LIMIT_S = 30.0, 10.0  # the CPU's is shorter: it says what went wrong
WORKSPACE_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class ChainParts:
    """Blocks in order; each list has one entry a block.

    first    number of the first block in the model
    usage    of `Stamps`
    in_ram   the op over the block's experts in RAM
    head     where the last block is the model's, and the head on this GPU
    """

    home: Place
    first: int
    usage: Tensor
    plains: Sequence[PlainBlock]
    weights: Sequence[GpuWeights]
    in_ram: Sequence[CrossedOp | None]
    caches: Sequence[CacheMemory]
    head: Head | None


@dataclass(frozen=True, slots=True)
class Crossings:
    """Where a chain's routers call the CPU, and who answers there."""

    mailbox: Mailbox
    service: Service


def crossings(parts: ChainParts) -> Crossings | None:
    """None where no experts are in RAM. Needs addresses only: the weights may still be read."""
    ops = [in_ram.op for in_ram in parts.in_ram if in_ram is not None]
    if not ops:
        return None
    device, width = parts.home.torch_device, parts.weights[0].shape.width
    used = _lengths(parts.weights).used
    nbytes = Mailbox.nbytes(MOST_TOKENS, width, used)
    memory = _aligned_bytes(nbytes, LINE_BYTES, pinned=device.type == "cuda")
    state = torch.zeros(2, dtype=torch.int32, device=device)
    mailbox = Mailbox(
        memory, state, tokens=MOST_TOKENS, width=width, used=used, limit_s=GPU_LIMIT_S
    )
    return Crossings(mailbox, Service([_layer(mailbox, op) for op in ops], limit_s=SERVICE_LIMIT_S))


@dataclass(frozen=True, slots=True)
class StepMemory:
    """Of steps of one size on one GPU: its chains run one after the other and share it. What a
    chain leaves in `target` has been taken when the next one on that GPU begins.
    """

    source: StepInput
    target: StepInput
    buffers: StepBuffers


def step_memory(home: Place, weights: Sequence[GpuWeights]) -> list[StepMemory]:
    """One for each of SIZES.

    weights   of all blocks on this GPU
    """
    device, first = home.torch_device, weights[0]
    found = []
    for tokens in SIZES:
        pinned = device.type == "cuda"
        source = step_input(tokens, first.shape.width, torch.device("cpu"), pinned=pinned)
        source.seen.fill_(1)
        target = step_input(tokens, first.shape.width, device)
        buffers = step_buffers(target, first.shape, _lengths(weights), first.value_up)
        found.append(StepMemory(source, target, buffers))
    return found


def build_chain(
    parts: ChainParts, memory: Sequence[StepMemory], cpu: CpuSide | None, meter: Meter
) -> GpuChain:
    """Compiles kernels and, on a GPU, runs and captures each step once; the steps it tries write
    row 0 of the caches.
    """
    steps = _block_steps(parts, None if cpu is None else cpu.mailbox)
    sizes = [_sized(parts, steps, its, cpu) for its in memory]
    return GpuChain(parts.home, parts.first, sizes, cpu, meter)


def _block_steps(parts: ChainParts, mailbox: Mailbox | None) -> list[BlockStep]:
    rope = parts.plains[0].attention.config.rope
    frequency = parts.plains[0].attention.frequency.to(parts.home.torch_device)
    return [
        BlockStep(weights, cache, frequency, rope.amplitude, mailbox if in_ram else None)
        for weights, cache, in_ram in zip(parts.weights, parts.caches, parts.in_ram, strict=True)
    ]


def _sized(
    parts: ChainParts, steps: Sequence[BlockStep], memory: StepMemory, cpu: CpuSide | None
) -> SizedStep:
    device, tokens = parts.home.torch_device, len(memory.source.positions)
    source, target, buffers = memory.source, memory.target, memory.buffers
    head = None if parts.head is None else head_step(parts.head, tokens)

    def launches() -> None:
        begin_step(source, target, implementation="gpu")
        for step in steps:
            step.launch(buffers)
        if head is not None:
            head.launch(target.hidden)

    def stamped_launches(stamps: Stamps) -> None:
        stamps.begin()
        begin_step(source, target, implementation="gpu")
        stamps.mark(NO_LAYER, "begin")
        for number, step in enumerate(steps):
            step.launch(buffers, stamps.of(number))
        if head is not None:
            head.launch(target.hidden, stamps.of(NO_LAYER))
        stamps.end()

    replay, stamped = _replay(launches, cpu, tokens, device), None
    if tokens == 1:
        stamps = Stamps(device, parts.first, len(steps), parts.usage)
        replayed = _replay(partial(stamped_launches, stamps), cpu, tokens, device)
        stamped = StampedStep(replayed, stamps)
    return SizedStep(replay, source, target, head, stamped)


def _replay(launches: Launches, cpu: CpuSide | None, tokens: int, device: torch.device) -> Replay:
    if device.type != "cuda":
        return EmulatedReplay(launches)
    return GraphReplay(device, launches, partial(_rehearse, launches, cpu, tokens, device))


def _rehearse(launches: Launches, cpu: CpuSide | None, tokens: int, device: torch.device) -> None:
    """The first run loads kernels, and loading waits for all that runs: no launch may wait for the
    CPU then, so its step is abandoned beforehand.
    """
    if cpu is not None:
        cpu.service.abandon()
    launches()
    stream = torch.cuda.current_stream(device)
    stream.synchronize()
    if cpu is None:
        return
    cpu.service.reset()
    launches()
    try:
        cpu.answer(tokens)
    except BaseException:
        stream.synchronize()  # it still writes to the mailbox
        cpu.service.reset()
        raise


def _lengths(blocks: Sequence[GpuWeights]) -> Lengths:
    routers = [w.router for w in blocks if w.router is not None]
    resident = [w.resident for w in blocks if w.resident is not None]
    dense = [w.dense for w in blocks if w.dense is not None]
    return Lengths(
        experts=max((router.rules.experts for router in routers), default=0),
        used=max((router.rules.used for router in routers), default=0),
        expert_length=max((experts.gate.shape[-2] for experts in resident), default=0),
        widest_length=max((gate.shape[-2] for gate, _, _ in dense), default=0),
    )


def _layer(mailbox: Mailbox, op: object) -> Layer:
    parts = expert_parts(op)
    return Layer(mailbox, [(w.gate, w.up, w.down) for w in parts], parts[0].first)


def _aligned_bytes(nbytes: int, alignment: int, *, pinned: bool = False) -> torch.Tensor:
    memory = torch.zeros(nbytes + alignment, dtype=torch.uint8, pin_memory=pinned)
    first = -memory.data_ptr() % alignment
    return memory[first : first + nbytes]
