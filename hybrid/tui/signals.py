"""Ctrl-Z, `fg` and SIGTERM while a screen is on: the terminal is given back first, then happens
what would have happened. Ctrl-C needs nothing here: it is an exception, which leaves the screen's
`with` block.
"""

import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

HEARING_S = 0.25


class Suspendable(Protocol):
    """What has the terminal."""

    def suspend(self) -> None: ...

    def resume(self) -> None: ...

    def close(self) -> None: ...


@contextmanager
def signals_to(view: Suspendable) -> Iterator[None]:
    """Handlers as long as the block runs; none outside of the main thread, which alone gets them.

    A handler that the program has set itself is called after ours; one that ignores is left.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    handlers = {signal.SIGTSTP: _Stop(view), signal.SIGCONT: _Go(view), signal.SIGTERM: _End(view)}
    for number, handler in handlers.items():
        if signal.getsignal(number) in (signal.SIG_IGN, None):
            continue
        before[number] = handler.before = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def wait_for(event: threading.Event) -> None:
    """Until it is set; signals are heard meanwhile.

    Of two signals at once the kernel may give both to another thread. A main thread that waits
    without an end would then not learn that it has handlers to run.
    """
    while not event.wait(HEARING_S):
        pass


class _Route(ABC):
    """One signal's handler. before   what was there"""

    def __init__(self, view: Suspendable) -> None:
        self.view = view
        self.before: object = signal.SIG_DFL

    @abstractmethod
    def __call__(self, number: int, frame: FrameType | None) -> None: ...

    def again(self, number: int) -> None:
        """As if this handler were not there: raised to this thread, so that it has happened when
        the next line runs.
        """
        signal.signal(number, self.before)  # type: ignore[arg-type]
        signal.raise_signal(number)
        signal.signal(number, self)


class _Stop(_Route):
    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.view.suspend()
        self.again(number)
        self.view.resume()


class _Go(_Route):
    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.view.resume()
        if callable(self.before):
            self.before(number, frame)


class _End(_Route):
    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.view.close()
        if callable(self.before):
            self.before(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
