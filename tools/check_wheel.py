"""What is in a wheel: three packages' modules, the demo model, machines, the native library, CUDA
sources.

python -m tools.check_wheel dist/*.whl
"""

import sys
import zipfile
from pathlib import Path

PACKAGES = ("hybrid", "placement", "kernels")
REQUIRED = (
    "hybrid/data/tiny-tales-q4_k_m.gguf",
    "kernels/native/libhybrid_kernels.so",
)
ALLOWED = ("hybrid/data/README.md",)
ROOT = Path(__file__).parents[1]


def problems(wheel: Path, root: Path = ROOT) -> list[str]:
    """What is wrong with the wheel, one line each; empty when it is as it should be."""
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = _modules(root)
    ours = {*REQUIRED, *ALLOWED, *modules}
    strangers = sorted(name for name in names - ours if not _is_distribution(name))
    missing = sorted({*REQUIRED, *modules} - names)
    found = [f"{name} does not belong into the wheel" for name in strangers]
    found += [f"{name} is missing" for name in missing]
    if "-py3-none-" not in wheel.name:
        found.append(f"{wheel.name} is bound to one Python version")
    return found


def _modules(root: Path) -> set[str]:
    """The source tree's modules, its presets, and the sources that the user's machine compiles for
    its GPU.

    One that a wheel has and the tree has not is left from a build.
    """
    patterns = [
        *(f"{top}/**/*.py" for top in PACKAGES),
        "placement/machines/presets/*.toml",
        "kernels/*/*.cu",
        "kernels/*/*.h",
    ]
    found = {path.relative_to(root) for pattern in patterns for path in root.glob(pattern)}
    native = Path("kernels", "native")
    return {
        str(path)
        for path in found
        if "tests" not in path.parts and (path.suffix != ".h" or path.parent != native)
    }


def _is_distribution(name: str) -> bool:
    return name.split("/", 1)[0].endswith(".dist-info")


def main(arguments: list[str]) -> int:
    wheels = [Path(argument) for argument in arguments]
    found = {wheel: problems(wheel) for wheel in wheels}
    for wheel, lines in found.items():
        nbytes = wheel.stat().st_size
        verdict = "as it should be" if not lines else f"{len(lines)} problems"
        print(f"{wheel.name}: {nbytes} bytes, {verdict}")
        for line in lines:
            print(f"  {line}")
    return 1 if any(found.values()) or not wheels else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
