"""Each recorded scene at each size as text: `python -m tests.tui.golden_screens` writes them anew.

A change of these files is a change of what users see: read the difference before it is kept.
"""

from pathlib import Path

from hybrid.tui.look import UNICODE, Look
from hybrid.tui.screen import View, screen
from tests.tui.recorded import SCENES, SIZES

FOLDER = Path(__file__).parent / "golden"


def screen_text(scene: str, width: int, height: int, look: Look = UNICODE, view: str = "") -> str:
    """The screen without colours, one line a row."""
    shown = View(view) if view else View()
    lines = screen(SCENES[scene](), width, height, look, shown)
    return "\n".join("".join(text for text, _ in line) for line in lines) + "\n"


def golden_path(scene: str, width: int, height: int) -> Path:
    return FOLDER / f"{scene}-{width}x{height}.txt"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for scene in SCENES:
        for width, height in SIZES:
            text = screen_text(scene, width, height)
            golden_path(scene, width, height).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
