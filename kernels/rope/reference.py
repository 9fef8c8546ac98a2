"""The meaning of `rope` and of YaRN's frequencies in plain torch."""

import math

import torch
from torch import Tensor


def inverse_frequencies(length: int, base: float) -> Tensor:
    """base^(-2i/length), [length / 2] float64."""
    return base ** (-torch.arange(0, length, 2, dtype=torch.float64) / length)


def yarn_frequencies(
    length: int, base: float, factor: float, original_context: int, betas: tuple[float, float]
) -> Tensor:
    """See `kernels.rope.frequencies`; betas are (fast, slow)."""
    plain = inverse_frequencies(length, base)
    low = max(0.0, math.floor(pair_with_turns(betas[0], length, base, original_context)))
    high = min(length - 1.0, math.ceil(pair_with_turns(betas[1], length, base, original_context)))
    pair = torch.arange(length // 2, dtype=torch.float64)
    ramp = ((pair - low) / max(0.001, high - low)).clamp(0.0, 1.0)
    return plain * (1.0 - ramp) + plain / factor * ramp


def pair_with_turns(turns: float, length: int, base: float, context: int) -> float:
    """Number of the pair, as a real number, that turns so many times within the context."""
    return length * math.log(context / (turns * 2.0 * math.pi)) / (2.0 * math.log(base))


def rope(x: Tensor, positions: Tensor, frequency: Tensor, amplitude: float) -> Tensor:
    """See `kernels.rope.rope`."""
    angle = positions.double()[:, None] * frequency.to(x.device)  # [tokens, length / 2]
    angle = angle.view(len(x), *[1] * (x.ndim - 2), len(frequency))
    cos, sin = (angle.cos() * amplitude).float(), (angle.sin() * amplitude).float()
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)
