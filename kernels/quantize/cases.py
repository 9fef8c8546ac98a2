"""Shapes and inputs, shared by test and bench."""

import torch
from torch import Tensor

SMALL = [(1, 32), (3, 96), (65, 512), (2, 5, 64)]
REAL = [(4096, 512)]  # latent rows of a prompt


def rows(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Normal values of magnitudes 1e-9 to 1e4, a zero row, and a row whose quotients are halves."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    x *= torch.logspace(-9, 4, x[..., 0].numel()).view(*shape[:-1], 1)
    flat = x.view(-1, shape[-1])
    if len(flat) > 2:
        flat[1] = 0
        flat[2] = (torch.arange(shape[-1]) % 32 - 15.5).clamp(max=15.5) * 8
        flat[2, ::32] = 127
    return x
