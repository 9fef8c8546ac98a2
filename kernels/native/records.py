"""Records of the C border as ctypes has them: product.h, feed_forward.h, block.h, serve.h.

A record holds addresses: whoever makes one keeps the tensors they point to.
"""

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from kernels.blocks import BlockTensor

if TYPE_CHECKING:  # the ops import the library, which compares its records with these
    from kernels.router.rules import RouterRules as Rules

MAX_PARTS = 16  # kMaxParts
ROUNDED, EXACT = 0, 1  # Precision

_Int32, _Int64, _Pointer, _Float = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p, ctypes.c_float


class Matrix(ctypes.Structure):
    """Rows of blocks; all zero: no matrix."""

    _fields_ = [
        ("blocks", _Pointer),
        ("row_bytes", _Int64),
        ("format", _Int32),
        ("rows", _Int32),
        ("columns", _Int32),
        ("unused", _Int32),
    ]


class ExpertPart(ctypes.Structure):
    _fields_ = [
        ("gate", Matrix),
        ("up", Matrix),
        ("down", Matrix),
        ("gate_bytes", _Int64),
        ("up_bytes", _Int64),
        ("down_bytes", _Int64),
    ]


class Experts(ctypes.Structure):
    _fields_ = [
        ("parts", _Int32),
        ("first", _Int32),
        ("count", _Int32),
        ("used", _Int32),
        ("part", ExpertPart * MAX_PARTS),
    ]


class HeadMatrices(ctypes.Structure):
    _fields_ = [("first", Matrix), ("head_bytes", _Int64)]


class RouterRules(ctypes.Structure):
    _fields_ = [
        ("experts", _Int32),
        ("used", _Int32),
        ("groups", _Int32),
        ("groups_used", _Int32),
        ("sigmoid", ctypes.c_bool),
        ("best_of_group", ctypes.c_bool),
        ("normalise", ctypes.c_bool),
        ("scale", _Float),
    ]


class LatentBlock(ctypes.Structure):
    _fields_ = [
        *((name, _Int32) for name in ("width", "heads", "nope", "rope", "value", "latent")),
        ("query_latent", _Int32),
        ("key_transposed", _Int32),
        ("absorb_up_to", _Int32),
        ("expand_up_to", _Int32),
        ("epsilon", _Float),
        ("score_scale", _Float),
        ("attention_norm", _Pointer),
        ("query_norm", _Pointer),
        ("latent_norm", _Pointer),
        ("feed_forward_norm", _Pointer),
        *((name, Matrix) for name in ("query_down", "query", "compress", "output")),
        ("key", HeadMatrices),
        ("value_up", HeadMatrices),
        *((name, Matrix) for name in ("gate", "up", "down", "router")),
        ("router_bias", _Pointer),
        ("rules", RouterRules),
        ("experts", Experts),
    ]


class CacheRows(ctypes.Structure):
    _fields_ = [
        ("first", _Pointer),
        ("stride_bytes", _Int64),
        ("format", _Int32),
        ("latent", _Int64),
        ("rope", _Int64),
    ]


class BlockPass(ctypes.Structure):
    _fields_ = [
        ("hidden", _Pointer),
        ("cosine", _Pointer),
        ("sine", _Pointer),
        ("tokens", _Int32),
        ("start", _Int32),
        ("tier", _Int32),
        ("precision", _Int32),
        ("threads", _Int32),
        ("usage_experts", _Int32),
        ("workspace", _Pointer),
        ("workspace_bytes", _Int64),
        ("marks", _Pointer),
        ("usage", _Pointer),
    ]


class BlockNeeds(ctypes.Structure):
    _fields_ = [("shared_bytes", _Int64), ("own_bytes", _Int64)]


class Mailbox(ctypes.Structure):
    """Of `mailbox.h`; GPU kernels take it as well."""

    _fields_ = [
        *((name, _Pointer) for name in ("from_gpu", "from_cpu", "posted", "x", "choice", "y")),
        ("state", _Pointer),
        ("limit_ns", _Int64),
        ("width", _Int32),
        ("used", _Int32),
    ]


class ServedMailbox(ctypes.Structure):
    _fields_ = [("at", Mailbox), ("number", ctypes.c_uint32), ("unused", _Int32)]


class ServedLayer(ctypes.Structure):
    _fields_ = [
        ("experts", _Pointer),
        ("mailbox", _Pointer),
        ("waited_s", ctypes.c_double),
        ("computed_s", ctypes.c_double),
    ]


class ServedStep(ctypes.Structure):
    _fields_ = [
        ("layers", _Pointer),
        ("mailboxes", _Pointer),
        *((name, _Int32) for name in ("count", "mailbox_count")),
        *((name, _Int32) for name in ("tokens", "tier", "precision", "threads")),
        *((name, _Int32) for name in ("next", "unused")),
        ("limit_s", ctypes.c_double),
        ("silent_s", ctypes.c_double),
        ("workspace", _Pointer),
        ("workspace_bytes", _Int64),
    ]


# By the number that hybrid_record_bytes() takes.
RECORDS = (
    *(Matrix, Experts, RouterRules, LatentBlock, BlockPass, BlockNeeds, CacheRows),
    *(Mailbox, ServedMailbox, ServedLayer, ServedStep),
)


def matrix(weight: BlockTensor | None) -> Matrix:
    """Of blocks [rows, row_bytes] on the CPU; None: no matrix."""
    if weight is None:
        return Matrix()
    blocks = weight.blocks
    return Matrix(
        blocks.data_ptr(),
        blocks.stride(0),
        weight.format.ggml_id,
        blocks.shape[0],
        weight.columns,
        0,
    )


def head_matrices(weight: BlockTensor) -> HeadMatrices:
    """Of blocks [heads, rows, row_bytes]."""
    return HeadMatrices(matrix(weight[0]), weight.blocks.stride(0))


def experts(
    parts: Sequence[tuple[BlockTensor, BlockTensor, BlockTensor]], first: int, used: int
) -> Experts:
    """Of gate, up and down [experts, rows, row_bytes], one triple a NUMA node."""
    assert 0 < len(parts) <= MAX_PARTS
    made = Experts(len(parts), first, parts[0][0].shape[0], used)
    for number, (gate, up, down) in enumerate(parts):
        strides = (weight.blocks.stride(0) for weight in (gate, up, down))
        made.part[number] = ExpertPart(matrix(gate[0]), matrix(up[0]), matrix(down[0]), *strides)
    return made


def router_rules(rules: "Rules") -> RouterRules:
    return RouterRules(
        rules.experts,
        rules.used,
        rules.groups,
        rules.groups_used,
        rules.gating.name == "SIGMOID",
        rules.group_score.name == "MAX",
        rules.normalise,
        rules.scale,
    )


def address(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
