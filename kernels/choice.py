"""The one rule by which an op picks its implementation."""

from collections.abc import Mapping
from typing import TypeVar

import torch

from kernels.errors import KernelInputError

Implementation = TypeVar("Implementation")


def choose(
    known: Mapping[str, Implementation], name: str | None, device: torch.device
) -> Implementation:
    """`name`d of `known`; without a name "native" for CPU tensors and "reference" for others."""
    if name is None:
        return known["native" if device.type == "cpu" else "reference"]
    if name not in known:
        raise KernelInputError(f"unknown implementation {name!r}; there are {', '.join(known)}")
    if name in ("native", "rounded") and device.type != "cpu":
        raise KernelInputError(f"the native library computes on the CPU, not on {device}")
    return known[name]
