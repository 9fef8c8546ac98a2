"""What kernels need of a GPU that is not there: compiled ahead of time, read from the compiler.

needs = cuda_resources("linear/gpu.cu", ["matvec<1, Q8_0>"], (9, 0))["matvec<1, Q8_0>"]
assert needs.spill_bytes == 0

every = triton_resources("kernels.attention.gpu:split", {"q": "*fp32"}, {"BLOCK": 64}, [(9, 0)])
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from kernels.cuda import nvrtc
from kernels.cuda.sources import KERNELS, Source

CAPABILITIES = ((8, 0), (8, 6), (8, 9), (9, 0), (12, 0))
MOST_SHARED_BYTES = {  # of a block; CUDA programming guide, table of compute capabilities
    (8, 0): 163 << 10,
    (8, 6): 99 << 10,
    (8, 9): 99 << 10,
    (9, 0): 227 << 10,
    (12, 0): 99 << 10,
}
ROOT = Path(__file__).resolve().parents[2]
Capability = tuple[int, int]

PTXAS = re.compile(
    r"Compiling entry function '(?P<symbol>\w+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<spill>\d+) bytes spill stores.*?"
    r"Used (?P<registers>\d+) registers(?P<more>[^\n]*)",
    re.DOTALL,
)
CUOBJDUMP = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+)")


@dataclass(frozen=True, slots=True)
class Resources:
    """registers of a thread; stack and spill bytes of a thread, both in slow local memory.

    static_shared_bytes of a block for CUDA; for Triton all that the kernel is launched with, and
    its spill is its stack, which holds nothing else.
    """

    registers: int
    stack_bytes: int
    spill_bytes: int
    static_shared_bytes: int


def cuda_resources(
    path: str, names: Sequence[str], capability: Capability, folder: Path = KERNELS
) -> dict[str, Resources]:
    """Each kernel of a .cu file, compiled in one pass. Raises what nvrtc.build raises."""
    binary = nvrtc.build(Source(path, (folder, KERNELS)), names, capability)
    said = {found["symbol"]: found for found in PTXAS.finditer(binary.log)}
    return {name: _from_ptxas(said[symbol]) for name, symbol in binary.symbols.items()}


def triton_resources(
    kernel: str,
    signature: Mapping[str, str],
    constants: Mapping[str, Any],
    capabilities: Sequence[Capability] = CAPABILITIES,
    **options: int,
) -> dict[Capability, Resources]:
    """A Triton kernel "module:name" for each capability.

    signature  {"x": "*fp16", "n": "i32"}, every argument that is no constant
    constants  {"BLOCK": 64, "DTYPE": "tl.float16"}
    options    num_warps, num_stages

    In a process of its own: this one may run Triton's interpreter, which compiles nothing.
    """
    task = {
        "kernel": kernel,
        "signature": dict(signature),
        "constants": dict(constants),
        "capabilities": list(capabilities),
        "options": options,
    }
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.kernels.aot"],
        input=json.dumps(task),
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"{kernel} does not compile:\n{run.stderr}"
    found = json.loads(run.stdout.splitlines()[-1])
    return {
        capability: Resources(**needs)
        for capability, needs in zip(map(tuple, capabilities), found, strict=True)
    }


def _from_ptxas(found: re.Match[str]) -> Resources:
    shared = re.search(r"(\d+) bytes smem", found["more"])
    return Resources(
        registers=int(found["registers"]),
        stack_bytes=int(found["stack"]),
        spill_bytes=int(found["spill"]),
        static_shared_bytes=int(shared[1]) if shared else 0,
    )


def _compile_triton(task: dict[str, Any]) -> list[dict[str, int]]:
    import triton.language as tl  # noqa: PLC0415  this file is imported where Triton is not
    from triton import compile as compile_kernel  # noqa: PLC0415
    from triton.backends.compiler import GPUTarget  # noqa: PLC0415
    from triton.compiler import ASTSource  # noqa: PLC0415

    module, _, name = task["kernel"].partition(":")
    kernel = getattr(import_module(module), name)
    constants = {
        name: getattr(tl, value[3:]) if isinstance(value, str) and value[:3] == "tl." else value
        for name, value in task["constants"].items()
    }
    signature = {
        name: "constexpr" if name in constants else task["signature"][name]
        for name in kernel.arg_names
    }
    found = []
    for major, minor in task["capabilities"]:
        compiled = compile_kernel(
            ASTSource(kernel, signature, constants),
            target=GPUTarget("cuda", 10 * major + minor, 32),
            options=task["options"],
        )
        registers, stack, _ = _cuobjdump(compiled.asm["cubin"])
        found.append(asdict(Resources(registers, stack, stack, compiled.metadata.shared)))
    return found


def _cuobjdump(cubin: bytes) -> tuple[int, ...]:
    import triton  # noqa: PLC0415

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    match = CUOBJDUMP.search(said)
    assert match, f"cuobjdump says nothing of registers:\n{said}"
    return tuple(map(int, match.groups()))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_compile_triton(json.load(sys.stdin))) + "\n")
