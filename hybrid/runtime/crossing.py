"""Activations from one device to another and back: the only file that knows two devices at once.

    home (GPU)   x ────send────┐                      ┌────return──── y     home goes on
    away (CPU)                 └── op(x) with weights ─┘
                                   that never move

A weight stays where the plan put it; what crosses is a few kilobytes of activations per token.
Order: the send is complete before the op starts (a copy to the host waits for the GPU), the op is
complete before the return starts, so neither side ever reads half a tensor. This is the
synchronous crossing of the reference kernels; a mailbox in mapped memory that a captured graph can
call takes the same two ends.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hybrid.models.parts import Block, LayerCache, Step
from hybrid.runtime.ledger import OTHER
from hybrid.runtime.stats import Meter


@dataclass(frozen=True, slots=True)
class Place:
    """A device as the runtime sees it: its name in the plan and where torch computes for it.

    A simulated GPU computes on the CPU, so two places can share a torch device and still be apart.
    """

    name: str
    torch_device: torch.device

    def wait(self) -> None:
        """Until everything queued on the device is done."""
        if self.torch_device.type == "cuda":
            torch.cuda.synchronize(self.torch_device)


class Crossing:
    """Calls an op whose weights are `away` with tensors that are at `home`, and brings the result
    home."""

    def __init__(self, home: Place, away: Place, meter: Meter) -> None:
        self.home = home
        self.away = away
        self._meter = meter

    def call(self, op: Callable[..., Any], *given: Any, **options: Any) -> Any:
        """op(*given, **options) on the away side; a tensor or a tuple of tensors comes home.

        Tensors among `given` are sent; `options` (weights, flags) are used as they are.
        """
        sent = [self._move(it, self.away) if isinstance(it, Tensor) else it for it in given]
        with self._meter.on(self.away.name):
            result = op(*sent, **options)
            self.away.wait()
        if isinstance(result, tuple):
            return tuple(self._move(tensor, self.home) for tensor in result)
        return self._move(result, self.home)

    def _move(self, tensor: Tensor, to: Place) -> Tensor:
        self._meter.crossing_bytes += tensor.nbytes
        if self._meter.ledger is None:
            return tensor.to(to.torch_device)
        with self._meter.part("crossing"):
            return tensor.to(to.torch_device)


class CrossedOp:
    """An op of `hybrid.models.parts` (linear, norm, router, experts, ...) whose weights are on
    another device."""

    def __init__(self, op: Callable[..., Any], crossing: Crossing) -> None:
        self.op = op
        self.crossing = crossing

    def __call__(self, *given: Any, **options: Any) -> Any:
        return self.crossing.call(self.op, *given, **options)


class PlacedBlock:
    """A block that computes at its home: brings the activations over when the block before lives
    elsewhere."""

    def __init__(self, block: Block, before: Place, home: Place, meter: Meter) -> None:
        self._block = block
        self._moves = before != home
        self._home = home
        self._meter = meter

    def __call__(self, h: Tensor, step: Step, cache: LayerCache) -> Tensor:
        if self._moves:
            self._meter.crossing_bytes += h.nbytes
            h = h.to(self._home.torch_device)
        with self._meter.on(self._home.name, OTHER):
            return self._block(h, step, cache)
