"""What the split kernels of decode attention leave, for those who merge it."""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

PARTS = {  # what a split's mean is stored as -> the struct of splits.h
    torch.float32: "FloatPart",
    torch.float16: "HalfPart",
    torch.bfloat16: "BfloatPart",
}


@dataclass(frozen=True, slots=True)
class SplitResults:
    """What decode attention left, split by split, and how it chose the splits.

    partial      [tokens, heads, cap, latent] float32, float16 or bfloat16: the splits' means
    statistics   [tokens, heads, cap, 2] float32: high score in base 2, sum of 2^(score - high)
    seen         [tokens] int32, cache rows each token sees
    min_tokens   a split has max(min_tokens, round_up(ceil(seen / cap), granule)) of them
    """

    partial: Tensor
    statistics: Tensor
    seen: Tensor
    min_tokens: int
    granule: int

    def record(self) -> "SplitResultsRecord":
        _, heads, cap, latent = self.partial.shape
        return SplitResultsRecord(
            self.partial.data_ptr(),
            self.statistics.data_ptr(),
            self.seen.data_ptr(),
            heads,
            latent,
            cap,
            self.min_tokens,
            self.granule,
        )


class SplitResultsRecord(ctypes.Structure):
    _fields_ = [
        ("partial", ctypes.c_void_p),
        ("statistics", ctypes.c_void_p),
        ("seen", ctypes.c_void_p),
        ("heads", ctypes.c_int32),
        ("latent", ctypes.c_int32),
        ("cap", ctypes.c_int32),
        ("min_tokens", ctypes.c_int32),
        ("granule", ctypes.c_int32),
    ]
