"""SIGTERM as an orderly end: what is open is closed on the way out, as after Ctrl-C."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

TERMINATED = 128 + signal.SIGTERM  # as shells report it


@contextmanager
def terminated_in_order() -> Iterator[None]:
    """The first SIGTERM inside raises SystemExit with that code; a second one ends the process at
    once. Outside of the main thread, which alone gets signals, and where it is ignored: nothing.
    """
    alone = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if alone else None
    if before in (None, signal.SIG_IGN):
        yield
        return

    def end(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, before)
        raise SystemExit(TERMINATED)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
