"""Builds the native library by hand; what pip does with it is shown by an installation."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kernels.native.library import FILE_NAME, load

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


def test_a_build_of_the_source_tree_leaves_the_library_beside_its_loader(cmake, tmp_path):
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    sources = tmp_path / "kernels"
    for source in [*SOURCES.glob("native/*"), *SOURCES.glob("*/cpu*.cpp")]:
        if source.suffix in (".cpp", ".h", ".txt"):
            target = sources / source.relative_to(SOURCES)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    configured = configure(cmake, tmp_path / "build", sources)
    assert configured.returncode == 0, configured.stderr
    built = subprocess.run(
        [cmake, "--build", tmp_path / "build"], capture_output=True, text=True, timeout=300
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert load(sources / "native" / FILE_NAME).hybrid_block_bytes(12) == 144


def test_the_border_names_no_torch_and_no_python():
    included = [
        line
        for path in [*SOURCES.glob("*/*.cpp"), *SOURCES.glob("*/*.h")]
        for line in path.read_text().splitlines()
        if line.startswith("#include")
    ]
    assert included
    assert not [line for line in included if "torch" in line or "Python.h" in line]
