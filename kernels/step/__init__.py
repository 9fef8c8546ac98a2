"""Contract: both ends of a decode step, as kernels that a captured graph can hold.

`begin_step` takes a step's inputs out of memory that the CPU wrote, `argmax` leaves each token's
most likely successor where the CPU can read it: a graph is replayed without touching its nodes.
"""

from collections.abc import Mapping
from itertools import accumulate
from typing import TypeVar

import torch
from torch import Tensor

from kernels.errors import KernelInputError
from kernels.step import gpu, reference
from kernels.step.records import ArgmaxScratch, Greatest, StepInput

__all__ = [
    "ArgmaxScratch",
    "Greatest",
    "StepInput",
    "argmax",
    "argmax_scratch",
    "begin_step",
    "step_input",
]

Implementation = TypeVar("Implementation")

ALIGNMENT_BYTES = 16  # of each tensor: what kernels load at once

BEGIN_STEP = {"gpu": gpu.begin_step, "reference": reference.begin_step}
ARGMAX = {"gpu": gpu.argmax, "reference": reference.argmax}


def step_input(tokens: int, width: int, device: torch.device, *, pinned: bool = False) -> StepInput:
    """Zeroed buffers of a step, the four tensors in one piece of memory.

    pinned   page-locked host memory, which every GPU can read; device must be the CPU
    """
    sizes = (4 * tokens * width, 8 * tokens, 4 * tokens, 4 * tokens)
    starts = [0, *accumulate(-(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES for size in sizes)]
    memory = torch.zeros(starts[-1], dtype=torch.uint8, device=device, pin_memory=pinned)
    hidden, rows, positions, seen = (
        memory[start : start + size] for start, size in zip(starts, sizes, strict=False)
    )
    return StepInput(
        hidden=hidden.view(torch.float32).view(tokens, width),
        positions=positions.view(torch.int32),
        rows=rows.view(torch.int64),
        seen=seen.view(torch.int32),
    )


def begin_step(source: StepInput, target: StepInput, *, implementation: str | None = None) -> None:
    """target = source, all four tensors in one launch.

    source   in pinned host memory, written before the launch; not to be written again before the
             step has ended
    target   on the device, of equal shapes

    implementation   a name of BEGIN_STEP; None: "gpu" on CUDA, else "reference"

    Does not wait for the GPU. Raises KernelInputError when shapes, dtypes or memory do not fit.
    """
    for name, given, wanted in source.pairs(target):
        if given.shape != wanted.shape or given.dtype != wanted.dtype:
            raise KernelInputError(
                f"{name}: {given.dtype} {tuple(given.shape)} cannot become"
                f" {wanted.dtype} {tuple(wanted.shape)}"
            )
        if not (given.is_contiguous() and wanted.is_contiguous()):
            raise KernelInputError(f"{name} must be contiguous")
        if given.device.type != "cpu" or (wanted.is_cuda and not given.is_pinned()):
            raise KernelInputError(f"{name} must come from pinned host memory, not {given.device}")
    _chosen(BEGIN_STEP, implementation, target.hidden.device)(source, target)


def argmax_scratch(tokens: int, vocabulary: int, device: torch.device) -> ArgmaxScratch:
    """Memory that `argmax` needs, for all steps; its counters are zero between two launches."""
    parts = gpu.argmax_parts(vocabulary)
    return ArgmaxScratch(
        best=torch.zeros(tokens, parts, dtype=torch.int64, device=device),
        counters=torch.zeros(tokens, dtype=torch.int32, device=device),
    )


def argmax(
    logits: Tensor,
    found: Greatest,
    scratch: ArgmaxScratch,
    host: Greatest | None = None,
    *,
    implementation: str | None = None,
) -> None:
    """index[t], value[t] = the greatest of logits[t], the lowest index among equals.

    logits   [tokens, vocabulary] float32; a NaN is greater than every number, and found
    found    index [tokens] int32 and value [tokens] float32, on the same device
    scratch  of `argmax_scratch` with at least as many tokens and this vocabulary
    host     the same once more in pinned host memory, complete when the stream has come past

    implementation   a name of ARGMAX; None: "gpu" on CUDA, else "reference"

    Does not wait for the GPU. Raises KernelInputError when shapes, dtypes or devices do not fit.
    """
    if logits.dtype != torch.float32 or logits.dim() != 2 or not logits.is_contiguous():
        raise KernelInputError(
            "logits must be contiguous float32 [tokens, vocabulary],"
            f" not {logits.dtype} {tuple(logits.shape)}"
        )
    tokens, vocabulary = logits.shape
    if not 0 < vocabulary < 1 << 31 or tokens < 1:
        raise KernelInputError(f"logits {tuple(logits.shape)} hold nothing to choose from")
    for place in (found, host) if host else (found,):
        _check_greatest(place, tokens)
    if found.index.device != logits.device:
        raise KernelInputError(f"logits are on {logits.device}, found on {found.index.device}")
    parts = gpu.argmax_parts(vocabulary)
    if scratch.best.shape[1] != parts or len(scratch.counters) < tokens:
        raise KernelInputError(f"scratch {tuple(scratch.best.shape)} is not for {[tokens, parts]}")
    _chosen(ARGMAX, implementation, logits.device)(logits, found, scratch, host)


def _check_greatest(place: Greatest, tokens: int) -> None:
    kinds = (place.index.dtype, place.value.dtype)
    if kinds != (torch.int32, torch.float32) or {place.index.shape, place.value.shape} != {
        torch.Size([tokens])
    }:
        raise KernelInputError(
            f"index and value must be int32 and float32 [{tokens}], not {kinds}"
            f" {tuple(place.index.shape)} and {tuple(place.value.shape)}"
        )


def _chosen(
    known: Mapping[str, Implementation], name: str | None, device: torch.device
) -> Implementation:
    name = name or ("gpu" if device.type == "cuda" else "reference")
    if name not in known:
        raise KernelInputError(f"unknown implementation {name!r}; there are {', '.join(known)}")
    return known[name]
