"""Contract: products of the routed experts for many tokens, each expert's tokens side by side.

    pairs = pairs_by_expert(chosen, first, experts)
    for some experts at a time, whose weights were decoded:
        grouped_hidden(x, gate, up, pairs, begin, hidden)
        grouped_down(hidden, down, pairs, begin, y)
    add_pairs(h, y, chosen, share, first, experts)

A pair is a token and one of its slots, numbered token * used + slot. Nothing here waits for the
GPU: how many pairs an expert has stays on the device, where programs find their tiles from it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kernels.errors import KernelInputError
from kernels.grouped_linear import reference

IMPLEMENTATIONS = ("triton", "reference")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs in the order in which experts take them.

    order     [tokens * used] int32: pairs by rising expert; those of experts elsewhere come last
    offsets   [experts + 1] int32: expert e has order[offsets[e] : offsets[e + 1]]
    used      slots of a token
    """

    order: Tensor
    offsets: Tensor
    used: int


def pairs_by_expert(chosen: Tensor, first_expert: int, experts: int) -> Pairs:
    """The pairs of experts first_expert .. first_expert + experts - 1, by expert, then by token.

    chosen   [tokens, used] int64 or int32, model-wide expert numbers

    Does not wait for the GPU. Raises KernelInputError for another shape or dtype.
    """
    if chosen.ndim != 2 or chosen.dtype not in (torch.int32, torch.int64):
        raise KernelInputError(
            f"chosen must be int32 or int64 [tokens, used], not {chosen.dtype} {list(chosen.shape)}"
        )
    local = (chosen.flatten() - first_expert).to(torch.int32)
    local.masked_fill_((local < 0) | (local >= experts), experts)
    experts_of, order = local.sort(stable=True)
    bounds = torch.arange(experts + 1, dtype=torch.int32, device=chosen.device)
    offsets = torch.searchsorted(experts_of, bounds, out_int32=True)
    return Pairs(order.to(torch.int32), offsets, chosen.shape[1])


def grouped_hidden(
    x: Tensor,
    gate: Tensor,
    up: Tensor,
    pairs: Pairs,
    begin: int,
    out: Tensor,
    *,
    implementation: str | None = None,
) -> None:
    """out[i] = silu(gate_e x[t]) * (up_e x[t]) for each pair i in sorted order, t its token.

    x         [tokens, width] float32, float16 or bfloat16; all tensors of one dtype and device
    gate, up  [some, feed_forward, width], of experts begin .. begin + some - 1 of `pairs`
    out       [tokens * used, feed_forward]; rows of these experts' pairs are written, no others
    implementation  a name of IMPLEMENTATIONS; None: "triton" on a GPU, else "reference"

    Sums in float32 and rounds once. Error against float64: cases.RELATIVE_ERROR by dtype.
    Does not wait for the GPU. Raises KernelInputError when shapes or dtypes do not fit.
    """
    if up.shape != gate.shape:
        raise KernelInputError(f"gate {list(gate.shape)} and up {list(up.shape)} differ")
    rows = len(x) * pairs.used
    _check((x, gate, up, out), (x.shape[1], gate.shape[1]), (rows, begin), pairs)
    _chosen(implementation, x).grouped_hidden(x, gate, up, pairs, begin, out)


def grouped_down(
    hidden: Tensor,
    down: Tensor,
    pairs: Pairs,
    begin: int,
    out: Tensor,
    *,
    implementation: str | None = None,
) -> None:
    """out[pair] = down_e hidden[i] for each pair in sorted order, i its place there.

    hidden   [tokens * used, feed_forward], as `grouped_hidden` writes it
    down     [some, width, feed_forward], of experts begin .. begin + some - 1 of `pairs`
    out      [tokens * used, width]; rows of these experts' pairs are written, no others

    Else as `grouped_hidden`.
    """
    _check((hidden, down, out), (hidden.shape[1], down.shape[1]), (len(hidden), begin), pairs)
    _chosen(implementation, hidden).grouped_down(hidden, down, pairs, begin, out)


def add_pairs(
    h: Tensor,
    y: Tensor,
    chosen: Tensor,
    share: Tensor,
    first_expert: int,
    experts: int,
    *,
    implementation: str | None = None,
) -> None:
    """h[t] += Σ_slot share[t, slot] · y[t * used + slot] over slots whose expert is here.

    h        [tokens, width] float32, contiguous, in place
    y        [tokens * used, width] float32, float16 or bfloat16, contiguous
    chosen   [tokens, used] int64 or int32; share [tokens, used] float32; both contiguous

    Adds in float32, slot after slot. Rows of y whose expert is elsewhere are not read.
    Does not wait for the GPU. Raises KernelInputError when shapes do not fit.
    """
    tokens, used = chosen.shape
    if (
        h.shape != (tokens, y.shape[-1])
        or y.shape[0] != tokens * used
        or share.shape
        != (
            tokens,
            used,
        )
    ):
        raise KernelInputError(
            f"h {list(h.shape)}, y {list(y.shape)}, chosen {list(chosen.shape)} and share"
            f" {list(share.shape)} do not fit"
        )
    if h.dtype != torch.float32 or share.dtype != torch.float32:
        raise KernelInputError(f"h and share must be float32, not {h.dtype} and {share.dtype}")
    if not all(each.is_contiguous() for each in (h, y, chosen, share)):
        raise KernelInputError("h, y, chosen and share must be contiguous")
    _chosen(implementation, h).add_pairs(h, y, chosen, share, first_expert, experts)


def _chosen(name: str | None, x: Tensor) -> Any:
    name = name or ("triton" if x.is_cuda else "reference")
    if name not in IMPLEMENTATIONS:
        raise KernelInputError(
            f"unknown implementation {name!r}; there are {', '.join(IMPLEMENTATIONS)}"
        )
    if name == "reference":
        return reference
    from kernels.grouped_linear import gpu  # noqa: PLC0415  needs Triton, which not all have

    return gpu


def _check(
    tensors: tuple[Tensor, ...], lengths: tuple[int, int], rows: tuple[int, int], pairs: Pairs
) -> None:
    """tensors: input, weights, out; lengths: of its columns and its rows; rows: pairs, begin."""
    source, *weights, out = tensors
    columns, height = lengths
    count, begin = rows
    for weight in weights:
        if weight.ndim != 3 or weight.shape[1:] != (height, columns):
            raise KernelInputError(
                f"weights {list(weight.shape)} do not fit input {list(source.shape)}"
            )
    if out.shape != (count, height) or len(pairs.order) != count:
        raise KernelInputError(
            f"out {list(out.shape)} is not [{count}, {height}], or there are {len(pairs.order)}"
            f" pairs, not {count}"
        )
    if not 0 <= begin <= len(pairs.offsets) - 1 - len(weights[0]):
        raise KernelInputError(
            f"{len(weights[0])} experts from {begin} on, of {len(pairs.offsets) - 1}"
        )
    if any(each.dtype != source.dtype or each.device != source.device for each in tensors):
        raise KernelInputError("input, weights and out must be of one dtype and on one device")
    if not all(each.is_contiguous() for each in tensors):
        raise KernelInputError("input, weights and out must be contiguous")
