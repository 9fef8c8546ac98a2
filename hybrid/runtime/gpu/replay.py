"""One fixed sequence of launches, run again and again: a CUDA graph, or on CPU tensors the same
launches emulated by a thread.

The launches may wait for the CPU between them (`kernels.mailbox`): `start` returns at once, the
caller answers, `wait` ends the step.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, sleep
from typing import Protocol

import torch

POLL_S = 0.001  # while a step that failed comes to its end

Launches = Callable[[], None]


class Replay(Protocol):
    def start(self) -> None:
        """Begin; does not wait."""
        ...

    def wait(self, limit_s: float | None = None) -> bool:
        """Until everything that was begun is done; False when that takes longer than the limit.

        Raises what went wrong in it.
        """
        ...


class GraphReplay:
    """`launches` captured as a graph, which holds their addresses: they are kept, and with them
    their tensors.

    rehearsal   runs them before they are captured, so that kernels are compiled and loaded and a
                fault shows while loading; may return before the GPU is done
    """

    def __init__(
        self, device: torch.device, launches: Launches, rehearsal: Callable[[], None]
    ) -> None:
        self._device = device
        self._launches = launches
        self._graph = torch.cuda.CUDAGraph()
        # Not torch.cuda.graph(): it empties torch's pool, in which the plan's scratch is kept.
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.device(device), torch.cuda.stream(stream):
            rehearsal()
            stream.synchronize()
            self._graph.capture_begin(capture_error_mode="thread_local")
            try:
                launches()
            except BaseException:
                with suppress(RuntimeError):  # of the capture, which is void
                    self._graph.capture_end()
                raise
            self._graph.capture_end()
        torch.cuda.current_stream(device).wait_stream(stream)

    def start(self) -> None:
        with torch.cuda.device(self._device):
            self._graph.replay()

    def wait(self, limit_s: float | None = None) -> bool:
        stream = torch.cuda.current_stream(self._device)
        if limit_s is None:
            stream.synchronize()
            return True
        end = monotonic() + limit_s
        while not stream.query():
            if monotonic() > end:
                return False
            sleep(POLL_S)
        return True


class EmulatedReplay:
    """`launches` over CPU tensors; one thread at a time plays the GPU."""

    def __init__(self, launches: Launches) -> None:
        self._launches = launches
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self) -> None:
        self._error = None
        self._thread = threading.Thread(target=self._play, name="hybrid-emulated-gpu")
        self._thread.start()

    def wait(self, limit_s: float | None = None) -> bool:
        if self._thread is not None:
            self._thread.join(limit_s)
            if self._thread.is_alive():
                return False
            self._thread = None
        if self._error is not None:
            raise self._error
        return True

    def _play(self) -> None:
        try:
            with torch.inference_mode():
                self._launches()
        except BaseException as error:  # noqa: BLE001  told by `wait`
            self._error = error
