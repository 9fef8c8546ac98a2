"""What README.md shows of `hybrid plan` on described machines, held against the program.

After a wanted change, write it anew, read every difference for sense, and commit:

    python -m tests.readme_blocks && git diff README.md
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.make_header import make_header

README = Path(__file__).parents[1] / "README.md"
HEADER = "r1.gguf"  # of the preset deepseek-r1, in the folder where the commands run
INDENT = "    "
# "    $ hybrid plan r1.gguf ...", then what it prints: indented lines, empty ones between them
BLOCK = re.compile(rf"^{INDENT}\$ (hybrid plan .*)\n((?:{INDENT}.*\n|\n(?={INDENT}(?!\$)))*)", re.M)


def blocks(text: str) -> list[tuple[str, str]]:
    """(command line, what the README says it prints) in the README's order."""
    return [(found[1], found[2]) for found in BLOCK.finditer(text)]


def as_block(printed: str, shown: str) -> str:
    """Indented; begins with an empty line where what was shown does."""
    lines = [f"{INDENT}{line}".rstrip() for line in printed.splitlines()]
    return "\n" * shown.startswith("\n") + "".join(f"{line}\n" for line in lines)


def anew(text: str, folder: Path) -> str:
    """The README with what the program prints now."""
    make_header(folder / HEADER)

    def written(found: re.Match[str]) -> str:
        printed = subprocess.run(
            ["bash", "-c", found[1].replace("hybrid", f"{sys.executable} -m hybrid", 1)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(README.parent)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return f"{INDENT}$ {found[1]}\n{as_block(printed, found[2])}"

    return BLOCK.sub(written, text)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        README.write_text(anew(README.read_text(encoding="utf-8"), Path(name)), encoding="utf-8")
