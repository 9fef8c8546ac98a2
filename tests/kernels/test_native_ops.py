"""The ops in C++ under sanitizers (`native/ops_test.cpp`): the scalar tier, several workers."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "kernels"
NATIVE = KERNELS / "native"
PROGRAM = [Path(__file__).parent / "native" / name for name in ("ops_test.cpp", "serve_case.cpp")]
SOURCES = [*sorted(NATIVE.glob("*.cpp")), *sorted(KERNELS.glob("*/cpu*.cpp")), *PROGRAM]
TIER = NATIVE / "tiers" / "scalar.cpp"
BUILDS = {
    "thread": ["-fsanitize=thread"],
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
}
CASES = ["blocks", "experts", "twice", "linear", "dequantize", "formats", "serve"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session", params=BUILDS)
def program(request, tmp_path_factory):
    """The program in one build."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("ops")
    base = [compiler, "-std=c++17", "-g", "-O1", "-pthread", *BUILDS[request.param]]
    empty = folder / "empty.cpp"
    empty.write_text("int main() {}")
    path = folder / "ops_test"
    tried = subprocess.run([*base, empty, "-o", path], capture_output=True, timeout=60)
    if tried.returncode or subprocess.run([path], capture_output=True, timeout=60).returncode:
        pytest.skip(f"{compiler} cannot build and run with {request.param}")
    build(base, folder, path)
    return path


def build(base, folder, path):
    """The tier beside everything else, and not optimised: that would take a minute."""
    flags = ["-DHYBRID_ONLY_SCALAR", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
    command = [*base, *flags, f"-I{NATIVE}"]
    tier, rest = folder / "tier.o", folder / "rest.o"
    with subprocess.Popen([*command, "-O0", "-c", TIER, "-o", tier]) as running:
        # One by one would name several of them cpu.o.
        relocatable = ["-r", "-nostdlib"]
        subprocess.run([*command, *relocatable, *SOURCES, "-o", rest], check=True, timeout=900)
    assert running.returncode == 0
    subprocess.run([*base, tier, rest, "-o", path], check=True, timeout=60)


@pytest.mark.parametrize("case", CASES)
def test_ops_keep_to_their_memory_and_workers_race_for_nothing(program, case):
    run = subprocess.run([program, case], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr


def test_no_case_of_the_program_is_left_out(program):
    run = subprocess.run([program], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.split() == CASES
