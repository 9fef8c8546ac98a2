"""The command line: one file per command, `add_arguments(parser)` and `run(args) -> exit code`.

Must not know: torch at import time, how anything is computed.
Start reading at `main.py`.
Called by the `hybrid` console script and `python -m hybrid`.
"""
