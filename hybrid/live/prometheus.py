"""A snapshot as Prometheus reads it, and the server that gives it on --metrics.

Text format 0.0.4. What no source says has no line.
"""

import socket
import socketserver
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic, sleep
from typing import Any

from hybrid.errors import UsageError
from hybrid.live.codec import to_json
from hybrid.live.figures import COUNTER, FIGURES, GAUGE, Figure
from hybrid.live.live_run import LiveRun
from hybrid.live.snapshot import Phase, Snapshot
from hybrid.live.sources.nvml import REASONS

LOOPBACK = "127.0.0.1"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SOCKET_S = 5.0  # that a reader may keep a connection without a word
POLL_S = 0.2  # that the end of a run waits, at most, in the usual case
STOP_S = 2.0
MOST_READERS, READER_S = 8, 10.0

_Labels = tuple[tuple[str, str], ...]
_LISTS = {
    "devices[]": ("device", "name"),
    "nodes[]": ("node", "node"),
    "layers[]": ("layer", "index"),
}


def metrics_text(snapshot: Snapshot) -> str:
    """All figures of the table that the snapshot has."""
    value = to_json(snapshot)
    lines = [
        "# HELP hybrid_run_info What runs; always 1.",
        "# TYPE hybrid_run_info gauge",
        f"hybrid_run_info{_labels(_facts(value['facts']))} 1",
    ]
    for figure in FIGURES:
        if figure.kind in (GAUGE, COUNTER):
            lines += _series(figure, value)
    return "\n".join(lines) + "\n"


def _series(figure: Figure, value: dict[str, Any]) -> list[str]:
    """Its lines; none without values."""
    unit = f" [{figure.unit}]" if figure.unit else ""
    head = [
        f"# HELP {figure.metric} {figure.meaning}{unit}",
        f"# TYPE {figure.metric} {figure.kind}",
    ]
    words = figure.path.split(".")
    found = [
        f"{figure.metric}{_labels(labels)} {number!r}"
        for labels, its in _at(value, words, _progress_labels(figure, value))
        for labels, number in _numbers(figure, its, labels)
    ]
    return [*head, *found] if found else []


def _at(value: Any, words: list[str], labels: _Labels) -> Iterator[tuple[_Labels, Any]]:
    """What lies at a path, once for each device, node or layer, with its label."""
    if not words:
        yield labels, value
        return
    word, *rest = words
    if word in _LISTS:
        label, name = _LISTS[word]
        for each in value[word.removesuffix("[]")]:
            yield from _at(each, rest, (*labels, (label, str(each[name]))))
    elif value.get(word) is not None:
        yield from _at(value[word], rest, labels)


def _numbers(figure: Figure, its: Any, labels: _Labels) -> Iterator[tuple[_Labels, float]]:
    """A number, or several with a label of their own each."""
    if isinstance(its, Mapping):
        for key, number in its.items():
            yield (*labels, (figure.label, key)), number
    elif figure.label == "phase":
        yield from _chosen(labels, "phase", [phase.value for phase in Phase], [its])
    elif figure.label == "reason":
        yield from _chosen(labels, "reason", sorted({*REASONS.values(), *its}), its)
    elif isinstance(its, (list, tuple)):
        for place, each in enumerate(its):
            yield (*labels, (figure.label, str(place))), each
    else:
        yield labels, int(its) if isinstance(its, bool) else its


def _chosen(
    labels: _Labels, name: str, words: Sequence[str], chosen: Sequence[str]
) -> Iterator[tuple[_Labels, float]]:
    """1 for those of all words that are chosen, 0 for the others: none chosen is told too."""
    for word in words:
        yield (*labels, (name, word)), int(word in chosen)


def _facts(facts: Mapping[str, Any]) -> _Labels:
    names = [its.path for its in FIGURES if its.kind == "label" and its.path.startswith("facts.")]
    return tuple((name[6:], str(facts[name[6:]])) for name in names)


def _progress_labels(figure: Figure, value: Mapping[str, Any]) -> _Labels:
    progress = value["progress"]
    if progress is None or not figure.path.startswith("progress."):
        return ()
    return (("what", progress["what"]), ("unit", progress["unit"]))


def _labels(labels: _Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(text)}"' for name, text in labels) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class MetricsServer:
    """`GET /metrics` on one address. The port is taken when this is made, before any loading.

    Raises UsageError when it cannot be had.
    """

    def __init__(self, host: str, port: int) -> None:
        try:
            self._server = _Server(host, port)
        except (OSError, OverflowError) as error:
            raise UsageError(
                f"--metrics {host}:{port} cannot be served",
                getattr(error, "strerror", None) or str(error),
                remedy="another port, or --metrics 0, which takes a free one and names it",
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), name="hybrid metrics", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """Of the page."""
        host, port = self._server.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"http://{shown}:{port}/metrics"

    def serve(self, live: LiveRun) -> None:
        """From now on; 503 before."""
        self._server.live = live

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(STOP_S)


class _Server(ThreadingHTTPServer):
    """At most so many readers at once, each for so long; others are turned away."""

    daemon_threads = True
    live: LiveRun | None = None

    def __init__(self, host: str, port: int) -> None:
        self._readers: dict[socket.socket, float] = {}  # until when each may stay
        [(self.address_family, _, _, _, address), *_] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        super().__init__(address[:2], _Handler)  # type: ignore[arg-type]

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:  # no descriptor is free: it would be tried again at once
            sleep(POLL_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        if len(self._readers) >= MOST_READERS:
            self.shutdown_request(request)
            return
        self._readers[request] = monotonic() + READER_S
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be had
            del self._readers[request]
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._readers.pop(request, None)

    def service_actions(self) -> None:
        """Between polls: who has stayed too long is cut off, which ends its thread."""
        now = monotonic()
        for request, until in tuple(self._readers.items()):
            if now >= until:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def server_bind(self) -> None:
        """Without http.server's question for a name, which a network may answer late."""
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, *_: Any) -> None:
        """A reader that went away in the middle is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = SOCKET_S

    def do_GET(self) -> None:  # noqa: N802  the name is http.server's
        live = self.server.live
        if self.path.partition("?")[0] not in ("/", "/metrics"):
            self._answer(404, "only /metrics is here\n")
        elif live is None:
            self._answer(503, "nothing is loaded yet\n")
        else:
            self._answer(200, metrics_text(live.snapshot()))

    def log_message(self, *_: Any) -> None:
        """stderr is the run's."""

    def _answer(self, code: int, text: str) -> None:
        body = text.encode()
        with suppress(OSError):
            self.send_response(code)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
