"""A progress bar on stderr; nothing at all when stderr is not a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

# done, total, and optionally a text beside the bar
Report = Callable[..., None]


@contextmanager
def progress_bar(title: str, unit: str) -> Iterator[Report]:
    """A function to call with (done, total) or (done, total, text).

    unit   "bytes" shows sizes and speed, anything else counts
    """
    if not sys.stderr.isatty():
        yield _silent
        return
    counts: list[ProgressColumn] = [MofNCompleteColumn(), TextColumn(unit)]
    if unit == "bytes":
        counts = [DownloadColumn(binary_units=True), TransferSpeedColumn()]
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *counts,
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        task = progress.add_task(title, total=None, text="")

        def report(done: int, total: int, text: str = "") -> None:
            progress.update(task, completed=done, total=total, text=text)

        yield report


def _silent(done: int, total: int, text: str = "") -> None:
    pass
