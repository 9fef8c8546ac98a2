"""One command, one table: everything the conformance kit can say about this program.

    python -m tools.conformance [FOLDER] [--only SUBSTRING] [--kernels exact|fast] [--json]

FOLDER is the kit, by default `../shared/conformance` beside the repository. Its models run through
`hybrid.load`, its vocabularies through the tokenizer, its blocks through `kernels.dequantize`; with
a folder `models` beside the kit, the demo model's stored logits and greedy text too.

Exit status: 0 all pass, 1 something failed, 2 no kit there or nothing matches.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from hybrid.runtime.options import KERNELS
from tools.conformance import demo, models, quants, vocab
from tools.conformance.rows import Row

DEFAULT_KIT = Path(__file__).resolve().parents[2].parent / "shared" / "conformance"
HEADINGS = ("name", "cases", "max abs", "NMSE", "KL", "top-1", "verdict")
COLUMNS = "{:42} {:>7} {:>9} {:>9} {:>9} {:>7}  {}"


def rows(kit: Path, only: str = "", kernels: str = "exact") -> Iterator[Row]:
    """Every row, cheapest first, as it is computed; models run with `kernels`."""
    if (kit / "quants").is_dir():
        yield from quants.check(kit, only)
    if (kit / "vocab").is_dir():
        yield from vocab.check(kit, only)
    yield from models.check(kit, only, kernels)
    trained = kit.parent / "models"
    if (trained / "goldens.npz").is_file():
        yield from demo.check(trained, only, kernels)


def as_text(row: Row) -> str:
    """One line of the table."""
    small = (f"{x:.1e}" if x is not None else "" for x in (row.max_abs, row.nmse, row.kl))
    top1 = f"{row.top1:.2%}" if row.top1 is not None else ""
    verdict = "ok" if row.passed else "FAIL " + "; ".join(row.failed or ("no case",))
    return COLUMNS.format(row.name, row.cases, *small, top1, verdict)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.conformance", description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_KIT, help="the kit")
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="rows whose name has it")
    parser.add_argument("--kernels", choices=KERNELS, default="exact", help="of the models")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args(arguments)
    if not (options.folder / "models").is_dir():
        print(
            f"error: no conformance kit in {options.folder}: it has no folder `models`\n"
            "  try   python -m tools.conformance FOLDER   with the kit's folder",
            file=sys.stderr,
        )
        return 2
    print(COLUMNS.format(*HEADINGS).rstrip())
    found = []
    for row in rows(options.folder, options.only, options.kernels):
        found.append(row)
        print(as_text(row).rstrip(), flush=True)
    passed = sum(row.passed for row in found)
    print(f"{passed} of {len(found)} pass")
    if options.json:
        print(json.dumps({"passed": passed, "rows": [asdict(row) for row in found]}))
    if not found:
        return 2
    return 0 if passed == len(found) else 1


if __name__ == "__main__":
    sys.exit(main())
