"""Contract: root-mean-square norm."""

from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """x / sqrt(mean(x²) + epsilon) * weight over the last dimension.

    x        [..., width] float32
    weight   [width] float32
    returns  same shape as x, float32
    """
    raise AssertionError("written by the model's author")
