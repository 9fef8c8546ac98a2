"""Contract: rotary position embedding on adjacent pairs, with YaRN frequencies."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Yarn:
    """YaRN scaling as a file states it; sources in `frequencies`."""

    factor: float
    original_context: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0


def frequencies(
    length: int, base: float, *, linear_factor: float = 1.0, yarn: Yarn | None = None
) -> Tensor:
    """Radians per position of each rotated pair: [length / 2] float64 on the CPU.

    Source: YaRN (arXiv 2309.00071), with low and high ramp ends floored and ceiled as DeepSeek's own code does.
    """
    raise AssertionError("written by the model's author")


def rope(x: Tensor, positions: Tensor, frequency: Tensor, amplitude: float = 1.0) -> Tensor:
    """Rotate pairs (2i, 2i+1) of the last dimension by positions · frequency[i], times amplitude.

    x          [tokens, ..., length] float32
    positions  [tokens] int64
    frequency  [length / 2] float64, angles are formed in float64
    returns    same shape as x, float32, a new tensor
    """
    raise AssertionError("written by the model's author")
