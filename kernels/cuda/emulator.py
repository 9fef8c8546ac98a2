"""A .cu file compiled by the machine's C++ compiler against emulator.h, run on CPU tensors.

For tests: a launch takes about a microsecond per thread and meeting point. One launch may run in
each Python thread, the interpreter is free meanwhile.
"""

import ctypes
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch

from kernels.cuda import cache
from kernels.cuda.sources import Source
from kernels.errors import EmulationFailed, KernelCompileFailed

# Hidden names: each library has its own __shared__ arrays. No contraction: the
# same sums on every kind of CPU.
OPTIONS = (
    *("-x", "c++", "-std=c++17", "-O1", "-fPIC", "-shared", "-w"),
    *("-fvisibility=hidden", "-fno-strict-aliasing", "-ffp-contract=off"),
    *("-U_FORTIFY_SOURCE", "-fno-stack-protector"),
)
MESSAGE_BYTES = 2048


class Launch(ctypes.Structure):
    """Launch of emulator_launch.h."""

    _fields_ = (
        ("record", ctypes.c_void_p),
        ("message", ctypes.c_char_p),
        ("record_bytes", ctypes.c_int64),
        ("message_bytes", ctypes.c_int64),
        ("shared_bytes", ctypes.c_int64),
        ("grid", ctypes.c_int32 * 3),
        ("threads", ctypes.c_int32),
    )


class EmulatedKernel:
    """A function of a compiled library."""

    def __init__(self, name: str, function: "ctypes._NamedFuncPointer") -> None:
        self._name = name
        self._function = function

    def launch(
        self,
        grid: tuple[int, int, int],
        threads: int,
        record: ctypes.Structure,
        shared_bytes: int,
        overlap: bool,  # noqa: ARG002  a block ends before the next begins
    ) -> None:
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        launch = Launch(
            record=ctypes.addressof(record),
            message=ctypes.cast(message, ctypes.c_char_p),
            record_bytes=ctypes.sizeof(record),
            message_bytes=MESSAGE_BYTES,
            shared_bytes=shared_bytes,
            grid=(ctypes.c_int32 * 3)(*grid),
            threads=threads,
        )
        if self._function(ctypes.byref(launch)):
            raise EmulationFailed(f"{self._name}: {message.value.decode(errors='replace')}")


def load(
    source: Source, names: Sequence[str], device: torch.device | None = None
) -> dict[str, EmulatedKernel]:
    """Every kernel by its name. Raises KernelCompileFailed, also where there is no compiler."""
    library = _library(source, names)
    return {
        name: EmulatedKernel(name, library[f"emulate_{index}"]) for index, name in enumerate(names)
    }


def _library(source: Source, names: Sequence[str]) -> ctypes.CDLL:
    compiler, version = _compiler()
    key = source.key(version, platform.machine(), *OPTIONS, *names)
    file_name = f"{key}.so"
    folder = cache.usual_folder()
    if folder and (folder / file_name).is_file():
        return ctypes.CDLL(str(folder / file_name))

    def build(path: Path) -> None:
        _compile(compiler, source, names, path)

    kept = cache.write_by(file_name, build, folder)
    if kept:
        return ctypes.CDLL(str(kept))
    with tempfile.TemporaryDirectory() as temporary:
        build(Path(temporary) / file_name)
        return ctypes.CDLL(str(Path(temporary) / file_name))


@lru_cache
def _compiler() -> tuple[str, str]:
    """Its path and the line that tells its version."""
    for name in ("g++", "c++", "clang++"):
        path = shutil.which(name)
        if path:
            run = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            return path, run.stdout.partition("\n")[0]
    raise KernelCompileFailed(
        "the emulator of CUDA kernels needs g++ or clang++, and finds neither"
    )


def _compile(compiler: str, source: Source, names: Sequence[str], path: Path) -> None:
    entries = "".join(
        'extern "C" __attribute__((visibility("default")))'
        f" int emulate_{index}(const emulator::Launch* launch)"
        f" {{ return emulator::run({name}, *launch); }}\n"
        for index, name in enumerate(names)
    )
    text = f"{source.text()}namespace hybrid {{\n{entries}}}\n"
    folders = [f"-I{folder}" for folder in source.folders]
    command = [compiler, *OPTIONS, *folders, "-o", str(path), "-"]
    run = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise KernelCompileFailed(
            f"{source.path} does not compile for the emulator"
            f" ({', '.join(names)}):\n{run.stderr.strip()}"
        )
