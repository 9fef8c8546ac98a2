"""Contract: rotary position embedding on adjacent pairs, with YaRN frequencies."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.choice import choose
from kernels.errors import KernelInputError
from kernels.rope import cpu, reference

IMPLEMENTATIONS = {"native": cpu.rope, "reference": reference.rope}


@dataclass(frozen=True, slots=True)
class Yarn:
    """YaRN scaling as a file states it; sources in `frequencies`.

    factor             slow pairs turn this many times slower
    original_context   tokens the model was trained on before the scaling
    beta_fast, _slow   full turns within original_context: pairs that turn more often than
                       beta_fast keep their frequency, pairs that turn less often than beta_slow
                       get all of the factor
    """

    factor: float
    original_context: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0


def frequencies(
    length: int, base: float, *, linear_factor: float = 1.0, yarn: Yarn | None = None
) -> Tensor:
    """Radians per position of each rotated pair, base^(-2i/length) / linear_factor, or mixed as
    YaRN says.

    length         rotated values, even
    base           > 1
    linear_factor  divides every frequency; not used together with yarn
    returns        [length / 2] float64 on the CPU

    Raises KernelInputError for an odd length, a base or a factor out of range.
    Source: YaRN (arXiv 2309.00071), with low and high ramp ends floored and ceiled as DeepSeek's
    own code does.
    """
    if length <= 0 or length % 2:
        raise KernelInputError(f"length must be positive and even, not {length}")
    stated = (yarn.factor, yarn.original_context, yarn.beta_fast, yarn.beta_slow) if yarn else ()
    positive = (base - 1.0, linear_factor, *stated)
    if not all(0.0 < number < math.inf for number in positive):
        raise KernelInputError(f"base {base}, factor {linear_factor} or {yarn} is out of range")
    if yarn is None:
        return reference.inverse_frequencies(length, base) / linear_factor
    return reference.yarn_frequencies(
        length, base, yarn.factor, yarn.original_context, (yarn.beta_fast, yarn.beta_slow)
    )


def rope(
    x: Tensor,
    positions: Tensor,
    frequency: Tensor,
    amplitude: float = 1.0,
    *,
    implementation: str | None = None,
) -> Tensor:
    """Rotate pairs (2i, 2i+1) of the last dimension by positions · frequency[i], times amplitude.

    x                [tokens, ..., length] float32
    positions        [tokens] int64, on x's device
    frequency        [length / 2] float64, on any device
    implementation   a name of IMPLEMENTATIONS; None: "native" on the CPU, else "reference"
    returns          same shape as x, float32, a new tensor

    Angles are formed in float64: at position 10^6 a float32 angle would be wrong by 0.06 radians.
    Raises KernelInputError when shapes, dtypes or devices do not fit.
    Source: RoFormer (arXiv 2104.09864), pairs interleaved as there.
    """
    if x.dtype != torch.float32 or positions.dtype != torch.int64:
        raise KernelInputError(
            f"x must be float32 and positions int64, not {x.dtype} and {positions.dtype}"
        )
    if x.ndim < 2 or positions.shape != x.shape[:1]:
        raise KernelInputError(
            f"x {tuple(x.shape)} needs one position a token, not {tuple(positions.shape)}"
        )
    if frequency.dtype != torch.float64 or frequency.numel() * 2 != x.shape[-1]:
        raise KernelInputError(
            f"frequency must be float64 [{x.shape[-1]} / 2], "
            f"not {frequency.dtype} {tuple(frequency.shape)}"
        )
    if x.device != positions.device:
        raise KernelInputError(f"x is on {x.device}, positions on {positions.device}")
    return choose(IMPLEMENTATIONS, implementation, x.device)(x, positions, frequency, amplitude)


def rotation(positions: Tensor, frequency: Tensor, amplitude: float) -> tuple[Tensor, Tensor]:
    """cos and sin of positions · frequency, times amplitude: [tokens, length / 2] float32 each.

    positions   [tokens] int64
    frequency   [length / 2] float64, on the same device

    Angles are formed in float64, as in `rope`.
    """
    angle = positions.double()[:, None] * frequency
    return (angle.cos() * amplitude).float(), (angle.sin() * amplitude).float()
