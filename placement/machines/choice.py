"""Which machine `--machine` means: a file, or one of the presets that come with the program."""

import difflib
from pathlib import Path

from placement.errors import RequestError
from placement.machines.file import WHAT, read_machine
from placement.machines.machine import Machine
from placement.machines.toml_table import read_toml

PRESETS = Path(__file__).parent / "presets"
ENDING = ".toml"


def preset_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in PRESETS.glob(f"*{ENDING}")))


def preset_abouts() -> dict[str, str]:
    """What each preset is, in a line, by name."""
    return {
        name: read_toml(PRESETS / f"{name}{ENDING}", WHAT).text("about") for name in preset_names()
    }


def described_machine(text: str | Path) -> Machine:
    """The machine of a preset, or of a file: whatever has a slash, a dot or is there.

    Raises RequestError for a file that cannot be read, and for a name that no preset has.
    """
    name, path = str(text), Path(text)
    if not name.strip() or name == ".":  # what an empty Path calls itself
        raise RequestError("--machine names no machine", remedy=_known_machines())
    if name in preset_names():
        return read_machine(PRESETS / f"{name}{ENDING}", f"preset {name}")
    if "/" in name or path.suffix or path.exists():
        return read_machine(path)
    near = difflib.get_close_matches(name.lower(), preset_names(), n=1, cutoff=0.5)
    raise RequestError(
        f"there is no machine {name[:60]!r}",
        remedy=[
            *(f"did you mean {known}?" for known in near),
            *_known_machines(),
        ],
    )


def _known_machines() -> list[str]:
    return [
        f"presets: {', '.join(preset_names())}",
        "a file: --machine rig.toml, as hybrid doctor --save rig.toml writes it",
    ]
