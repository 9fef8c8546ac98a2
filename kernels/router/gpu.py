"""Launches `gpu.cu`: norm, logits, choice and the mailbox's posting in one kernel."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kernels.cuda import Program, Record
from kernels.errors import KernelInputError
from kernels.native.records import Mailbox as MailboxRecord
from kernels.planar import MatrixRecord, PlanarTensor
from kernels.router.rules import Gating, GroupScore, RouterRules

if TYPE_CHECKING:
    from kernels.mailbox import Mailbox

MOST_EXPERTS, MOST_USED, MOST_GROUPS, MOST_TOKENS = 512, 16, 64, 8  # of choose.h
PROGRAM = Program("router/gpu.cu")
_BLOCKS = 132  # about as many multiprocessors as a large GPU has
_WIDE = 4096  # columns from which on a block has 512 threads


class RulesRecord(Record):
    """`Rules` of choose.h."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("experts", "used", "groups", "groups_used")),
        *((name, ctypes.c_int32) for name in ("sigmoid", "best_of_group", "normalise")),
        ("scale", ctypes.c_float),
    ]


class RouteRecord(Record):
    """`RouteRecord` of gpu.cu."""

    _fields_ = [
        ("gate", MatrixRecord),
        *((name, ctypes.c_void_p) for name in ("h", "norm", "normed", "logits", "counter")),
        ("rules", RulesRecord),
        *((name, ctypes.c_void_p) for name in ("bias", "chosen", "share")),
        ("mailbox", MailboxRecord),
        ("epsilon", ctypes.c_float),
        ("tokens", ctypes.c_int32),
    ]


class ChooseRecord(Record):
    """`ChooseRecord` of gpu.cu."""

    _fields_ = [
        ("logits", ctypes.c_void_p),
        ("rules", RulesRecord),
        *((name, ctypes.c_void_p) for name in ("bias", "chosen", "share")),
    ]


def choose_experts(
    logits: Tensor, bias: Tensor | None, rules: RouterRules
) -> tuple[Tensor, Tensor]:
    """`kernels.router.choose_experts` within MOST_EXPERTS, MOST_USED and MOST_GROUPS."""
    _check_rules(rules)
    logits = logits.contiguous()
    bias = None if bias is None else bias.contiguous()
    chosen = logits.new_empty(len(logits), rules.used, dtype=torch.int32)
    share = torch.empty_like(chosen, dtype=torch.float32)
    if len(logits):
        record = ChooseRecord(
            logits.data_ptr(),
            rules_record(rules),
            0 if bias is None else bias.data_ptr(),
            chosen.data_ptr(),
            share.data_ptr(),
        )
        kernel = PROGRAM.kernel("choose<32>", logits.device)
        kernel.launch((len(logits), 1, 1), 32, record)
    return chosen.long(), share


def route(
    h: Tensor,
    norm: Tensor,
    epsilon: float,
    gate: PlanarTensor,
    bias: Tensor | None,
    rules: RouterRules,
    logits: Tensor,
    counter: Tensor,
    chosen: Tensor,
    share: Tensor,
    tokens: int,
    publish: Mailbox | None = None,
    normed: Tensor | None = None,
) -> None:
    """logits = gate · rms_norm(h); chosen, share as `choose_experts` gives them; then posts them.

    h         [tokens or more, width] float32
    norm      [width] float32
    gate      [experts, width] of any format, decoded exactly
    bias      [experts] float32 or None
    logits    [tokens or more, experts] float32, written
    counter   [1] int32, zero before and after
    chosen    [tokens or more, used] int32, written
    share     [tokens or more, used] float32, written
    publish   the mailbox that gets rms_norm(h) · norm, chosen and share; None: nobody does
    normed    [tokens or more, width] float32, scratch; only with publish

    All of it contiguous and on one device. Does not wait; lengths are the graph's, values are not.
    Raises KernelInputError when the counts pass what the kernel has room for.
    """
    _check(h, norm, gate, rules, tokens, publish, normed)
    record = RouteRecord(
        gate.record(),
        h.data_ptr(),
        norm.data_ptr(),
        0 if normed is None else normed.data_ptr(),
        logits.data_ptr(),
        counter.data_ptr(),
        rules_record(rules),
        0 if bias is None else bias.data_ptr(),
        chosen.data_ptr(),
        share.data_ptr(),
        MailboxRecord() if publish is None else publish.record,
        epsilon,
        tokens,
    )
    rows = rows_per_block(gate)
    kernel = PROGRAM.kernel(kernel_name(gate, tokens, publish is not None), h.device)
    threads = 512 if gate.columns >= _WIDE else 256
    kernel.launch((-(-rules.experts // rows), 1, 1), threads, record)


def kernel_name(gate: PlanarTensor, tokens: int, posts: bool) -> str:
    room = next(count for count in (1, 2, 4, 8) if count >= tokens)
    return f"route<{room}, {rows_per_block(gate)}, {str(posts).lower()}, {gate.format.name}>"


def rows_per_block(gate: PlanarTensor) -> int:
    """Experts of a block: enough blocks for the GPU, and no more weights than registers."""
    most = {"F32": 4, "F16": 2, "BF16": 2}.get(gate.format.name, 1)
    return next(rows for rows in (1, 2, 4) if rows * _BLOCKS >= gate.rows or rows == most)


def rules_record(rules: RouterRules) -> RulesRecord:
    return RulesRecord(
        rules.experts,
        rules.used,
        rules.groups,
        rules.groups_used,
        rules.gating is Gating.SIGMOID,
        rules.group_score is GroupScore.MAX,
        rules.normalise,
        rules.scale,
    )


def _check(
    h: Tensor,
    norm: Tensor,
    gate: PlanarTensor,
    rules: RouterRules,
    tokens: int,
    publish: Mailbox | None,
    normed: Tensor | None,
) -> None:
    _check_rules(rules)
    if not 1 <= tokens <= MOST_TOKENS:
        raise KernelInputError(f"{tokens} tokens; there is room for 1 to {MOST_TOKENS}")
    if gate.shape != (rules.experts, h.shape[-1]) or h.dtype != torch.float32:
        raise KernelInputError(
            f"gate {gate.shape} does not fit {rules.experts} experts and h {tuple(h.shape)}"
        )
    if not h.is_contiguous() or len(h) < tokens:
        raise KernelInputError(f"h is to be contiguous [{tokens}, width], not {tuple(h.shape)}")
    if h.data_ptr() % 16 or norm.data_ptr() % 16:
        raise KernelInputError("h and norm are to begin at multiples of 16 bytes")
    if publish is not None and (normed is None or publish.width != h.shape[-1]):
        raise KernelInputError("publishing takes `normed` and a mailbox of h's width")


def _check_rules(rules: RouterRules) -> None:
    most = (MOST_EXPERTS, MOST_USED, MOST_GROUPS)
    asked = (rules.experts, rules.used, rules.groups)
    if any(count > limit for count, limit in zip(asked, most, strict=True)):
        raise KernelInputError(f"experts, used and groups are {asked}; there is room for {most}")
