"""Where runs leave their sockets: a folder that only this user can open.

    $XDG_RUNTIME_DIR/hybrid          where the session has such a folder
    /tmp/hybrid-<user number>        else
        <process number>.sock        mode 0600

A folder that is a link, another user's, or open to others is not used: whoever prepared it could
read what runs say, or answer in a run's name.
"""

import os
import stat
from pathlib import Path

LONGEST_PATH = 100  # of a socket, in bytes: the system's limit is 108, on some 104
ENDING = ".sock"


def run_folders(runtime_folder: str | None) -> tuple[Path, ...]:
    """Candidates, best first.

    runtime_folder   value of XDG_RUNTIME_DIR, None when it is not set
    """
    if not hasattr(os, "getuid"):
        return ()
    fallback = Path("/tmp") / f"hybrid-{os.getuid()}"
    session = Path(runtime_folder or f"/run/user/{os.getuid()}")
    return (fallback,) if _fault(session) else (session / "hybrid", fallback)


def make_folder(folders: tuple[Path, ...]) -> Path:
    """The first one that is safe, made if it was not there. Raises OSError, which says why none is
    used.
    """
    faults = []
    for folder in folders:
        if len(os.fsencode(folder)) + len(f"/4194304{ENDING}") > LONGEST_PATH:
            faults.append(f"{folder}: the path is too long for a socket")
            continue
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            faults.append(f"{folder}: {error.strerror}")
            continue
        fault = _fault(folder)
        if fault is None:
            return folder
        faults.append(f"{folder}: {fault}")
    raise OSError("; ".join(faults) or "this system has no Unix sockets")


def usable_folders(folders: tuple[Path, ...]) -> list[Path]:
    """Those that are there and safe."""
    return [folder for folder in folders if _fault(folder) is None]


def socket_path(folder: Path, pid: int) -> Path:
    return folder / f"{pid}{ENDING}"


def _fault(folder: Path) -> str | None:
    """Why a folder is not used."""
    try:
        found = os.lstat(folder)
    except OSError as error:
        return error.strerror or "it cannot be looked at"
    if not stat.S_ISDIR(found.st_mode):
        return "it is a link or no folder"
    if found.st_uid != os.geteuid():
        return f"it belongs to user {found.st_uid}"
    if found.st_mode & 0o077:
        return f"others may enter it (mode {found.st_mode & 0o7777:o}): chmod 700 {folder}"
    return None
