"""Launches `gpu.cu`: the routed experts here and the shared feed-forward of a decode step.

    expert_hidden(h, tokens, routing, routed, shared, norm, epsilon)
    expert_down(h, tokens, routing, routed, shared)

A dense layer has the shared part alone; a layer whose experts the CPU computes has no routed one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from kernels.cuda import Program
from kernels.errors import KernelInputError
from kernels.expert_ffn.gpu_records import DownPart, DownRecord, HalvesRecord, HiddenRecord
from kernels.planar import PlanarTensor
from kernels.planar.gpu import BOOK_BYTES

MOST_TOKENS, MOST_USED = 8, 16  # of users.h
PROGRAM = Program("expert_ffn/gpu.cu")
_THREADS, _WARPS, _UNIT_ROWS = 256, 8, 32
_THREADS_OF_ONE = 512  # of hidden_one.h
_EMULATED_PROCESSORS = 2
_AT_ONCE = 3  # of expert_hidden_small, run on a processor at once
_PLAIN = ("F32", "F16", "BF16")
_SHARED_BYTES = 96 << 10  # of a block, on every GPU from sm_80 on
_ROWS_FOR_PAIRS = 4096  # from so many on a warp of expert_down takes two at once


@dataclass(frozen=True, slots=True)
class Routed:
    """Which experts the tokens chose, and which are here.

    chosen         [tokens or more, used] int32, model-wide expert numbers
    share          [tokens or more, used] float32
    first_expert   number of the first expert here; slots of experts elsewhere add nothing
    """

    chosen: Tensor
    share: Tensor
    first_expert: int = 0


@dataclass(frozen=True, slots=True)
class Halves:
    """What expert_hidden multiplies with.

    gate, up   [experts, rows, width], or [rows, width] of the shared part; up None: gate holds
               both, [experts, 2 rows, width], the rows of gate first
    hidden     routed [tokens or more, used, rows], shared [tokens or more, rows] float32; written.
               Opaque where `down` is a format of blocks: then it is rounded as ggml does
    down       the format that multiplies hidden
    """

    gate: PlanarTensor
    up: PlanarTensor | None
    hidden: Tensor
    down: PlanarTensor

    @property
    def rows(self) -> int:
        return self.gate.shape[-2] // (2 if self.up is None else 1)


def expert_hidden(
    x: Tensor,
    tokens: int,
    routing: Routed | None,
    routed: Halves | None,
    shared: Halves | None,
    norm: Tensor | None = None,
    epsilon: float = 0.0,
) -> None:
    """hidden[t, slot] = silu(gate_e x̂[t]) * (up_e x̂[t]), e = chosen[t, slot]; shared part alike.

    x         [tokens or more, width] float32
    routing   with `routed`; both None: no experts here
    routed    its experts are numbers first_expert to first_expert + experts - 1
    shared    the shared experts or the dense feed-forward; None: there is none
    norm      [width] float32: x̂ = rms_norm(x) · norm; None: x̂ = x

    Rows of hidden whose expert is elsewhere, or that a slot before them of the same token stands
    for, are left as they were. Formats of blocks multiply x̂ rounded to eight bits per 32; plain
    floats multiply float32. An expert's weights are read once for all tokens that chose it.
    Raises KernelInputError when shapes do not fit.
    """
    _check(tokens, routing, routed is not None, shared is not None)
    for part in (routed, shared):
        if part is not None:
            _check_halves(x, part)
    if norm is not None and norm.data_ptr() % 16:
        raise KernelInputError("norm is to begin at a multiple of 16 bytes")
    record = HiddenRecord(
        _halves_record(routed),
        _halves_record(shared),
        x.data_ptr(),
        0 if norm is None else norm.data_ptr(),
        0 if routing is None else routing.chosen.data_ptr(),
        epsilon,
        tokens,
        0 if routing is None else routing.chosen.shape[-1],
        0 if routing is None else routing.first_expert,
        0 if routed is None else routed.gate.shape[0],
        0,
    )
    formats = hidden_formats(routed, shared)
    at_once = users_at_once(formats, x.shape[-1], tokens)
    units = 0
    if routed is not None and routing is not None:
        units += tokens * routing.chosen.shape[-1] * -(-routed.rows // _UNIT_ROWS)
    if shared is not None:
        units += -(-shared.rows // _UNIT_ROWS)
    shared_bytes = at_once * _held_bytes(formats, x.shape[-1])
    with_books = shared_bytes + max(_book_bytes(formats[:2]), _book_bytes(formats[2:]))
    if tokens == 1 and with_books == shared_bytes and units <= _AT_ONCE * _processors(x.device):
        kernel = PROGRAM.kernel(f"expert_hidden_small<{', '.join(formats)}>", x.device)
        kernel.launch((units, 1, 1), _THREADS, record, shared_bytes)
    elif tokens == 1 and with_books <= _SHARED_BYTES:
        kernel = PROGRAM.kernel(f"expert_hidden_one<{', '.join(formats)}>", x.device)
        blocks = min(units, _processors(x.device))
        kernel.launch((blocks, 1, 1), _THREADS_OF_ONE, record, with_books)
    else:
        kernel = PROGRAM.kernel(f"expert_hidden<{at_once}, {', '.join(formats)}>", x.device)
        kernel.launch((units, 1, 1), _THREADS, record, shared_bytes)


def expert_down(
    h: Tensor,
    tokens: int,
    routing: Routed | None,
    routed: Halves | None,
    shared: Halves | None,
) -> None:
    """h[t] += Σ_slot share[t, slot] · down_e hidden[t, slot] + down_shared hidden_shared[t].

    h         [tokens or more, width] float32, added to
    routing, routed, shared   as expert_hidden was given them

    Each value has one writer, which adds in the same order at every launch.
    Raises KernelInputError when shapes do not fit.
    """
    _check(tokens, routing, routed is not None, shared is not None)
    for part in (routed, shared):
        if part is not None and part.down.shape[-2:] != (h.shape[-1], part.rows):
            raise KernelInputError(f"down {part.down.shape} does not fit h {tuple(h.shape)}")
    record = DownRecord(
        _down_record(routed),
        _down_record(shared),
        0 if routing is None else routing.chosen.data_ptr(),
        0 if routing is None else routing.share.data_ptr(),
        h.data_ptr(),
        h.shape[-1],
        tokens,
        0 if routing is None else routing.chosen.shape[-1],
        0 if routing is None else routing.first_expert,
        0 if routed is None else routed.down.shape[0],
        0,
    )
    name, rows, shared_bytes = down_kernel(h.shape[-1], tokens, routing, routed, shared)
    kernel = PROGRAM.kernel(name, h.device)
    blocks = -(-h.shape[-1] // (rows * _WARPS))
    kernel.launch((blocks, 1, 1), _THREADS, record, shared_bytes)


def down_kernel(
    width: int,
    tokens: int,
    routing: Routed | None,
    routed: Halves | None,
    shared: Halves | None,
) -> tuple[str, int, int]:
    """The kernel's name, how many rows its warps take, and bytes of shared memory.

    One token's hidden values are held by every block where they fit.
    """
    some = routed or shared
    assert some is not None
    rows = 2 if width >= _ROWS_FOR_PAIRS else 1
    formats = [(part or some).down.format.name for part in (routed, shared)]
    used = routing.chosen.shape[-1] if routing is not None else 0
    held = _book_bytes(formats) + sum(
        count * _row_bytes(part.down.format.name, part.rows)
        for part, count in ((routed, used), (shared, 1))
        if part is not None
    )
    if tokens == 1 and held <= _SHARED_BYTES:
        return f"expert_down_one<{rows}, {', '.join(formats)}>", rows, held
    return f"expert_down<{_room(tokens)}, {rows}, {', '.join(formats)}>", rows, 0


def hidden_formats(routed: Halves | None, shared: Halves | None) -> tuple[str, ...]:
    """gate and up of both parts; an absent part has the other one's, so that kernels are fewer."""
    some = routed or shared
    assert some is not None
    return tuple(
        (part.up or part.gate).format.name if is_up else part.gate.format.name
        for part in (routed or some, shared or some)
        for is_up in (False, True)
    )


def users_at_once(formats: tuple[str, ...], width: int, tokens: int) -> int:
    """Tokens whose activations a block holds; more tokens of an expert take more passes."""
    room = _SHARED_BYTES // _held_bytes(formats, width)
    return max(count for count in (1, 2, 4, 8) if count == 1 or count <= min(room, _room(tokens)))


@lru_cache
def _processors(device: torch.device) -> int:
    if device.type == "cpu":
        return _EMULATED_PROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count


def _room(tokens: int) -> int:
    return next(count for count in (1, 2, 4, 8) if count >= tokens)


def _held_bytes(formats: tuple[str, ...], width: int) -> int:
    """The most that one of the two parts needs of one token; as held_bytes of hidden.h."""
    return max(
        sum({_row_bytes(name, width) for name in pair}) for pair in (formats[:2], formats[2:])
    )


def _book_bytes(pair: Sequence[str]) -> int:
    """Books of both formats; one format has one."""
    return sum(BOOK_BYTES.get(name, 0) for name in set(pair))


def _row_bytes(name: str, columns: int) -> int:
    """Activations that a format multiplies: float32, or rounded for formats of blocks."""
    return -(-columns // 8) * 32 if name in _PLAIN else (columns // 32 + 1) // 2 * 80


def _halves_record(part: Halves | None) -> HalvesRecord:
    if part is None:
        return HalvesRecord()
    gate, up = part.gate.record(), (part.up or part.gate).record()
    if part.up is None:
        up.first_row += part.rows
    gate.rows = up.rows = part.rows
    rounded = part.down.format.name not in _PLAIN
    return HalvesRecord(gate, up, part.gate.shape[-2], part.hidden.data_ptr(), rounded, 0)


def _down_record(part: Halves | None) -> DownPart:
    if part is None:
        return DownPart()
    weight = part.down.record()
    weight.rows = part.down.shape[-2]
    return DownPart(weight, part.down.shape[-2], part.hidden.data_ptr())


def _check(tokens: int, routing: Routed | None, is_routed: bool, is_shared: bool) -> None:
    if not 1 <= tokens <= MOST_TOKENS:
        raise KernelInputError(f"{tokens} tokens; there is room for 1 to {MOST_TOKENS}")
    if not is_routed and not is_shared:
        raise KernelInputError("neither routed experts nor a shared feed-forward are here")
    if (routing is not None) != is_routed:
        raise KernelInputError("routing and routed experts go together")
    if routing is None:
        return
    chosen, share = routing.chosen, routing.share
    if chosen.dtype != torch.int32 or share.dtype != torch.float32 or chosen.shape != share.shape:
        raise KernelInputError(
            f"chosen {chosen.dtype} {tuple(chosen.shape)},"
            f" share {share.dtype} {tuple(share.shape)} do not fit"
        )
    if len(chosen) < tokens or not 0 < chosen.shape[-1] <= MOST_USED:
        raise KernelInputError(
            f"chosen {tuple(chosen.shape)} is to have {tokens} rows, at most {MOST_USED} columns"
        )


def _check_halves(x: Tensor, part: Halves) -> None:
    gate, up = part.gate, part.up
    if x.dtype != torch.float32 or not x.is_contiguous() or gate.columns != x.shape[-1]:
        raise KernelInputError(
            f"x {x.dtype} {tuple(x.shape)} does not fit gate {gate.shape}, or is not contiguous"
        )
    if up is not None and up.shape != gate.shape:
        raise KernelInputError(f"gate {gate.shape} and up {up.shape} differ")
    if part.hidden.dtype != torch.float32 or part.hidden.shape[-1] != part.rows:
        raise KernelInputError(
            f"hidden {part.hidden.dtype} {tuple(part.hidden.shape)} is to have rows of {part.rows}"
        )
    if x.data_ptr() % 16 or part.hidden.data_ptr() % 16 or not part.hidden.is_contiguous():
        raise KernelInputError("x and hidden are to be contiguous, from a multiple of 16 bytes on")
    if part.down.columns != part.rows:
        raise KernelInputError(f"down {part.down.shape} does not fit {part.rows} rows of gate")
