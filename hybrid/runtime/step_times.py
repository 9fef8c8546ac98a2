"""What one pass's time went into, device by device: measured inside it, handed to whoever listens.

    GPU   stamps of the device's clock, written by the captured graph between its parts
    CPU   the native library's and the dispatcher's clocks

Nothing is measured unless somebody listens (`Engine.listen`); then on every pass where that costs
nothing, else on one of so many, so that the whole stays under 1 % of the time.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LayerTimes:
    """Of one layer, seconds; experts_s is None for layers without routed experts."""

    attention_s: float | None
    experts_s: float | None


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Of one measured pass.

    parts         device -> part -> seconds (parts as in `hybrid.live.snapshot`: attention, dense,
                  experts, head, crossing, waiting, sampling, other). They sum to one number for all
                  devices: the wall time of the pass, less `measuring_s`, and the choice of its
                  token before it, which is the CPU's `sampling`
    layers        in order
    nodes         NUMA node -> seconds its workers spent in experts, mean of them; None where nobody
                  counts
    measuring_s   of the pass that went into measuring it
    """

    parts: Mapping[str, Mapping[str, float]]
    layers: tuple[LayerTimes, ...] = ()
    nodes: Mapping[int, float] | None = None
    measuring_s: float = 0.0
