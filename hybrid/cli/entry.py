"""Where the `hybrid` script and `python -m hybrid` begin: Ctrl-C is quiet from the first import."""

import sys


def main() -> int:
    """Exit code of the command line in sys.argv."""
    try:
        from hybrid.cli.main import main as run_command_line  # noqa: PLC0415  inside the try

        return run_command_line()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
