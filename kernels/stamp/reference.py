"""The meaning in plain torch, by the host's clock."""

from time import monotonic_ns

import torch
from torch import Tensor


def stamp(times: Tensor, slot: int, chosen: Tensor | None, usage: Tensor | None) -> None:
    """See `kernels.stamp.stamp`."""
    times[slot] = monotonic_ns()
    if chosen is not None and usage is not None:
        count(chosen, usage)


def count(chosen: Tensor, usage: Tensor) -> None:
    """See `kernels.stamp.count`."""
    usage += torch.bincount(chosen.flatten(), minlength=len(usage)).int()
