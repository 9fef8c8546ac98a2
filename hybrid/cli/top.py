"""`hybrid top`: watch a run of this user's that lives, in another terminal or for a script."""

import argparse
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import datetime

from hybrid.cli.output import abandon_broken_streams, print_json, say, shown, table
from hybrid.cli.parser import real, whole
from hybrid.errors import MachineError, UsageError
from hybrid.live.client import Attached, Ending, Run, attach, runs
from hybrid.live.codec import to_json
from hybrid.live.newest import Newest
from hybrid.live.snapshot import Snapshot

REFRESH_S, MEASURED_S = 0.25, 1.0
MOST_EVERY_S = 86400.0
NOTHING = "start one: hybrid run, chat or bench, without --no-live"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pid", nargs="?", type=whole(1), metavar="PID", help="of the run; left out: the only one"
    )
    parser.add_argument(
        "--every",
        type=_every,
        metavar="SECONDS",
        help="a plain line on stdout so often, and no screen; one a second where stdout is no "
        "terminal",
    )
    parser.add_argument("--list", action="store_true", help="the runs that live, and end")
    parser.add_argument("--json", action="store_true", help="one object on stdout, and end")


def run(args: argparse.Namespace) -> int:
    found = runs(args.run_folders)
    if args.list:
        print_runs(found, as_json=args.json)
        return 0
    if not found:
        raise MachineError(
            "there is no run to watch",
            *([] if args.pid is None else [f"process {args.pid} is none"]),
            remedy=NOTHING,
        )
    if args.pid is not None:
        found = [_of_pid(found, args.pid)]
    if args.json:
        with closing(attach(_only(found), MEASURED_S)) as watched:
            print_json(to_json(_measured(watched)))
        return 0
    return _show(found, args.every)


def _every(text: str) -> float:
    """An argparse type: seconds between lines."""
    every_s = real(text)
    if not REFRESH_S <= every_s <= MOST_EVERY_S:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is no time from {REFRESH_S:g} to {MOST_EVERY_S:g} seconds"
        )
    return every_s


def _show(found: Sequence[Run], every_s: float | None) -> int:
    """The screen or the lines, after a choice where there are several; how the run looked at last
    ended.
    """
    from hybrid.tui.app import RunChoice, top  # noqa: PLC0415  rich, for those who want a screen

    by_pid = {its.pid: its for its in found}
    watched: list[Attached] = []

    def connect(choice: RunChoice) -> Newest:
        for before in watched:
            before.close()
        watched.append(attach(by_pid[choice.pid], REFRESH_S))
        return Newest(watched[-1])

    try:
        top([RunChoice(its.pid, its.model, its.started_at) for its in found], connect, every_s)
    finally:
        for each in watched:
            each.close()
        abandon_broken_streams()  # who had enough of the lines has closed the pipe
    ending = watched[-1].ending if watched else None
    if ending is not None:
        say(ending.value)
    return 0 if ending in (None, Ending.ENDED) else 1


def print_runs(found: Sequence[Run], *, as_json: bool) -> None:
    if as_json:
        print_json([{**asdict(its), "path": str(its.path)} for its in found])
    elif found:
        print(_runs_table(found), flush=True)
    else:
        say(f"no run lives; {NOTHING}")


def _of_pid(found: Sequence[Run], pid: int) -> Run:
    for its in found:
        if its.pid == pid:
            return its
    raise UsageError(
        f"process {pid} is no run that can be watched", remedy=f"one of {_numbers(found)}"
    )


def _only(found: Sequence[Run]) -> Run:
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} runs live", remedy=f"hybrid top --json PID with one of {_numbers(found)}"
        )
    return found[0]


def _numbers(found: Sequence[Run]) -> str:
    return ", ".join(str(its.pid) for its in found)


def _measured(watched: Attached) -> Snapshot:
    """The second snapshot, a second after measuring began; the last one of a run that ends."""
    first = next(watched, None)
    last = next(watched, first)
    if last is None:
        raise MachineError(
            "the run said nothing",
            (watched.ending or Ending.KILLED).value,
            remedy="hybrid top --list shows which runs live",
        )
    return last


def _runs_table(found: Sequence[Run]) -> str:
    rows = [["PID", "command", "since", "model"]]
    for its in found:
        since = datetime.fromtimestamp(its.started_at).strftime("%Y-%m-%d %H:%M:%S")
        rows.append([str(its.pid), shown(its.command), since, shown(its.model)])
    return table(rows)
