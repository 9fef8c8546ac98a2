"""The GPU's side of the protocol in plain torch: a thread that calls these plays the GPU.

Order between the processor's stores is left to it: where it reorders them, only gpu.cu is right.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from kernels.mailbox import Mailbox

_LOOK_S = 20e-6


def publish(mailbox: Mailbox, x: Tensor, chosen: Tensor, share: Tensor) -> None:
    tokens = len(x)
    mailbox.x[:tokens].copy_(x)
    mailbox.chosen[:tokens].copy_(chosen)
    mailbox.share[:tokens].copy_(share)
    mailbox.state[0] += 1
    mailbox.posted.copy_(mailbox.state[:1].expand_as(mailbox.posted))
    mailbox.choice[:tokens, :, 1::2] = mailbox.state[0]


def receive(mailbox: Mailbox, h: Tensor) -> None:
    limit = time.monotonic() + mailbox.record.limit_ns * 1e-9
    while int(mailbox.state[1]) == 0 and not _ended(mailbox):
        if time.monotonic() > limit:
            mailbox.state[1] = 1
            mailbox.from_gpu[0] = 1
        time.sleep(_LOOK_S)
    h += mailbox.y[: len(h)]


def _ended(mailbox: Mailbox) -> bool:
    """Answered or abandoned."""
    answered, abandoned = mailbox.from_cpu[0, :2]
    behind = int(answered) - int(mailbox.state[0]) & 0xFFFFFFFF
    return behind < 1 << 31 or int(abandoned) != 0
