"""What a bench prints: a line on the machine, a table with units, and one last line of JSON."""

import json
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

Cell = str | int | float


def machine() -> str:
    """One line: processor, threads in use, torch, GPU."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    parts = [
        _processor(),
        f"{torch.get_num_threads()} threads",
        f"torch {torch.__version__}",
        *gpus,
    ]
    return ", ".join(parts)


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Prints the machine, the rows under their columns, and all of it as one line of JSON.

    columns   names with their units: "time us", "read GB/s"
    rows      a cell per column; floats are printed with three significant digits
    """
    texts = [list(columns), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in texts) for i in range(len(columns))]
    print(f"{title}: {machine()}")
    for line in texts:
        print("  ".join(_aligned(cell, width) for cell, width in zip(line, widths, strict=True)))
    records = [dict(zip(columns, row, strict=True)) for row in rows]
    print(json.dumps({"bench": title, "machine": machine(), "rows": records}))


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _text(cell: Cell) -> str:
    if isinstance(cell, float):
        return f"{cell:.3g}" if abs(cell) < 100 else f"{cell:.0f}"
    return str(cell)


def _aligned(cell: str, width: int) -> str:
    """Words to the left, numbers to the right."""
    return cell.ljust(width) if cell[:1].isalpha() else cell.rjust(width)
