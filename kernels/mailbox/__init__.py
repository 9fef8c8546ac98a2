"""Contract: a GPU's captured graph calls the CPU's experts through host memory that both address.

    publish   the GPU writes x, chosen and share, each beside a number        router's blocks
    serve     the CPU sees them, runs the experts on its pool, writes y, raises the number back
    receive   the GPU waits for that and adds y to h

`mailbox.h` has the byte map and the argument why no side ever reads what the other still writes.
`serve.py` is the CPU's side of a whole decode step.
"""

import ctypes
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from kernels.errors import KernelInputError
from kernels.mailbox import gpu, reference
from kernels.native.records import Mailbox as MailboxRecord
from kernels.native.records import ServedMailbox

__all__ = ["LINE_BYTES", "Mailbox", "publish", "receive"]

LINE_BYTES = 128  # each part of the byte map begins on a multiple of it
MOST_NUMBERS = 1 << 32
_LINES, _STRETCH = 8, 256  # kLines and kStretch of mailbox.h

_Part = tuple[int, tuple[int, ...], torch.dtype]  # first byte, shape, values


class Mailbox:
    """One GPU's mailbox, made over memory that the caller gives and keeps pinned.

    memory    uint8 [nbytes(...)] on the CPU at a multiple of LINE_BYTES; pinned for a real GPU
    state     int32 [2] on the GPU: crossings published, and 1 once the GPU's limit has passed
    tokens    rows there is room for
    limit_s   the GPU waits no longer for an answer. The CPU's own limits, of a silent GPU and of a
              stalled worker, should be shorter: they say what went wrong.

    x [tokens, width], choice int32 [tokens, used, 4] (expert, number, share's bits, number), posted
    int32 [stretches], y [tokens, width], from_gpu and from_cpu are views of the memory; `record` is
    what GPU kernels take.
    Raises KernelInputError when memory or state do not fit.
    """

    def __init__(
        self, memory: Tensor, state: Tensor, *, tokens: int, width: int, used: int, limit_s: float
    ) -> None:
        if memory.numel() < self.nbytes(tokens, width, used) or memory.dtype != torch.uint8:
            raise KernelInputError(f"a mailbox does not fit {memory.dtype} {tuple(memory.shape)}")
        if memory.device.type != "cpu" or memory.data_ptr() % LINE_BYTES:
            raise KernelInputError("a mailbox is CPU memory at a multiple of 128 bytes")
        if state.dtype != torch.int32 or state.shape != (2,):
            raise KernelInputError(f"state must be int32 [2], not {state.dtype} {state.shape}")
        assert state.data_ptr() % 8 == 0  # the GPU reads both at once
        self.tokens, self.width, self.used = tokens, width, used
        self.state = state
        self._memory = memory
        parts = [
            memory[first : first + 4 * math.prod(shape)].view(dtype).view(shape)
            for first, shape, dtype in self._parts(tokens, width, used)
        ]
        self.from_gpu = parts[0]  # gave_up
        self.from_cpu = parts[1]  # answered, abandoned in each line
        self.posted, self.x, self.choice, self.y = parts[2:]
        addresses = (view.data_ptr() for view in (*parts, state))
        self.record = MailboxRecord(*addresses, int(limit_s * 1e9), width, used)
        self.served = ServedMailbox(self.record, 0, 0)
        self.reset()

    @classmethod
    def nbytes(cls, tokens: int, width: int, used: int) -> int:
        """Bytes of memory for this many rows."""
        first, shape, _ = cls._parts(tokens, width, used)[-1]
        return _whole_lines(first + 4 * math.prod(shape))

    @staticmethod
    def _parts(tokens: int, width: int, used: int) -> list[_Part]:
        """The byte map."""
        parts: list[_Part] = []
        first = 0
        shapes: tuple[tuple[tuple[int, ...], torch.dtype], ...] = (
            ((1,), torch.int32),
            ((_LINES, LINE_BYTES // 4), torch.int32),
            ((-(-width // _STRETCH),), torch.int32),
            ((tokens, width), torch.float32),
            ((tokens, used, 4), torch.int32),
            ((tokens, width), torch.float32),
        )
        for shape, dtype in shapes:
            parts.append((first, shape, dtype))
            first = _whole_lines(first + 4 * math.prod(shape))
        return parts

    @property
    def chosen(self) -> Tensor:
        """[tokens, used] int32, model-wide expert numbers."""
        return self.choice[..., 0]

    @property
    def share(self) -> Tensor:
        """[tokens, used] float32."""
        return self.choice.view(torch.float32)[..., 2]

    def reset(self, number: int = 0) -> None:
        """As new, also after a failure: both sides go on from this number.

        The GPU must not be inside a step: after an abandoned one, wait for its stream first.
        """
        assert 0 <= number < MOST_NUMBERS
        signed = ctypes.c_int32(number).value
        self.state.copy_(torch.tensor([signed, 0], dtype=torch.int32))
        self.from_gpu.zero_()
        self.from_cpu[:, 0], self.from_cpu[:, 1] = signed, 0
        self.posted.fill_(signed)
        self.choice[..., 1::2] = signed
        self.served.number = number

    @property
    def failed(self) -> str | None:
        """Which side ended the step, if one did: what the GPU computed since then is garbage."""
        if int(self.from_gpu[0]):
            return "the GPU gave up"
        return "the CPU abandoned the step" if int(self.from_cpu[0, 1]) else None


def _whole_lines(nbytes: int) -> int:
    return -(-nbytes // LINE_BYTES) * LINE_BYTES


def publish(
    mailbox: Mailbox,
    x: Tensor,
    chosen: Tensor,
    share: Tensor,
    *,
    implementation: str | None = None,
) -> None:
    """Posts the next crossing. For tests and benches: `mailbox.h` gives it to the router's kernel.

    x        [tokens, width] float32, contiguous, on the GPU, as all here
    chosen   [tokens, used] int32, model-wide expert numbers
    share    [tokens, used] float32

    Does not wait. Raises KernelInputError when shapes or dtypes do not fit.
    """
    _check(mailbox, x)
    shape = (x.shape[0], mailbox.used)
    if chosen.shape != shape or share.shape != shape:
        raise KernelInputError(f"chosen {chosen.shape} and share {share.shape} must be {shape}")
    if (chosen.dtype, share.dtype) != (torch.int32, torch.float32):
        raise KernelInputError(f"chosen {chosen.dtype} and share {share.dtype} do not fit")
    if not chosen.is_contiguous() or not share.is_contiguous():
        raise KernelInputError("chosen and share must be contiguous")
    _choose(PUBLISH, implementation, x)(mailbox, x, chosen, share)


def receive(mailbox: Mailbox, h: Tensor, *, implementation: str | None = None) -> None:
    """h[t] += y[t] once the crossing published last is answered, in place.

    h   [tokens, width] float32, contiguous, on the GPU

    Waits on the GPU, for the host nothing. Goes on without an answer when the CPU has abandoned the
    step or the mailbox's limit has passed: h is garbage then, and `Mailbox.failed` tells.
    Raises KernelInputError when the shape or dtype does not fit.
    """
    _check(mailbox, h)
    _choose(RECEIVE, implementation, h)(mailbox, h)


def _check(mailbox: Mailbox, rows: Tensor) -> None:
    fits = rows.ndim == 2 and rows.shape[1] == mailbox.width and rows.dtype == torch.float32
    if not fits or not 0 < rows.shape[0] <= mailbox.tokens or not rows.is_contiguous():
        raise KernelInputError(
            f"rows must be contiguous float32 [1 to {mailbox.tokens}, {mailbox.width}], "
            f"not {rows.dtype} {tuple(rows.shape)}"
        )
    if rows.device != mailbox.state.device:
        raise KernelInputError(f"rows on {rows.device}, the mailbox's state is elsewhere")


def _choose(known: "Implementations", name: str | None, rows: Tensor) -> Callable[..., None]:
    """`name`d of `known`; without a name "gpu" on a GPU, where there is nothing else."""
    name = name or ("gpu" if rows.is_cuda else "reference")
    if name not in known:
        raise KernelInputError(f"unknown implementation {name!r}; there are {', '.join(known)}")
    return known[name]


Implementations = Mapping[str, Callable[..., None]]
PUBLISH: Implementations = {"gpu": gpu.publish, "reference": reference.publish}
RECEIVE: Implementations = {"gpu": gpu.receive, "reference": reference.receive}
