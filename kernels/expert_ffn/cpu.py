"""Calls `cpu.cpp`: all of a layer's experts as one job of the worker pool."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.native import pool, records, tiers
from kernels.native.library import library

Part = tuple[BlockTensor, BlockTensor, BlockTensor]


def expert_ffn(
    x: Tensor,
    parts: Sequence[Part],
    chosen: Tensor,
    share: Tensor,
    first_expert: int,
    *,
    exact: bool,
) -> Tensor:
    """`kernels.expert_ffn.expert_ffn` of weights in one piece, or in one for each NUMA node."""
    out = torch.zeros_like(x)
    if not x.numel():
        return out
    x, chosen, share = x.contiguous(), chosen.to(torch.int32).contiguous(), share.contiguous()
    record = records.experts(parts, first_expert, chosen.shape[1])
    precision = records.EXACT if exact else records.ROUNDED
    pointer, tokens, threads = ctypes.byref(record), len(x), pool.job_threads()
    needed = library().hybrid_expert_ffn_bytes(tiers.current(), precision, pointer, tokens, threads)
    workspace = torch.empty(needed, dtype=torch.uint8)
    pool.run(
        library().hybrid_expert_ffn,
        tiers.current(),
        precision,
        threads,
        pointer,
        x.data_ptr(),
        tokens,
        chosen.data_ptr(),
        share.data_ptr(),
        out.data_ptr(),
        workspace.data_ptr(),
        needed,
    )
    return out
