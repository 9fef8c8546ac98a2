"""`--csv` and `--plot`: looked at before anything is measured, written when all is."""

import argparse
import os
from pathlib import Path
from tempfile import TemporaryFile

from hybrid.cli.bench_record import Bench
from hybrid.cli.output import save_text
from hybrid.errors import OutputError, UsageError

FORMATS = (".png", ".svg")


def add_file_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--csv", metavar="FILE", help="write one line for each test")
    parser.add_argument(
        "--plot",
        metavar="FILE.png|svg",
        help="draw tokens per second over depth; needs matplotlib",
    )


def check_files(args: argparse.Namespace) -> None:
    """Raises UsageError, OutputError or MachineError for what would fail at the end."""
    if args.plot and Path(args.plot).suffix.lower() not in FORMATS:
        raise UsageError(
            f"--plot {args.plot} has no format that can be drawn",
            remedy=f"a name that ends in {' or '.join(FORMATS)}",
        )
    for path, flag in ((args.csv, "--csv"), (args.plot, "--plot")):
        if path:
            _check_writable(Path(path), flag)
    if args.plot:
        from hybrid.cli.bench_plot import need_matplotlib  # noqa: PLC0415  seldom there

        need_matplotlib()


def write_files(args: argparse.Namespace, bench: Bench) -> None:
    """What the flags ask for; no plot where nothing was measured."""
    if args.csv:
        save_text(args.csv, bench.csv_text(), "--csv")
    if args.plot and bench.rows:
        from hybrid.cli.bench_plot import draw  # noqa: PLC0415  seldom there

        path = Path(args.plot)
        try:
            path.write_bytes(draw(bench, path.suffix.lower().removeprefix(".")))
        except OSError as error:
            raise _not_writable(path, "--plot", error) from error


def _check_writable(path: Path, flag: str) -> None:
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(None, "it may not be written")
        if path.is_file() or not path.exists():
            with TemporaryFile(dir=path.resolve().parent):
                pass
    except (OSError, ValueError) as error:
        raise _not_writable(path, flag, error) from error


def _not_writable(path: Path, flag: str, error: Exception) -> OutputError:
    return OutputError(
        f"{flag} {path} cannot be written",
        getattr(error, "strerror", None) or str(error),
        remedy="name a file in a folder that exists, may be written and has room",
    )
