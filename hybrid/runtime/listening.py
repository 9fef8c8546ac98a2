"""Who hears what an engine does: its passes, its prompts' progress, its tokens, where time went.

    engine.listen(listener)     from the next pass on
    engine.unlisten(listener)   no more; what was measured for it stops

Listeners are called on the thread that generates, between passes: what they do is time that no
token gets. One that raises is dropped, with one line in `Engine.notes`; the run goes on.
"""

from typing import Protocol

from hybrid.runtime.stats import StepStats
from hybrid.runtime.step_times import StepTimes
from hybrid.runtime.token import Token


class Listener(Protocol):
    def on_pass(self, stats: StepStats, *, prompt: bool) -> None:
        """A forward pass is done. prompt: of a prompt's micro-batch, else of one new token."""
        ...

    def on_prompt(self, done: int, total: int) -> None:
        """Tokens of the prompt computed so far, before the first micro-batch and after each.

        total   without those that the cache held already
        """
        ...

    def on_token(self, token: Token) -> None:
        """A token was chosen; before whoever iterates gets it."""
        ...

    def on_times(self, times: StepTimes) -> None:
        """Where the time of the pass that `on_pass` told of last went, where it was measured."""
        ...


class Listeners:
    """Those of one engine.

    notes   one line for each that was dropped
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._heard: tuple[Listener, ...] = ()  # replaced, never changed: it may be gone through

    def __bool__(self) -> bool:
        return bool(self._heard)

    def add(self, listener: Listener) -> None:
        if listener not in self._heard:
            self._heard = (*self._heard, listener)

    def remove(self, listener: Listener) -> None:
        """Also of one that does not listen any more."""
        self._heard = tuple(each for each in self._heard if each is not listener)

    def passed(self, stats: StepStats, *, prompt: bool) -> None:
        for listener in self._heard:
            try:
                listener.on_pass(stats, prompt=prompt)
            except Exception as error:  # noqa: BLE001  a view must not end the run it looks at
                self._drop(listener, error)

    def prompted(self, done: int, total: int) -> None:
        for listener in self._heard:
            try:
                listener.on_prompt(done, total)
            except Exception as error:  # noqa: BLE001
                self._drop(listener, error)

    def chose(self, token: Token) -> None:
        for listener in self._heard:
            try:
                listener.on_token(token)
            except Exception as error:  # noqa: BLE001
                self._drop(listener, error)

    def timed(self, times: StepTimes) -> None:
        for listener in self._heard:
            try:
                listener.on_times(times)
            except Exception as error:  # noqa: BLE001
                self._drop(listener, error)

    def _drop(self, listener: Listener, error: Exception) -> None:
        self.remove(listener)
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        self.notes.append(f"{type(listener).__name__} hears no more of the run: {what}")
