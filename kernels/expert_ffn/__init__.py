"""Contract: the routed experts' feed-forward, weighted and summed; whole, or in stages.

    for rows in expert_rows(chosen, first_expert, experts):
        x_e = x[rows.tokens]
        hidden = gated(linear(x_e, gate[rows.expert]), linear(x_e, up[rows.expert]))
        add_weighted(out, linear(hidden, down[rows.expert]), share, rows)

`expert_ffn` is this loop. A runtime whose gate, up and down lie apart writes it with its copies
between the lines.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.choice import choose
from kernels.errors import KernelInputError
from kernels.expert_ffn import cpu, gpu_whole, reference
from kernels.expert_ffn.reference import ExpertRows
from kernels.linear import linear

__all__ = ["ExpertRows", "add_weighted", "expert_ffn", "expert_rows", "gated"]


def expert_ffn(
    x: Tensor,
    gate: BlockTensor,
    up: BlockTensor,
    down: BlockTensor,
    chosen: Tensor,
    share: Tensor,
    first_expert: int = 0,
    *,
    implementation: str | None = None,
) -> Tensor:
    """Σ_k share[t, k] · down_e(silu(gate_e x[t]) * up_e x[t]), e = chosen[t, k], of experts here.

    x               [tokens, width] float32
    gate, up        [experts, feed_forward, width] blocks
    down            [experts, width, feed_forward] blocks
    chosen          [tokens, k] int64, model-wide expert numbers; those outside first_expert ..
                    first_expert+experts-1 add nothing (another device holds them); one
                    named twice by a token counts with both shares
    share           [tokens, k] float32, used as given
    first_expert    number of the first expert held here
    implementation  a name of IMPLEMENTATIONS; None: "native" on the CPU, else "reference"
    returns         [tokens, width] float32, a new tensor

    Each expert's weights are read once per call, for all its tokens; experts nobody chose are not
    touched. "rounded" rounds x and silu(gate x) * up x to eight bits as ggml does. So does "cuda",
    always per 32 values; it repacks the weights at each call, for checks. Both round nothing for
    plain floats. The others multiply and sum in float32; error against float64:
    cases.RELATIVE_ERROR.
    Raises KernelInputError when shapes, dtypes or devices do not fit.
    """
    return expert_ffn_of_parts(
        x, ((gate, up, down),), chosen, share, first_expert, implementation=implementation
    )


def expert_ffn_of_parts(
    x: Tensor,
    parts: Sequence[cpu.Part],
    chosen: Tensor,
    share: Tensor,
    first_expert: int = 0,
    *,
    implementation: str | None = None,
) -> Tensor:
    """The same of experts cut along the feed-forward: Σ over parts as well.

    parts   gate, up [experts, part of feed_forward, width] and down [experts, width, that part];
            part n is read by the workers of NUMA node n first, where there are several
    """
    for gate, up, down in parts:
        _check_weights(x, gate, up, down)
    _check_routing(x, chosen, share)
    run = choose(IMPLEMENTATIONS, implementation, parts[0][0].device)
    return run(x, parts, chosen, share, first_expert)


def by_expert(
    x: Tensor,
    parts: Sequence[cpu.Part],
    chosen: Tensor,
    share: Tensor,
    first_expert: int,
) -> Tensor:
    """The loop above: one expert after the other, every part of it."""
    multiply = partial(linear, implementation=None if x.is_cuda else "native")
    out = torch.zeros_like(x)
    for gate, up, down in parts:
        for rows in expert_rows(chosen, first_expert, gate.shape[0]):
            x_e = x[rows.tokens]
            hidden = gated(multiply(x_e, gate[rows.expert]), multiply(x_e, up[rows.expert]))
            add_weighted(out, multiply(hidden, down[rows.expert]), share, rows)
    return out


IMPLEMENTATIONS: Mapping[str, Callable[..., Tensor]] = {
    "native": partial(cpu.expert_ffn, exact=True),
    "rounded": partial(cpu.expert_ffn, exact=False),
    "cuda": gpu_whole.expert_ffn,
    "reference": by_expert,
}


def expert_rows(chosen: Tensor, first_expert: int, experts: int) -> list[ExpertRows]:
    """What each expert first_expert .. first_expert+experts-1 has to do, idle ones left out.

    chosen   [tokens, k] int64, model-wide expert numbers
    returns  by rising expert: its number counted from first_expert, its tokens, their slots

    Waits for chosen's device: the numbers come to the host.
    Raises KernelInputError for another shape or dtype.
    """
    if chosen.dtype != torch.int64 or chosen.ndim != 2:
        raise KernelInputError(
            f"chosen must be int64 [tokens, k], not {chosen.dtype} {tuple(chosen.shape)}"
        )
    return reference.expert_rows(chosen, first_expert, experts)


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, silu(t) = t · sigmoid(t).

    gate, up  [..., feed_forward] float32, same shape and device
    returns   the same shape, a new tensor

    Raises KernelInputError when shapes, dtypes or devices differ.
    """
    if gate.shape != up.shape or gate.device != up.device:
        raise KernelInputError(
            f"gate {tuple(gate.shape)} on {gate.device}, up {tuple(up.shape)} on {up.device}"
        )
    if gate.dtype != torch.float32 or up.dtype != torch.float32:
        raise KernelInputError(f"gate and up must be float32, not {gate.dtype} and {up.dtype}")
    return reference.gated(gate, up)


def add_weighted(out: Tensor, y: Tensor, share: Tensor, rows: ExpertRows) -> None:
    """out[t] += share[t, slot] · y[row] for each row of one expert's output, in place.

    out    [tokens, width] float32
    y      [rows, width] float32
    share  [tokens, k] float32
    rows   as `expert_rows` gave them; all on out's device

    Raises KernelInputError when shapes do not fit.
    """
    if y.shape != (len(rows.tokens), out.shape[-1]) or share.shape[:1] != out.shape[:1]:
        raise KernelInputError(
            f"{len(rows.tokens)} rows of {tuple(y.shape)} do not add to {tuple(out.shape)}"
        )
    reference.add_weighted(out, y, share, rows)


def _check_weights(x: Tensor, gate: BlockTensor, up: BlockTensor, down: BlockTensor) -> None:
    if len(gate.shape) != 3 or x.ndim != 2 or x.dtype != torch.float32:
        raise KernelInputError(
            f"x must be float32 [tokens, width] and gate [experts, feed_forward, width], "
            f"not {x.dtype} {tuple(x.shape)} and {gate.shape}"
        )
    experts, feed_forward, width = gate.shape
    if up.shape != gate.shape or down.shape != (experts, width, feed_forward):
        raise KernelInputError(f"gate {gate.shape}, up {up.shape}, down {down.shape} do not fit")
    if x.shape[1] != width:
        raise KernelInputError(f"x {tuple(x.shape)} does not fit gate {gate.shape}")
    devices = {x.device, gate.device, up.device, down.device}
    if len(devices) > 1:
        raise KernelInputError(f"x and weights are on {sorted(map(str, devices))}")


def _check_routing(x: Tensor, chosen: Tensor, share: Tensor) -> None:
    kinds = (chosen.dtype, share.dtype)
    if chosen.shape != share.shape or kinds != (torch.int64, torch.float32) or share.ndim != 2:
        raise KernelInputError(
            f"chosen {chosen.dtype} {tuple(chosen.shape)}, "
            f"share {share.dtype} {tuple(share.shape)} do not fit"
        )
    if chosen.shape[0] != x.shape[0] or {chosen.device, share.device} != {x.device}:
        raise KernelInputError(
            f"chosen {tuple(chosen.shape)} on {chosen.device}, x {tuple(x.shape)} on {x.device}"
        )
