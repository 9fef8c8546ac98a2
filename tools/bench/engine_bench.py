"""What benches of a loaded engine share: MODEL, and errors told as a command tells them."""

from collections.abc import Iterator
from contextlib import contextmanager

from hybrid.cli.output import error_block
from hybrid.cli.parser import Parser, add_model
from hybrid.errors import HybridError


def engine_parser(module: str, doc: str | None) -> Parser:
    """Of `python -m tools.bench.MODULE` and its docstring; it has MODEL already."""
    parser = Parser("bench", (doc or "").splitlines()[0])
    parser.prog = f"python -m tools.bench.{module}"
    add_model(parser)
    parser.set_defaults(visible=None, profiles=None)
    return parser


@contextmanager
def told_errors() -> Iterator[None]:
    """Ours end the program with one block and their exit code, as every command's do."""
    try:
        yield
    except HybridError as error:
        error_block(error)
        raise SystemExit(error.exit_code) from error
