"""What a run shows of itself while it lives, and to whom: the socket for `hybrid top`,
--stats-json, --metrics; and the screen of --tui.

    with live_view(args, "run") as live:            file and port are taken, the screen stands
        engine = load_engine(args, before, live)    the socket from the plan on, loading shown
        ...                                         at the end all are told how it ended
"""

import argparse
import os
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.cli.failures import as_reported
from hybrid.cli.output import note, say
from hybrid.cli.terminating import terminated_in_order
from hybrid.errors import OutputError
from hybrid.live.live_run import LiveRun
from hybrid.live.plan_view import plan_view
from hybrid.live.prometheus import LOOPBACK, MetricsServer
from hybrid.live.run_sources import RunSources
from hybrid.live.server import SocketServer
from hybrid.live.stats_file import StatsFile
from hybrid.runtime.expert_usage import write_expert_stats
from hybrid.runtime.prepare import Prepared
from placement.machines.probe import usable_cpus

if TYPE_CHECKING:
    from hybrid.runtime.engine import Engine

MOST_PORT = 65535
SYSFS, PROC = Path("/sys"), Path("/proc")


def add_live_flags(parser: argparse.ArgumentParser, *, counts: bool = True) -> None:
    """Call it before `add_placement_flags`: llama.cpp's --metrics is another one.

    counts   whether the command's tokens are worth counting the experts that they choose
    """
    group = parser.add_argument_group("live view")
    group.add_argument(
        "--tui",
        action="store_true",
        help="a screen of every device's time, memory and speed; q leaves it and the run goes on",
    )
    group.add_argument(
        "--stats-json",
        metavar="FILE",
        help="one JSON object a second: times, bytes and speeds of every device (docs/metrics.md)",
    )
    group.add_argument(
        "--metrics",
        type=_address,
        metavar="PORT",
        help="the same for Prometheus, on 127.0.0.1 unless HOST:PORT names another address; 0: any "
        "free port",
    )
    group.add_argument(
        "--no-live",
        dest="live",
        action="store_false",
        help="no socket for `hybrid top`; it costs nothing while nobody watches",
    )
    parser.set_defaults(save_expert_stats=None)
    if counts:
        # Not --expert-stats itself: a run that is planned by a file would write over it.
        group.add_argument(
            "--save-expert-stats",
            metavar="FILE",
            help="at the end, however it comes, how often each expert was chosen: --expert-stats "
            "FILE plans with it",
        )


@contextmanager
def live_view(args: argparse.Namespace, command: str) -> Iterator["LiveView"]:
    """For a command's whole work. An exception that passes through is the run's failure; SIGTERM
    ends it in order, as Ctrl-C does.

    Raises UsageError or OutputError when the file or the port cannot be had.
    """
    with terminated_in_order(), ExitStack() as outputs:
        live = LiveView(command, args.run_folders if args.live else ())
        if args.stats_json is not None:
            live.stats_file = StatsFile(args.stats_json, note)
            outputs.callback(live.stats_file.stop)
        if args.save_expert_stats is not None:
            live.counts_file = checked_folder(args.save_expert_stats)
        if args.metrics is not None:
            live.metrics = MetricsServer(*args.metrics)
            outputs.callback(live.metrics.stop)
            say(f"metrics on {live.metrics.address}")
        live.has_screen = args.tui
        outputs.callback(live.close)
        if command != "chat":
            outputs.enter_context(live.screen())
        try:
            yield live
        except BaseException as error:
            live.end(error)
            raise
        live.end()


class LiveView:
    """One command's, from its plan on.

    run   what is watched; None before the plan
    """

    def __init__(self, command: str, folders: tuple[Path, ...]) -> None:
        self.run: LiveRun | None = None
        self.stats_file: StatsFile | None = None
        self.metrics: MetricsServer | None = None
        self.counts_file: Path | None = None
        self.has_screen = False
        self._counted: Engine | None = None
        self._command, self._folders = command, folders
        self._sources: RunSources | None = None
        self._kept = ExitStack()

    @classmethod
    def unseen(cls) -> "LiveView":
        """Of a command that nobody can look at."""
        return cls("", ())

    def planned(self, prepared: Prepared) -> None:
        """Also of a second model or placement after the first."""
        if not self._command:
            return
        view = plan_view(prepared, self._command)
        sources = RunSources(view, tuple(sorted(usable_cpus(SYSFS, PROC).cpus)))
        self._sources = sources
        if self.run is not None:
            self.run.replan(view, sources)
            return
        self.run = LiveRun(view, sources)
        self._serve(self.run)

    def loading(self, done_bytes: int, total_bytes: int) -> None:
        if self.run is not None:
            self.run.loading(done_bytes, total_bytes)

    def loaded(self, engine: "Engine", notes: tuple[str, ...]) -> None:
        if self.run is None or self._sources is None:
            return
        # It imports torch, which is there by now.
        from hybrid.live.engine_memory import held_bytes, ours_by_node  # noqa: PLC0415

        # Its memory is to be free before the next one is placed.
        still_there = weakref.ref(engine)
        self._sources.actual = lambda: held_bytes(its) if (its := still_there()) else {}
        self._sources.ours = lambda: ours_by_node(its) if (its := still_there()) else {}
        self.run.begin(
            engine, notes, lambda: its.expert_usage.layers if (its := still_there()) else {}
        )
        if self.counts_file is not None:
            self._counted = engine  # its counts are asked for when its command has let go of it

    @contextmanager
    def screen(self) -> Iterator[None]:
        """Shown inside, where --tui asks for it; a chat leaves it for every line of the user's."""
        if not self.has_screen:
            yield
            return
        from hybrid.tui.app import watching  # noqa: PLC0415  rich, for those who want a screen

        with watching(lambda: self.run.snapshot() if self.run else None):
            yield

    def end(self, error: BaseException | None = None) -> None:
        """What was counted is saved however the run ended. Raises UsageError when that fails, and
        only that.

        error   what ended it; whoever interrupts a run does not make it a failure
        """
        if self.run is None:
            return
        self.run.end(as_reported(error).cause if isinstance(error, Exception) else None)
        try:
            self._save_counts(is_whole=error is None)
        except Exception as failure:
            if error is None:
                raise
            with suppress(OSError):
                note(as_reported(failure).cause)

    def _save_counts(self, *, is_whole: bool) -> None:
        """A run that was cut short before anything was counted leaves the file that was there."""
        counted, self._counted = self._counted, None
        if self.counts_file is None or counted is None:
            return
        layers = counted.expert_usage.layers
        if is_whole or any(map(any, layers.values())):
            write_expert_stats(self.counts_file, layers)

    def close(self) -> None:
        """Whoever watches is told how the run ended."""
        self._kept.close()

    def _serve(self, run: LiveRun) -> None:
        if self.has_screen or self.stats_file or self.metrics or self.counts_file:
            self._kept.enter_context(run.watch())
        if self.stats_file is not None:
            self.stats_file.serve(run)
        if self.metrics is not None:
            self.metrics.serve(run)
        if self._folders:
            try:
                self._kept.callback(SocketServer(run, self._folders, note).stop)
            except OSError as error:
                note(f"`hybrid top` cannot watch this run: {error.strerror or error}")


def checked_folder(path: str) -> Path:
    """The path of --save-expert-stats. Raises OutputError where no file can be made: said now, not
    after hours.
    """
    folder = Path(path).resolve().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise OutputError(
            f"--save-expert-stats {path} cannot be written",
            f"{folder} is no folder that may be written to",
            remedy="name a file in a folder that exists and may be written",
        )
    return Path(path)


def _address(text: str) -> tuple[str, int]:
    """An argparse type: "9090", "0.0.0.0:9090", "[::1]:9090"."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else LOOPBACK
    if not host or not (port.isascii() and port.isdecimal()) or int(port[:6]) > MOST_PORT:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is no port from 0 to {MOST_PORT}, nor HOST:PORT"
        )
    return host, int(port)
