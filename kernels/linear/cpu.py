"""Calls `cpu.cpp`: one job of the worker pool."""

import ctypes

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.native import pool, records, tiers
from kernels.native.library import library


def linear(x: Tensor, weight: BlockTensor) -> Tensor:
    return _product(x, weight, records.EXACT)


def linear_rounded(x: Tensor, weight: BlockTensor) -> Tensor:
    return _product(x, weight, records.ROUNDED)


def _product(x: Tensor, weight: BlockTensor, precision: int) -> Tensor:
    if x.stride(1) != 1:
        x = x.contiguous()
    tokens, rows = len(x), weight.shape[0]
    y = torch.empty(tokens, rows)
    if not y.numel():
        return y
    record = ctypes.byref(records.matrix(weight))
    threads = pool.threads_for(rows * weight.columns)
    needed = library().hybrid_linear_bytes(tiers.current(), precision, record, tokens, threads)
    workspace = torch.empty(needed, dtype=torch.uint8)
    pool.run(
        library().hybrid_linear,
        tiers.current(),
        precision,
        threads,
        record,
        x.data_ptr(),
        x.stride(0),
        tokens,
        y.data_ptr(),
        workspace.data_ptr(),
        needed,
    )
    return y
