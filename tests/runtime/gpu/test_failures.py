"""Errors of GPUs as blocks: cause, what the error said, and a remedy each."""

import subprocess
import sys

import pytest
import torch

from hybrid.cli.failures import as_reported
from hybrid.errors import GpuLost, HybridError, MachineError
from hybrid.runtime.gpu.failures import (
    MOST_CHARACTERS,
    ON_THE_CPU,
    gpu_failure,
    gpu_failures_told,
)
from kernels import errors
from kernels.cuda import driver, driver_library, nvrtc

ASYNC = "\nCUDA kernel errors might be asynchronously reported at some other API call\n"


class OutOfResources(Exception):
    """As Triton's, which may not be here."""

    __module__ = "triton.runtime.errors"


def raised(call, *arguments):
    with pytest.raises(Exception) as caught:  # noqa: PT011  of any kind: that is what is tested
        call(*arguments)
    return caught.value


def driver_refuses(name, number, text):
    class Library:
        def cuGetErrorName(self, _, at):  # noqa: N802
            at._obj.value = name

        def cuGetErrorString(self, _, at):  # noqa: N802
            at._obj.value = text

    return raised(driver_library.check, Library(), "cuLaunchKernelEx", number, "matvec")


NO_TRITON = ModuleNotFoundError("No module named 'triton'", name="triton")
TORCH_OOM = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 23.64 GiB of"
    " which 1.25 GiB is free. Process 4711 has 21.00 GiB memory in use. If reserved but"
    " unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF"
)

# what the block begins with, a number or name of the error, a word of the remedy, the error
TABLE = {
    "no driver": (
        "NVIDIA's driver cannot be used",
        "libnothing.so",
        "525",
        lambda: raised(driver_library.open_driver, "libnothing.so"),
    ),
    "no NVRTC": (
        "CUDA kernels cannot be compiled",
        "sm_75 to sm_89",
        "nvidia-cuda-nvrtc",
        lambda: raised(nvrtc.Compiler(None, "11.8", (75, 89)).architecture, (12, 0)),
    ),
    "old GPU": (
        "a GPU is too old",
        "capability 7.5",
        "another GPU",
        lambda: raised(driver.check_capability, "CUDA0", (7, 5)),
    ),
    "kernel that does not compile": (
        "a CUDA kernel does not compile",
        "gpu.cu(3): error: x is undefined",
        "--traceback",
        lambda: errors.KernelCompileFailed(
            "a.cu does not compile\ngpu.cu(3): error: x is undefined"
        ),
    ),
    "fault in the emulator": (
        "a GPU kernel made a mistake",
        "thread 3",
        "--traceback",
        lambda: errors.EmulationFailed("matvec: thread 3 of block 0 reads beyond"),
    ),
    "silent GPU": (
        "a GPU and the CPU have lost each other",
        "crossing 3 of 26",
        "dmesg",
        lambda: errors.GpuSilent(
            "GPU 0 did not come to crossing 3 of 26 within 10 s; the step is lost. Look at dmesg"
        ),
    ),
    "failed worker": (
        "a thread of the CPU failed",
        "worker 3",
        "fewer threads (-t)",
        lambda: errors.WorkerFailed(
            "worker 3 of the thread pool did not answer; fewer threads (-t)"
        ),
    ),
    "driver call out of memory": (
        "a GPU's memory ran out",
        "CUDA_ERROR_OUT_OF_MEMORY (2)",
        "nvidia-smi",
        lambda: driver_refuses(b"CUDA_ERROR_OUT_OF_MEMORY", 2, b"out of memory"),
    ),
    "driver call on a lost GPU": (
        "a GPU was lost",
        "CUDA_ERROR_LAUNCH_FAILED (719)",
        "Xid",
        lambda: driver_refuses(b"CUDA_ERROR_LAUNCH_FAILED", 719, b"unspecified launch failure"),
    ),
    "driver call of another kind": (
        "a GPU refused a call",
        "CUDA_ERROR_NOT_PERMITTED (800)",
        "nvidia-smi",
        lambda: driver_refuses(b"CUDA_ERROR_NOT_PERMITTED", 800, b"operation not permitted"),
    ),
    "torch out of memory": (
        "a GPU's memory ran out",
        "1.25 GiB is free",
        "--vram",
        lambda: TORCH_OOM,
    ),
    "lost GPU": (
        "a GPU was lost",
        "unspecified launch failure",
        "Xid",
        lambda: RuntimeError(f"CUDA error: unspecified launch failure{ASYNC}"),
    ),
    "lost GPU in NVML's words": (
        "a GPU was lost",
        "GPU is lost",
        "restart",
        lambda: RuntimeError("GPU is lost"),
    ),
    "kernel's mistake": (
        "a kernel made a mistake",
        "illegal memory access",
        "--traceback",
        lambda: RuntimeError(f"CUDA error: an illegal memory access was encountered{ASYNC}"),
    ),
    "no kernel image": (
        "this torch has no code for the GPU",
        "no kernel image",
        "pytorch.org",
        lambda: RuntimeError(
            "CUDA error: no kernel image is available for execution on the device"
        ),
    ),
    "old driver": (
        "NVIDIA's driver is too old",
        "11040",
        "update",
        lambda: RuntimeError(
            "The NVIDIA driver on your system is too old (found version 11040). Please update"
        ),
    ),
    "no driver, says torch": (
        "CUDA finds no GPU",
        "Found no NVIDIA driver",
        "nvidia-smi",
        lambda: RuntimeError("Found no NVIDIA driver on your system. Please check"),
    ),
    "busy GPU": (
        "another process holds the GPU",
        "busy or unavailable",
        "nvidia-smi",
        lambda: RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
    ),
    "torch without CUDA": (
        "this torch is built without CUDA",
        "not compiled with CUDA",
        "pytorch.org",
        lambda: AssertionError("Torch not compiled with CUDA enabled"),
    ),
    "unheard-of error of CUDA": (
        "a GPU refused a call",
        "the stars are wrong",
        "nvidia-smi",
        lambda: RuntimeError(f"CUDA error: the stars are wrong{ASYNC}"),
    ),
    "no Triton": ("Triton does not load", "No module", "pip install", lambda: NO_TRITON),
    "no C compiler": (
        "Triton needs a C compiler",
        "Failed to find C compiler",
        "gcc",
        lambda: RuntimeError("Failed to find C compiler. Please specify via CC"),
    ),
    "shared memory": (
        "a kernel needs more",
        "Required: 262144",
        "--traceback",
        lambda: OutOfResources("out of resource: shared memory, Required: 262144, limit: 101376"),
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_an_error_of_a_gpu_is_one_block_with_numbers_and_remedies(name):
    cause, detail, remedy, make = TABLE[name]
    error = make()
    block = gpu_failure(error)
    assert isinstance(block, MachineError)
    assert block.cause.startswith(cause)
    assert "\n" not in block.cause
    assert detail in "\n".join(block.details)
    assert remedy in "\n".join(block.remedies)
    assert all(len(line) <= MOST_CHARACTERS for line in block.details)
    assert "PYTORCH_CUDA_ALLOC_CONF" not in str(block)
    assert str(as_reported(error)) == str(block)


@pytest.mark.parametrize("name", sorted(set(TABLE) - {"failed worker"}))
def test_the_cpu_alone_is_always_a_remedy(name):
    remedies = gpu_failure(TABLE[name][3]()).remedies
    assert sum("--device none" in remedy for remedy in remedies) == 1, remedies


def test_no_class_of_the_kernels_is_forgotten():
    """Every error but a caller's mistake and what load.py tells of."""
    ours = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    for kind in ours - {errors.KernelInputError, errors.NativeLibraryMissing}:
        assert gpu_failure(kind("some words")), kind


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Expected all tensors to be on the same device, found cuda:0 and cpu"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        ImportError("no libfoo.so", name="foo"),
        AssertionError("the arena was sized for less"),
        ValueError("CUDA error: said by someone else"),
        HybridError("told already", remedy=ON_THE_CPU),
    ],
    ids=str,
)
def test_other_errors_are_not_taken_for_a_gpus(error):
    assert gpu_failure(error) is None


def test_the_block_is_told_without_torch():
    assert "torch" not in vars(sys.modules["hybrid.runtime.gpu.failures"])


def test_errors_of_gpus_leave_as_blocks_and_others_as_they_are():
    lost = RuntimeError("CUDA error: unspecified launch failure")
    with pytest.raises(MachineError, match="a GPU was lost") as caught, gpu_failures_told():
        raise lost
    assert caught.value.__cause__ is lost
    with pytest.raises(ZeroDivisionError), gpu_failures_told():
        raise ZeroDivisionError
    told = MachineError("told already", remedy=ON_THE_CPU)
    with pytest.raises(MachineError) as caught, gpu_failures_told():
        raise told
    assert caught.value is told


@pytest.mark.parametrize("name", TABLE)
def test_only_a_gpu_that_refuses_every_further_call_is_lost(name):
    block = gpu_failure(TABLE[name][3]())
    ended = ("a GPU was lost", "a kernel made a mistake on a GPU")
    assert isinstance(block, GpuLost) == block.cause.startswith(ended)


def test_a_command_that_lost_its_gpu_frees_nothing_at_its_end():
    program = """
import subprocess
import sys
from hybrid.cli import main, plan

class OnTheGpu:
    def __del__(self):
        print("freed", flush=True)

def run(args):
    kept = OnTheGpu()
    raise RuntimeError("CUDA error: unspecified launch failure")

plan.run = run
sys.exit(main.main(["plan", "demo"]))
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert found.stdout == ""
    assert found.stderr.startswith("error: a GPU was lost")
    assert found.returncode == 1
