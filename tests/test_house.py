"""Habits that a formatter does not see: names, links, versions, the environment, the wheel."""

import ast
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import hybrid
from tools.check_wheel import problems

ROOT = Path(__file__).resolve().parents[1]
CODE = ("hybrid", "placement", "kernels", "tools", "tests")
WORDS_OF_NO_MEANING = r"utils?|common|misc|helpers?|managers?|handlers?"
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/**/*.md", "hybrid/**/*.md")
    for path in ROOT.glob(pattern)
)
NATIVE = (".c", ".cpp", ".cu", ".h")
TODO = re.compile(r"\b(TODO|FIXME|XXX)\b(?!.*#\d)")


def files(*endings: str) -> Iterator[Path]:
    for top in CODE:
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix in endings:
                yield path


def test_files_are_named_after_what_is_in_them() -> None:
    meaningless = re.compile(rf"(.*_)?({WORDS_OF_NO_MEANING})(_.*)?")
    named = [path for path in files(".py", ".sh", *NATIVE) if meaningless.fullmatch(path.stem)]
    assert named == []


def test_the_environment_is_read_in_one_file() -> None:
    readers = []
    for path in files(".py"):
        if path.relative_to(ROOT).parts[0] == "tests":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
            if name in ("environ", "getenv", "environb"):
                readers.append(str(path.relative_to(ROOT)))
    assert set(readers) <= {"hybrid/cli/main.py"}


def test_unfinished_work_names_its_issue() -> None:
    unfinished = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files(".py", ".sh", *NATIVE)
        if path.name != "test_house.py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if TODO.search(line)
    ]
    assert unfinished == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_of_documents_resolve(document: str) -> None:
    path = ROOT / document
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [
        target.split("#")[0]
        for target in re.findall(r"\]\(([^)\s]+)\)", text)
        if "://" not in target and not target.startswith("#")
    ]
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_changelog_and_the_package_tell_the_version_of_pyproject() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared = re.search(r'^version = "([^"]+)"', project, flags=re.MULTILINE)
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    top = re.search(r"^## \[?(\d[^\]\s]*)", changes, flags=re.MULTILINE)
    assert declared
    assert top
    assert declared[1] == top[1] == hybrid.__version__


def test_a_wheel_with_the_packages_alone_is_as_it_should_be(tmp_path: Path) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "blocks.py").touch()
    more = ("kernels/blocks.py", "hybrid/data/README.md", "hybrid_moe-0.1.0.dist-info/RECORD")
    wheel = _wheel(tmp_path, "hybrid_moe-0.1.0-py3-none-linux.whl", *more)
    assert problems(wheel, tmp_path) == []


@pytest.mark.parametrize(
    "stranger",
    [
        "tools/check_wheel.py",
        "tests/conftest.py",
        "README.md",
        "kernels/native/library.cpp",
        "kernels/native/library.h",
        "kernels/native/CMakeLists.txt",
        "kernels/native/libother.so",
        "kernels/tests/test_blocks.py",
        "kernels/removed_since.py",
        "hybrid/data/another.gguf",
        "hybrid/__pycache__/errors.cpython-312.pyc",
    ],
)
def test_a_wheel_with_anything_else_is_refused(tmp_path: Path, stranger: str) -> None:
    (tmp_path / "kernels" / "tests").mkdir(parents=True)
    (tmp_path / "kernels" / "tests" / "test_blocks.py").touch()
    wheel = _wheel(tmp_path, "hybrid_moe-0.1.0-py3-none-linux.whl", stranger)
    assert problems(wheel, tmp_path) == [f"{stranger} does not belong into the wheel"]


def test_a_wheel_bound_to_one_python_or_without_a_module_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "blocks.py").touch()
    wheel = _wheel(tmp_path, "hybrid_moe-0.1.0-cp312-cp312-linux.whl")
    assert problems(wheel, tmp_path) == [
        "kernels/blocks.py is missing",
        f"{wheel.name} is bound to one Python version",
    ]


def test_a_wheel_without_a_preset_machine_is_refused(tmp_path: Path) -> None:
    (tmp_path / "placement" / "machines" / "presets").mkdir(parents=True)
    (tmp_path / "placement" / "machines" / "presets" / "rig.toml").touch()
    wheel = _wheel(tmp_path, "hybrid_moe-0.1.0-py3-none-linux.whl")
    assert problems(wheel, tmp_path) == ["placement/machines/presets/rig.toml is missing"]


def _wheel(folder: Path, name: str, *more: str) -> Path:
    """A zip with what every wheel must have, and `more`."""
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        for member in (
            "hybrid/data/tiny-tales-q4_k_m.gguf",
            "kernels/native/libhybrid_kernels.so",
            "hybrid_moe-0.1.0.dist-info/METADATA",
            *more,
        ):
            archive.writestr(member, "")
    return path
