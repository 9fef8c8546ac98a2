"""A watcher of a run, as `hybrid top` without its screen: a line of stdout for each snapshot.

python -m tools.bench.watcher FOLDER      the folder of its socket; until it is ended
"""

import sys
from pathlib import Path

from hybrid.live.client import attach, runs

EVERY_S = 0.25


def main(folder: str) -> None:
    [run] = runs([Path(folder)])
    with attach(run, EVERY_S) as watched:
        for shot in watched:
            print(shot.phase.value, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
