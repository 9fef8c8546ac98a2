"""Contract: what a captured graph says of itself: when it came past a place, which experts were
chosen there.

    stamp   times[slot] = the device's clock, in ns, once everything before it is done
    count   usage[e] += 1 for each choice of expert e

Both in one launch. A stamp lets its successor start early, as most kernels do, so that what it
costs is about the length of an empty kernel; stamps in a row show how long that is. None may stand
in front of a kernel that reads, before it waits, what the kernel two in front of it has written:
attention's split, merge and unfold do, behind one that lets them start after its own wait.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from kernels.errors import KernelInputError
from kernels.stamp import gpu, reference

__all__ = ["count", "stamp"]


def stamp(
    times: Tensor,
    slot: int,
    chosen: Tensor | None = None,
    usage: Tensor | None = None,
    *,
    implementation: str | None = None,
) -> None:
    """times[slot] = now; usage[chosen[i]] += 1 where they are given.

    times    [slots] int64, ns of a clock that only runs forward
    chosen   [...] int32 or int64, contiguous, 0 <= chosen < experts
    usage    [experts] int32, on the same device

    Does not wait for the GPU. Raises KernelInputError when shapes or dtypes do not fit.
    """
    if times.dtype != torch.int64 or times.ndim != 1 or not 0 <= slot < len(times):
        raise KernelInputError(
            f"slot {slot} of times {times.dtype} {tuple(times.shape)}; they are int64 [slots]"
        )
    _check(chosen, usage)
    _choose(STAMP, implementation, times)(times, slot, chosen, usage)


def count(chosen: Tensor, usage: Tensor, *, implementation: str | None = None) -> None:
    """usage[chosen[i]] += 1, as `stamp` does it, and no stamp."""
    _check(chosen, usage)
    _choose(COUNT, implementation, usage)(chosen, usage)


def _check(chosen: Tensor | None, usage: Tensor | None) -> None:
    if (chosen is None) != (usage is None):
        raise KernelInputError("chosen and usage are given both or not at all")
    if chosen is None or usage is None:
        return
    if chosen.dtype not in (torch.int32, torch.int64) or not chosen.is_contiguous():
        raise KernelInputError(f"chosen must be contiguous int32 or int64, not {chosen.dtype}")
    if usage.dtype != torch.int32 or usage.ndim != 1 or not usage.is_contiguous():
        raise KernelInputError(f"usage must be int32 [experts], not {usage.dtype} {usage.shape}")
    if usage.device != chosen.device:
        raise KernelInputError(f"chosen on {chosen.device}, usage on {usage.device}")


def _choose(known: "Implementations", name: str | None, place: Tensor) -> Callable[..., None]:
    name = name or ("gpu" if place.is_cuda else "reference")
    if name not in known:
        raise KernelInputError(f"unknown implementation {name!r}; there are {', '.join(known)}")
    return known[name]


Implementations = Mapping[str, Callable[..., None]]
STAMP: Implementations = {"gpu": gpu.stamp, "reference": reference.stamp}
COUNT: Implementations = {"gpu": gpu.count, "reference": reference.count}
