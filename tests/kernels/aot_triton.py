"""Compiles Triton kernels for an architecture that need not be here, and reads what they take."""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

SHARED_BYTES = {80: 163 << 10, 86: 99 << 10, 89: 99 << 10, 90: 227 << 10, 120: 99 << 10}
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
WARP = 32


@dataclass(frozen=True)
class Resources:
    """Of one program.

    shared_bytes   of its block
    registers      of a thread
    stack_bytes    of a thread: what does not fit into its registers
    wgmma          instructions of Hopper's matrix unit
    bulk_copies    instructions of the bulk copy engine
    """

    shared_bytes: int
    registers: int
    stack_bytes: int
    wgmma: int
    bulk_copies: int


def resources(
    kernel: Any,
    sm: int,
    types: Mapping[str, str],
    constants: Mapping[str, object],
    **options: int | bool,
) -> Resources:
    """Compiles `kernel` as a launch would.

    types       Triton's type of every argument that is no constant; pointers count as 16-byte
                aligned where their type ends in "!", integers as multiples of 16 likewise
    constants   of its `tl.constexpr` arguments
    options     num_warps, num_stages, launch_pdl
    """
    names = kernel.arg_names
    signature = {name: types.get(name, "constexpr").rstrip("!") for name in names}
    aligned = [i for i, name in enumerate(names) if types.get(name, "").endswith("!")]
    source = ASTSource(
        kernel,
        signature,
        {(names.index(name),): value for name, value in constants.items()},
        {(i,): [["tt.divisibility", 16]] for i in aligned},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", sm, WARP), options=dict(options))
    usage = _usage(compiled.asm["cubin"])
    assembly = compiled.asm["ptx"]
    return Resources(
        compiled.metadata.shared,
        usage["REG"],
        usage["STACK"] + usage["LOCAL"],
        assembly.count("wgmma.mma_async"),
        assembly.count("cp.async.bulk.tensor"),
    )


def _usage(cubin: bytes) -> dict[str, int]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(CUOBJDUMP), "--dump-resource-usage", file.name]
        report = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {name: int(number) for name, number in re.findall(r"(REG|STACK|LOCAL):(\d+)", report)}
