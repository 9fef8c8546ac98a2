"""Calls `cpu.cpp`. The records are those of floats.h."""

import ctypes

import torch
from torch import Tensor

from kernels.formats import BY_NAME
from kernels.native import tiers
from kernels.native.library import library

QUERIES_AT_ONCE = 256  # of one head: packing a tile of keys costs as much as eight queries
VALUE_ROW = 16  # kValueRow of floats.h


class CacheRows(ctypes.Structure):
    _fields_ = (
        ("first", ctypes.c_void_p),
        ("stride_bytes", ctypes.c_size_t),
        ("format", ctypes.c_int32),
        ("latent", ctypes.c_size_t),
        ("rope", ctypes.c_size_t),
    )


class AbsorbedQueries(ctypes.Structure):
    _fields_ = (
        ("first", ctypes.c_void_p),
        ("token_stride", ctypes.c_size_t),
        ("head_stride", ctypes.c_size_t),
        ("tokens", ctypes.c_size_t),
        ("heads", ctypes.c_size_t),
        ("visible", ctypes.c_size_t),
        ("scale", ctypes.c_float),
    )


class PartialAttention(ctypes.Structure):
    _fields_ = (
        ("largest", ctypes.c_void_p),
        ("sum", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("value_stride", ctypes.c_size_t),
    )


class ExpandedAttention(ctypes.Structure):
    _fields_ = (
        ("q", ctypes.c_void_p),
        ("q_token", ctypes.c_size_t),
        ("q_head", ctypes.c_size_t),
        ("key", ctypes.c_void_p),
        ("key_row", ctypes.c_size_t),
        ("key_head", ctypes.c_size_t),
        ("key_rope", ctypes.c_void_p),
        ("key_rope_row", ctypes.c_size_t),
        ("value", ctypes.c_void_p),
        ("value_row", ctypes.c_size_t),
        ("value_head", ctypes.c_size_t),
        ("out", ctypes.c_void_p),
        ("out_token", ctypes.c_size_t),
        ("out_head", ctypes.c_size_t),
        ("nope_length", ctypes.c_size_t),
        ("rope_length", ctypes.c_size_t),
        ("value_length", ctypes.c_size_t),
        ("start", ctypes.c_size_t),
        ("scale", ctypes.c_float),
    )


def absorbed_attention(
    q_latent: Tensor, q_rope: Tensor, rows: Tensor, scale: float, start: int
) -> Tensor:
    tokens, heads, latent = q_latent.shape
    out = torch.empty(tokens, heads, latent)
    if not out.numel():
        return out
    q, rows = torch.cat((q_latent, q_rope), dim=-1), rows.contiguous()
    width = q.shape[-1]
    cached = CacheRows(rows.data_ptr(), 4 * width, BY_NAME["F32"].ggml_id, latent, width - latent)
    queries = AbsorbedQueries(q.data_ptr(), *q.stride()[:2], tokens, heads, start + 1, scale)
    padded = -(-latent // VALUE_ROW) * VALUE_ROW
    largest, total = torch.empty(2, tokens * heads)
    values = torch.empty(tokens * heads, padded)
    part = PartialAttention(largest.data_ptr(), total.data_ptr(), values.data_ptr(), padded)
    scratch = torch.empty(library().hybrid_absorbed_scratch(width))
    library().hybrid_absorbed_attention(
        tiers.current(),
        ctypes.addressof(cached),
        0,
        len(rows),
        ctypes.addressof(queries),
        ctypes.addressof(part),
        scratch.data_ptr(),
    )
    library().hybrid_join_attention(
        tiers.current(), ctypes.addressof(part), 1, tokens * heads, latent, out.data_ptr(), latent
    )
    return out


def expanded_attention(
    q: Tensor, k_nope: Tensor, k_rope: Tensor, v: Tensor, scale: float, start: int
) -> Tensor:
    tokens, heads, key = q.shape
    value = v.shape[-1]
    out = torch.empty(tokens, heads, value)
    if not out.numel():
        return out
    q, k_nope, k_rope, v = (_dense(each) for each in (q, k_nope, k_rope, v))
    attention = ExpandedAttention(
        *(q.data_ptr(), *q.stride()[:2]),
        *(k_nope.data_ptr(), *k_nope.stride()[:2]),
        *(k_rope.data_ptr(), k_rope.stride(0)),
        *(v.data_ptr(), *v.stride()[:2]),
        *(out.data_ptr(), *out.stride()[:2]),
        *(k_nope.shape[-1], k_rope.shape[-1], value, start, scale),
    )
    run = min(tokens, QUERIES_AT_ONCE)
    scratch = torch.empty(library().hybrid_expanded_scratch(key, value, run))
    for head in range(heads):
        for first in range(0, tokens, run):
            library().hybrid_expanded_attention(
                tiers.current(),
                ctypes.addressof(attention),
                head,
                first,
                min(first + run, tokens),
                scratch.data_ptr(),
            )
    return out


def _dense(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()
