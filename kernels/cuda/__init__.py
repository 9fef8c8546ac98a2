"""CUDA kernels from source to launch: compiled by NVRTC, kept on disk, launched by the driver.

    program = Program("linear/gpu.cu")                        # a path inside kernels/
    kernel = program.kernel("matvec<1, Q8_0>", device)        # compiled on first use
    kernel.launch((blocks, 1, 1), threads, record, shared_bytes=0, overlap=True)

Kernels are `template <...> __global__ void name(const Record record)` in namespace hybrid, written
with `device.h` alone; the record is a struct that a `Record` here mirrors field by field. On a
CPU device the same source runs in the emulator, block by block, for tests.

Must not know: ops, formats, models; which kernel is run when.
Start reading at `program.py`; then `device.h`, which says what a kernel can use.
Called by each op's `gpu.py`.
"""

from kernels.cuda.program import Kernel, Program, Record

__all__ = ["Kernel", "Program", "Record"]
