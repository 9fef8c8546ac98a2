"""The rooms and the walls between them, read from the syntax trees and from a fresh interpreter."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ("hybrid", "placement", "kernels")

# What a room may import besides itself. The longest prefix of a module's name decides its room.
ROOMS = {
    "placement": (),
    "kernels": (),
    "hybrid.errors": ("placement",),
    "hybrid.data": (),
    "hybrid.gguf": ("hybrid.errors", "placement", "kernels"),
    "hybrid.tokenizer": ("hybrid.errors", "hybrid.gguf"),
    "hybrid.models": ("hybrid.tokenizer", "hybrid.gguf", "hybrid.errors", "placement", "kernels"),
    "hybrid.runtime": (
        "hybrid.models",
        "hybrid.tokenizer",
        "hybrid.gguf",
        "hybrid.errors",
        "placement",
        "kernels",
    ),
    "hybrid.live": ("hybrid.runtime", "hybrid.errors", "placement"),
    "hybrid.tui": ("hybrid.live", "hybrid.errors", "placement"),
    "hybrid": ("hybrid.errors", "hybrid.runtime", "hybrid.cli"),  # the front door
    "hybrid.cli": (
        "hybrid",
        "hybrid.live",
        "hybrid.tui",
        "hybrid.runtime",
        "hybrid.models",
        "hybrid.tokenizer",
        "hybrid.gguf",
        "hybrid.errors",
        "placement",
        "kernels",
    ),
}

# Rooms whose import must not take the 1.5 s that torch takes.
TORCH_FREE = (
    "placement",
    "hybrid.gguf",
    "hybrid.tokenizer",
    "hybrid.models.config",
    "hybrid.runtime.expert_usage",
    "hybrid.runtime.options",
    "hybrid.runtime.prepare",
    "hybrid.runtime.prompt",
    "hybrid.live.client",
    "hybrid.live.live_run",
    "hybrid.live.plan_view",
    "hybrid.live.prometheus",
    "hybrid.live.run_sources",
    "hybrid.live.server",
    "hybrid.live.snapshot",
    "hybrid.live.sources",
    "hybrid.live.stats_file",
    "hybrid.tui",
    "hybrid.cli",
    "kernels.native.tiers",
)

MACHINE_LIBRARIES = {"psutil", "numa", "pynvml"}

OPS = sorted(
    path.name
    for path in (ROOT / "kernels").iterdir()
    if (path / "__init__.py").is_file() and path.name not in ("native", "cuda", "planar")
)

FILE_LINES = 300
FUNCTION_LINES = 60  # the hard limit; 40 is the rule
KERNEL_LINES = 120  # of a Triton kernel, which calls no function for a step of its loop; of C++

# A function as clang-format leaves it, head and last brace at the margin; a struct ends in `};`.
NATIVE_FUNCTION = re.compile(
    r"^(?!namespace\b|extern\b)\w[^;{}]*\{\n(?:(?!\}).*\n)*\}\n", flags=re.MULTILINE
)


def modules(*tops: str) -> Iterator[tuple[str, Path]]:
    """(dotted name, path) of every Python file below the given folders."""
    for top in tops:
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def native(*tops: str) -> Iterator[Path]:
    """Every C++ and CUDA file below the given folders."""
    for top in tops:
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix in (".cpp", ".cu", ".h"):
                yield path


def imported(path: Path, name: str) -> Iterator[str]:
    """Dotted names that a file imports anywhere, function bodies and TYPE_CHECKING included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively in line {node.lineno}"
            yield from _targets(node.module or "", [alias.name for alias in node.names])


def _targets(module: str, names: list[str]) -> list[str]:
    """`from hybrid import gguf` names a module, `from hybrid.gguf import x` a thing in one."""
    inside = [f"{module}.{name}" for name in names]
    return [target if _is_module(target) else module for target in inside]


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def asked_for(path: Path) -> set[str]:
    """Top names that a file imports, and those it calls anything with as a text, as importlib."""
    texts = [
        value.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        for value in (*node.args, *(keyword.value for keyword in node.keywords))
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    ]
    return {name.split(".")[0] for name in (*texts, *imported(path, path.stem))}


def room_of(name: str) -> str | None:
    """The longest entry of ROOMS that `name` is in; None for modules from elsewhere."""
    found = [room for room in ROOMS if name == room or name.startswith(f"{room}.")]
    return max(found, key=len, default=None)


def test_imports_run_one_way() -> None:
    trespasses = []
    for name, path in modules(*SHIPPED):
        room = room_of(name)
        assert room is not None
        for target in imported(path, name):
            there = room_of(target)
            if there not in (None, room, *ROOMS[room]):
                trespasses.append(f"{name} imports {target}")
            if target.split(".")[0] in ("tools", "tests"):
                trespasses.append(f"{name} imports {target}")
    assert trespasses == []


@pytest.mark.parametrize(
    "outside", ["torch", "hybrid", "kernels", "numpy", "rich", "gguf", "tokenizers"]
)
def test_placement_needs_only_the_standard_library(outside: str) -> None:
    strangers = [
        f"{name} imports {target}"
        for name, path in modules("placement")
        for target in imported(path, name)
        if target.split(".")[0] == outside
    ]
    assert strangers == []


def test_rooms_of_placement_use_only_those_before_them() -> None:
    """The files beside the rooms belong to none; `planner.py` calls all of them."""
    rooms = ["machines", "memory", "cost", "solve", "report"]
    trespasses = []
    for name, path in modules("placement"):
        here = name.split(".")[1] if name.count(".") else ""
        later = rooms[rooms.index(here) + 1 :] if here in rooms else []
        for target in imported(path, name):
            if target.startswith(tuple(f"placement.{room}" for room in later)):
                trespasses.append(f"{name} imports {target}")
    assert trespasses == []


def test_machine_libraries_are_imported_by_the_probe_alone() -> None:
    users = {
        (library, name)
        for name, path in modules("placement")
        for library in MACHINE_LIBRARIES & asked_for(path)
    }
    assert users == {(library, "placement.machines.probe") for library in MACHINE_LIBRARIES}


def test_while_a_model_runs_nvml_and_psutil_are_asked_by_one_module_each() -> None:
    users = {
        (library, name)
        for name, path in modules("hybrid")
        for library in {"psutil", "pynvml"} & asked_for(path)
        if name != "hybrid.cli.doctor"  # tells their versions
    }
    assert users == {
        ("psutil", "hybrid.live.sources.host"),
        ("pynvml", "hybrid.live.sources.nvml"),
    }


@pytest.mark.parametrize(
    "line",
    [
        "import numa",
        "from numa import schedule",
        "importlib.import_module('numa')",
        "importlib.import_module(name='numa.info')",
        "_import('numa')",
    ],
)
def test_a_library_is_seen_however_it_is_imported(line: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(f"def nodes():\n    {line}\n")
    assert "numa" in asked_for(path)


@pytest.mark.parametrize("room", TORCH_FREE)
def test_torch_free_rooms_do_not_load_torch(room: str) -> None:
    names = [name for name, _ in modules(*SHIPPED) if _in(name, room)]
    names = [name for name in names if not name.endswith("__main__")]
    assert names, f"{room} is empty"
    code = f"import sys, {', '.join(names)}; sys.exit('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr or f"importing {room} loads torch"


def _in(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_contract_reference_cases_and_test(op: str) -> None:
    room = ROOT / "kernels" / op
    wanted = [
        room / "reference.py",
        room / "cases.py",
        ROOT / "tests" / "kernels" / f"test_{op}.py",
    ]
    assert [str(path.relative_to(ROOT)) for path in wanted if not path.is_file()] == []
    opening = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
    assert (opening or "").startswith("Contract: ")


def test_every_package_opens_with_what_it_is_for_and_must_not_know() -> None:
    silent = []
    for path in sorted(ROOT.rglob("__init__.py")):
        top, *inner = path.relative_to(ROOT).parts
        if top not in (*SHIPPED, "tools") or (top == "kernels" and inner[0] in OPS):
            continue
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        wanted = ("Start reading", "Called by")
        if not all(words in text for words in wanted) or "ust not" not in text:
            silent.append(str(path.relative_to(ROOT)))
    assert silent == []


def test_files_and_functions_stay_small() -> None:
    large = []
    for name, path in modules(*SHIPPED, "tools"):
        text = path.read_text(encoding="utf-8")
        if text.count("\n") >= FILE_LINES:
            large.append(f"{name}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                kernel = any("triton.jit" in ast.unparse(each) for each in node.decorator_list)
                if lines > (KERNEL_LINES if kernel else FUNCTION_LINES):
                    large.append(f"{name}.{node.name}: {lines} lines")
    assert large == []


def test_native_files_and_functions_stay_small() -> None:
    large, kinds = [], set()
    for path in native(*SHIPPED, "tools"):
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(ROOT)
        if text.count("\n") >= FILE_LINES:
            large.append(f"{name}: {text.count(chr(10))} lines")
        for found in NATIVE_FUNCTION.finditer(text):
            kinds.add(path.suffix)
            if found[0].count("\n") > KERNEL_LINES:
                line = text.count("\n", 0, found.start()) + 1
                large.append(f"{name}:{line}: a function of {found[0].count(chr(10))} lines")
    assert large == []
    assert kinds == {".cpp", ".cu", ".h"}
