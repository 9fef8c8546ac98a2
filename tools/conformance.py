"""One command, one table: everything the conformance kit can say about this program.

    python -m tools.conformance [FOLDER] [--only SUBSTRING] [--json]

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

import hybrid
from tools import conformance_demo, conformance_models, conformance_quants, conformance_vocab
from tools.conformance_rows import Row

DEFAULT_KIT = Path(__file__).resolve().parents[1].parent / "shared" / "conformance"
HEADINGS = ("name", "cases", "max abs", "NMSE", "KL", "top-1", "verdict")
COLUMNS = "{:42} {:>7} {:>9} {:>9} {:>9} {:>7}  {}"


def rows(kit: Path, only: str = "") -> Iterator[Row]:
    """Every row, cheapest first, as it is computed."""
    if (kit / "quants").is_dir():
        yield from conformance_quants.check(kit, only)
    if (kit / "vocab").is_dir():
        yield from vocabulary_rows(kit, only)
    yield from conformance_models.check(kit, only)
    models = kit.parent / "models"
    if (models / "goldens.npz").is_file():
        yield from conformance_demo.check(models, only)


def vocabulary_rows(kit: Path, only: str) -> Iterator[Row]:
    """A row per vocabulary; cases are strings."""
    if only and not any(only in f"vocabulary {name}" for name in vocabulary_names(kit)):
        return
    try:
        found = conformance_vocab.check(kit / "vocab")
    except hybrid.HybridError as error:
        yield Row("vocabulary", 1, failed=(error.cause,))
        return
    for row in found:
        name = f"vocabulary {row.name}"
        if only in name:
            differing = row.cases - row.equal
            yield Row(name, row.cases, failed=(f"{differing} differ",) if differing else ())


def vocabulary_names(kit: Path) -> Sequence[str]:
    goldens = json.loads((kit / "vocab" / "goldens.json").read_text(encoding="utf-8"))
    return list(goldens["ids"])


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
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args(arguments)
    if not (options.folder / "models").is_dir():
        print(f"error: no conformance kit in {options.folder}", file=sys.stderr)
        return 2
    print(COLUMNS.format(*HEADINGS).rstrip())
    found = []
    for row in rows(options.folder, options.only):
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
