"""A watcher of a run, as `hybrid top` without its screen: a line of stdout for each snapshot, until
it is ended.
"""

import argparse
from pathlib import Path

from hybrid.live.client import attach, runs

EVERY_S = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the run's socket, which is alone there")
    [run] = runs([parser.parse_args().folder])
    with attach(run, EVERY_S) as watched:
        for shot in watched:
            print(shot.phase.value, flush=True)


if __name__ == "__main__":
    main()
