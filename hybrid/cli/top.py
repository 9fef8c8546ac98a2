"""`hybrid top`: watch a run of this user's that lives, in another terminal or for a script."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import datetime

from hybrid.cli.output import print_json, say, table
from hybrid.cli.parser import whole
from hybrid.errors import MachineError, UsageError
from hybrid.live.client import Attached, Ending, Run, attach, runs
from hybrid.live.codec import to_json
from hybrid.live.snapshot import Snapshot

REFRESH_S, MEASURED_S = 0.25, 1.0
NOTHING = "start one: hybrid run, chat or bench, without --no-live"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pid", nargs="?", type=whole(1), metavar="PID", help="of the run; left out: the only one"
    )
    parser.add_argument("--list", action="store_true", help="the runs that live, and end")
    parser.add_argument("--json", action="store_true", help="one object on stdout, and end")


def run(args: argparse.Namespace) -> int:
    found = runs(args.run_folders)
    if args.list:
        print_runs(found, as_json=args.json)
        return 0
    chosen = _chosen(found, args.pid)
    with closing(attach(chosen, MEASURED_S if args.json else REFRESH_S)) as watched:
        if args.json:
            print_json(to_json(_measured(watched)))
            return 0
        show(watched)
        return told(watched.ending)


def show(watched: Attached) -> None:
    """Draw the snapshots until the run ends, or the user has seen enough."""
    for snapshot in watched:
        rate = snapshot.rates.decode_now_tok_s
        speed = "-" if rate is None else f"{rate:.1f}"
        print(f"{snapshot.phase.value} {speed} tok/s", flush=True)


def told(ending: Ending | None) -> int:
    """Say how the run ended; the exit code. None: the user left, and it goes on."""
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


def _chosen(found: Sequence[Run], pid: int | None) -> Run:
    """By number; the only one; or the one that the user picks."""
    if not found:
        raise MachineError("there is no run to watch", remedy=NOTHING)
    by_pid = {its.pid: its for its in found}
    if pid is not None and pid not in by_pid:
        listed = ", ".join(map(str, by_pid))
        raise UsageError(f"process {pid} is no run that can be watched", remedy=f"one of {listed}")
    if pid is not None:
        return by_pid[pid]
    if len(found) == 1:
        return found[0]
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        listed = ", ".join(map(str, by_pid))
        raise UsageError(f"{len(found)} runs live", remedy=f"hybrid top PID with one of {listed}")
    return _picked(by_pid)


def _picked(by_pid: dict[int, Run]) -> Run:
    """Asked until an answer is one of them; Ctrl-C and Ctrl-D end the command."""
    say(_runs_table(list(by_pid.values())))
    newest = list(by_pid)[-1]
    while True:
        print(f"which one? [{newest}] ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise KeyboardInterrupt
        word = line.strip() or str(newest)
        if word.isdecimal() and int(word) in by_pid:
            return by_pid[int(word)]


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
        rows.append([str(its.pid), its.command, since, its.model])
    return table(rows)
