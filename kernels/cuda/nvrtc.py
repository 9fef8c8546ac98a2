"""NVRTC, NVIDIA's compiler as a library: one source, several kernels, one GPU binary.

torch's wheels bring it; without them `pip install nvidia-cuda-nvrtc` does. No CUDA toolkit and no
GPU are needed: tests compile for GPUs that are not there.
"""

import ctypes
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from kernels.cuda import cache
from kernels.cuda.sources import Source
from kernels.errors import CudaCompilerMissing, KernelCompileFailed

OPTIONS = ("-std=c++17", "--ptxas-options=-v")
GET = "pip install nvidia-cuda-nvrtc, or take a torch that is built for CUDA"
OWN_INSTRUCTIONS = (90,)  # of these alone, wgmma among them: sm_90a
MAJORS = (13, 12)  # of CUDA, whose NVRTC this file was written for


@dataclass(frozen=True, slots=True)
class Binary:
    """cubin, the names of its kernels as asked for -> as linked, and what ptxas said of them."""

    cubin: bytes
    symbols: dict[str, str]
    log: str


@dataclass(frozen=True, slots=True)
class Compiler:
    """The loaded library, its version, and the capabilities (90 for sm_90) it compiles for."""

    library: ctypes.CDLL
    version: str
    capabilities: tuple[int, ...]

    def architecture(self, capability: tuple[int, int]) -> str:
        """The newest of the GPU's own generation that both know, "sm_86" for a GPU of 8.9 too."""
        major, minor = capability
        known = [arch for arch in self.capabilities if 10 * major <= arch <= 10 * major + minor]
        if not known:
            raise CudaCompilerMissing(
                f"NVRTC {self.version} compiles for sm_{self.capabilities[0]} to"
                f" sm_{self.capabilities[-1]}, and this GPU is sm_{major}{minor};"
                " pip install --upgrade nvidia-cuda-nvrtc"
            )
        newest = max(known)
        return f"sm_{newest}a" if newest in OWN_INSTRUCTIONS else f"sm_{newest}"


def build(
    source: Source,
    names: Sequence[str],
    capability: tuple[int, int],
    folder: Path | None = None,
) -> Binary:
    """The kernels `names` of namespace hybrid, for a compute capability such as (9, 0).

    folder  keeps the binary for the next time

    Raises CudaCompilerMissing or KernelCompileFailed with the compiler's log.
    """
    compiler = find()
    architecture = compiler.architecture(capability)
    key = source.key(compiler.version, architecture, *OPTIONS, *names)
    kept = _unpack(cache.read(f"{key}.cubin", folder) or b"")
    if kept:
        return kept
    binary = _compile(compiler, source, names, architecture)
    cache.write(f"{key}.cubin", _pack(binary), folder)
    return binary


@lru_cache
def find() -> Compiler:
    """The NVRTC of torch's CUDA if it is there, else the newest. Raises CudaCompilerMissing."""
    tried = []
    for path in dict.fromkeys(_candidates(torch.version.cuda)):
        try:
            return _open(path)
        except OSError as error:
            tried.append(f"{path}: {error}")
    raise CudaCompilerMissing(
        "CUDA kernels are compiled by NVRTC (libnvrtc.so), which is not here"
        f" (looked at {len(tried)} places, the last: {tried[-1]}); {GET}"
    )


def _candidates(torch_cuda: str | None) -> Iterator[str]:
    """Paths and names to try, best first."""
    wanted = int(torch_cuda.partition(".")[0]) if torch_cuda else MAJORS[0]
    majors = sorted(MAJORS, key=lambda major: (major != wanted, -major))
    for major in majors:
        for entry in map(Path, sys.path):
            yield from map(str, sorted(entry.glob(f"nvidia/*/lib/libnvrtc.so.{major}*")))
        yield from map(str, sorted(Path(torch.__file__).parent.glob(f"lib/libnvrtc*.so.{major}*")))
        yield f"libnvrtc.so.{major}"
        yield f"/usr/local/cuda-{major}/lib64/libnvrtc.so.{major}"
        yield f"/usr/local/cuda/lib64/libnvrtc.so.{major}"
    yield "libnvrtc.so"


def _open(path: str) -> Compiler:
    """Raises OSError when it does not load."""
    # NVRTC opens its second library by name alone, and finds it when it is loaded already.
    for builtins in sorted(Path(path).parent.glob("libnvrtc-builtins.so.*")):
        ctypes.CDLL(str(builtins))
    library = ctypes.CDLL(path)
    major, minor, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    _check(library, library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    _check(library, library.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
    capabilities = (ctypes.c_int * count.value)()
    _check(library, library.nvrtcGetSupportedArchs(capabilities))
    return Compiler(library, f"{major.value}.{minor.value}", tuple(sorted(capabilities)))


def _pack(binary: Binary) -> bytes:
    about = {"symbols": binary.symbols, "log": binary.log, "nbytes": len(binary.cubin)}
    return json.dumps(about).encode() + b"\n" + binary.cubin


def _unpack(content: bytes) -> Binary | None:
    """None for what a full disk or another program left."""
    head, _, cubin = content.partition(b"\n")
    try:
        about = json.loads(head)
        whole = about["nbytes"] == len(cubin)
        return Binary(cubin, about["symbols"], about["log"]) if whole else None
    except (ValueError, KeyError, TypeError):
        return None


def _compile(compiler: Compiler, source: Source, names: Sequence[str], architecture: str) -> Binary:
    library, program = compiler.library, ctypes.c_void_p()
    # The using-directive lets the names be looked up as inside the namespace.
    text = f"{source.text()}using namespace hybrid;\n".encode()
    _check(
        library,
        library.nvrtcCreateProgram(ctypes.byref(program), text, b"kernels.entry", 0, None, None),
    )
    try:
        for name in names:
            _check(library, library.nvrtcAddNameExpression(program, name.encode()))
        folders = [f"--include-path={folder}" for folder in source.folders]
        options = [f"--gpu-architecture={architecture}", *OPTIONS, *folders]
        given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        status = library.nvrtcCompileProgram(program, len(options), given)
        log = _text(library, program, "ProgramLog").decode(errors="replace").rstrip("\0\n")
        if status != 0:
            raise KernelCompileFailed(
                f"{source.path} does not compile for {architecture} by NVRTC {compiler.version}"
                f" ({', '.join(names)}):\n{log}"
            )
        symbols = {name: _lowered(library, program, name) for name in names}
        return Binary(_text(library, program, "CUBIN"), symbols, log)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _lowered(library: ctypes.CDLL, program: ctypes.c_void_p, name: str) -> str:
    symbol = ctypes.c_char_p()
    _check(library, library.nvrtcGetLoweredName(program, name.encode(), ctypes.byref(symbol)))
    return (symbol.value or b"").decode()


def _text(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    nbytes = ctypes.c_size_t()
    _check(library, library[f"nvrtcGet{what}Size"](program, ctypes.byref(nbytes)))
    content = ctypes.create_string_buffer(nbytes.value)
    _check(library, library[f"nvrtcGet{what}"](program, content))
    return content.raw


def _check(library: ctypes.CDLL, status: int) -> None:
    if status != 0:
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        raise KernelCompileFailed(f"NVRTC: {library.nvrtcGetErrorString(status).decode()}")
