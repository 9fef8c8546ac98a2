"""Builds the native library by hand; what pip does with it is shown by an installation."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kernels.native.file import FILE_NAME
from kernels.native.library import load
from kernels.native.tiers import NAMES

SOURCES = Path(__file__).parents[2] / "kernels"


@pytest.fixture
def cmake():
    found = shutil.which("cmake")
    if found is None:
        pytest.skip("cmake is not here")
    return found


def configure(cmake, build, sources, **environment):
    return subprocess.run(
        [cmake, "-S", sources / "native", "-B", build],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def test_without_a_compiler_one_sentence_says_what_to_install(cmake, tmp_path):
    done = configure(cmake, tmp_path, SOURCES, CXX=str(tmp_path / "missing"))
    assert done.returncode != 0
    assert done.stderr.count("CMake Error") == 1
    said = " ".join(done.stderr.split())
    assert "hybrid needs a C++17 compiler: install g++ or clang++" in said
    assert "apt install g++" in said


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A copy of the sources, `kernels`, built into `build` beside it."""
    cmake = shutil.which("cmake")
    if cmake is None or shutil.which("c++") is None:
        pytest.skip("cmake or a C++ compiler is not here")
    folder = tmp_path_factory.mktemp("built")
    sources = folder / "kernels"
    for source in SOURCES.rglob("*"):
        if source.suffix in (".cpp", ".h", ".txt"):
            target = sources / source.relative_to(SOURCES)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    configured = configure(cmake, folder / "build", sources)
    assert configured.returncode == 0, configured.stderr
    done = subprocess.run(
        [cmake, "--build", folder / "build", "--parallel", "2"],
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_build_of_the_source_tree_leaves_the_library_beside_its_loader(built):
    assert load(built / "kernels" / "native" / FILE_NAME).hybrid_block_bytes(12) == 144


def objects_of(built, tool):
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not here")
    objects = sorted((built / "build").rglob("*.o"))
    assert objects
    tiers = [path for path in objects if path.parent.name == "tiers"]
    return tiers, [path for path in objects if path not in tiers]


def output_of(*command):
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=True
    ).stdout.splitlines()


def test_no_tier_shares_a_function_with_another_or_with_the_rest(built):
    """A linker keeps one copy of a shared inline function: one tier's code would run in all."""
    for path in objects_of(built, "nm")[0]:
        tier = path.name.split(".")[0]
        table = f"_ZN6hybrid{len(tier) + 10}{tier}_functionsE"
        own = re.compile(rf"_ZG?V?Z?NK?6hybrid{len(tier) + 5}tier_{tier}[0-9A-Z]|{table}$")
        defined = [
            line.split()[-1] for line in output_of("nm", "-g", "--defined-only", path) if line
        ]
        assert table in defined
        assert [name for name in defined if not own.match(name)] == []


def wide_functions(path):
    """Those of an object file in which a register of more than 128 bits occurs."""
    found, name = set(), ""
    for line in output_of("objdump", "-d", path):
        if line.endswith(">:"):
            name = line.split("<")[1].removesuffix(">:")
        elif "%ymm" in line or "%zmm" in line:
            found.add(name)
    return found


def test_only_the_vector_tiers_have_wide_registers(built):
    """And functions that are named after what a processor must have: they choose at run time."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("not an x86-64 processor")
    tiers, others = objects_of(built, "objdump")
    wide = {path.name for path in tiers if wide_functions(path)}
    assert wide == {f"{name}.cpp.o" for name in NAMES[1:]}
    named = re.compile(r"_avx(2|512)(?!\d)")
    strays = {name for path in others for name in wide_functions(path) if not named.search(name)}
    assert strays == set()


def test_the_border_names_no_torch_and_no_python():
    included = [
        line
        for path in [*SOURCES.glob("*/*.cpp"), *SOURCES.glob("*/*.h")]
        for line in path.read_text().splitlines()
        if line.startswith("#include")
    ]
    assert included
    assert not [line for line in included if "torch" in line or "Python.h" in line]
