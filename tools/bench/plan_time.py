"""Wall time of `hybrid plan` for DeepSeek-R1 on sixteen GPUs, process start included.

    python -m tools.bench.plan_time [--runs 7] [--imports] [-- FLAGS OF hybrid plan]

The header is written by `tools.make_header`: 1086 tensors in Q4_K_M. Prints a table, the dearest
imports on request, and the figures as one line of JSON.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

from tools.make_header import make_header

GPUS = 16
MUST_S, GOAL_S = 1.0, 0.4
CASES = {
    "experts in RAM": ("-ot", "exps=CPU"),
    "no rules": (),
    "rules of two layers": ("-ot", r"blk\.(3|4)\..*exps=CUDA0,exps=CPU"),
    "-ncmoe 40": ("-ncmoe", "40"),
    "all as JSON": ("-ot", "exps=CPU", "--json"),
}
MOST_IMPORTS = 12


def plan_words(header: Path, flags: Sequence[str]) -> list[str]:
    sizes = ",".join(f"CUDA{i}=24GiB" for i in range(GPUS))
    machine = ["--simulate", sizes, "--ram", "512GiB"]
    return ["-m", "hybrid", "plan", str(header), *machine, *flags]


def seconds(words: Sequence[str]) -> float:
    started = perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    return perf_counter() - started


def dearest_imports(words: Sequence[str]) -> list[tuple[int, str]]:
    """(microseconds of its own, module), the dearest first."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words], check=True, capture_output=True, text=True
    )
    rows = re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", done.stderr, re.M)
    return sorted(((int(own), name) for own, name in rows), reverse=True)[:MOST_IMPORTS]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, help="of each case, after one not counted")
    parser.add_argument("--imports", action="store_true", help="show the dearest imports")
    parser.add_argument("flags", nargs="*", help="of hybrid plan, in place of the cases")
    given = parser.parse_args(arguments)
    cases = {"as given": tuple(given.flags)} if given.flags else CASES
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        header = make_header(Path(folder) / "r1.gguf")
        print(f"{os.cpu_count()} CPUs, Python {sys.version.split()[0]}, {GPUS} GPUs")
        print(f"{'hybrid plan':22}  {'median s':>8}  {'least':>6}  {'most':>6}")
        for name, flags in cases.items():
            words = plan_words(header, flags)
            seconds(words)
            times = [seconds(words) for _ in range(given.runs)]
            found[name] = median(times)
            print(f"{name:22}  {median(times):8.3f}  {min(times):6.3f}  {max(times):6.3f}")
        print(f"must be under {MUST_S} s, better {GOAL_S} s")
        for own_us, module in dearest_imports(words) if given.imports else ():
            print(f"  {own_us / 1000:7.1f} ms  import {module}")
    print(json.dumps({"bench": "plan_time", "gpus": GPUS, "median_s": found}))


if __name__ == "__main__":
    main()
