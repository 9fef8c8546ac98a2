"""What goes wrong with GPUs, as one block for a person each.

Our own errors are told by their class; what they say before "; " is the cause, behind it the
remedy. Those of torch, of Triton and of the driver are told by their words. No torch here: this is
asked about any error of any command.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hybrid.errors import GpuLost, MachineError
from kernels.errors import (
    CudaCallFailed,
    CudaCompilerMissing,
    CudaDriverMissing,
    DeviceTooOld,
    EmulationFailed,
    GpuSilent,
    KernelCompileFailed,
    WorkerFailed,
)

ON_THE_CPU = "--device none computes on the CPU alone"
REPORT = "run it with --traceback and report what it prints"
MOST_CHARACTERS = 400  # of an error's text: torch's go on about its settings
MOST_LOG_LINES = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """Errors that mean the same to a user.

    words      any of these is in the error's text, whatever the case
    remedies   what to do, best first
    is_end     CUDA refuses every further call of this process
    """

    words: tuple[str, ...]
    cause: str
    remedies: tuple[str, ...]
    is_end: bool = False


# Looked through in this order; names of the driver's errors are those of cuda.h.
FAULTS = (
    Fault(
        ("out of memory", "cuda_error_out_of_memory", "cublas_status_alloc_failed"),
        "a GPU's memory ran out, or RAM that is pinned for it",
        (
            "nvidia-smi lists who holds it: end other programs on the GPU",
            "--vram CUDA0=SIZE below what is free, or a smaller -c or -ub",
            "where the GPU has room: `ulimit -l` bounds what may be pinned",
        ),
    ),
    Fault(
        ("no kernel image is available", "cuda_error_no_binary_for_gpu"),
        "this torch has no code for the GPU",
        ("install a torch that is built for it: https://pytorch.org/get-started/locally",),
    ),
    Fault(
        (
            "driver on your system is too old",
            "driver version is insufficient",
            "unsupported toolchain",
            "cuda_error_unsupported_ptx_version",
            "cuda_error_invalid_image",
            "cuda_error_system_driver_mismatch",
        ),
        "NVIDIA's driver is too old, or not the one that is loaded",
        (
            "update NVIDIA's driver and restart the machine",
            "install a torch that is built for the driver's CUDA version; nvidia-smi shows it",
        ),
    ),
    Fault(
        ("not compiled with cuda",),
        "this torch is built without CUDA",
        ("install a torch that is built for CUDA: https://pytorch.org/get-started/locally",),
    ),
    Fault(
        (
            "found no nvidia driver",
            "no cuda gpus are available",
            "no cuda-capable device",
            "cuda_error_no_device",
        ),
        "CUDA finds no GPU",
        (
            "nvidia-smi lists the GPUs; CUDA_VISIBLE_DEVICES may hide them",
            "in a container: start it with access to the GPUs",
        ),
    ),
    Fault(
        ("busy or unavailable", "cuda_error_device_unavailable"),
        "another process holds the GPU alone",
        ("nvidia-smi lists it; end it", "another GPU: --device CUDA1"),
    ),
    Fault(
        (
            "gpu is lost",
            "unspecified launch failure",
            "launch timed out",
            "uncorrectable",
            "invalid access of peer gpu memory",
            "context is destroyed",
            "hardware stack error",
            "unknown error",
            "cuda_error_launch_failed",
            "cuda_error_unknown",
            "cuda_error_system_not_ready",
        ),
        "a GPU was lost in the middle of its work",
        (
            "run it again: dmesg has a line with Xid where the hardware or the driver failed",
            "restart the machine where nvidia-smi shows no GPU any more",
        ),
        is_end=True,
    ),
    Fault(
        (
            "illegal memory access",
            "illegal address",
            "illegal instruction",
            "misaligned address",
            "invalid program counter",
            "operation not supported on global/shared address space",
            "device-side assert",
            "invalid device function",
            "cuda_error_illegal",
            "cuda_error_misaligned",
            "cuda_error_assert",
        ),
        "a kernel made a mistake on a GPU",
        (REPORT,),
        is_end=True,
    ),
    Fault(
        ("failed to find c compiler",),
        "Triton needs a C compiler, which is not here",
        ("install gcc: apt install gcc, or what your system has in its place",),
    ),
    Fault(
        ("out of resource", "outofresources"),
        "a kernel needs more than a block of threads has on this GPU",
        (REPORT,),
    ),
)
# In the text of torch's errors about GPUs, and not in those about our own mistakes with tensors.
GPU_WORDS = (
    *("cuda error", "cuda out of memory", "cuda driver", "cuda gpus", "compiled with cuda"),
    *("cublas_status", "nvidia driver", "gpu is lost", "failed to find c compiler"),
)
UNKNOWN = Fault((), "a GPU refused a call", ("nvidia-smi shows whether it still answers", REPORT))

# Of our own errors; what the text says to do comes before these.
OWN = {
    CudaDriverMissing: ("NVIDIA's driver cannot be used", ON_THE_CPU),
    CudaCompilerMissing: ("CUDA kernels cannot be compiled here", ON_THE_CPU),
    DeviceTooOld: ("a GPU is too old", ON_THE_CPU),
    KernelCompileFailed: ("a CUDA kernel does not compile", REPORT, ON_THE_CPU),
    EmulationFailed: ("a GPU kernel made a mistake", REPORT, ON_THE_CPU),
    GpuSilent: ("a GPU and the CPU have lost each other", ON_THE_CPU),
    WorkerFailed: ("a thread of the CPU failed", REPORT),
}


def gpu_failure(error: BaseException) -> MachineError | None:
    """The block for an error of a GPU, its libraries or the threads that serve it; None for any
    other error.
    """
    for kind, (cause, *remedies) in OWN.items():
        if isinstance(error, kind):
            return _of_ours(error, cause, remedies)
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "triton":
        return MachineError(
            "Triton does not load, which attention on GPUs needs",
            _short(str(error)),
            remedy=["pip install --upgrade triton", ON_THE_CPU],
        )
    if not _is_about_gpus(error):
        return None
    text = str(error)
    fault = _fault(f"{type(error).__name__} {text}".lower())
    kind = GpuLost if fault.is_end else MachineError
    return kind(fault.cause, _short(text), remedy=[*fault.remedies, ON_THE_CPU])


@contextmanager
def gpu_failures_told() -> Iterator[None]:
    """Errors of GPUs inside leave as MachineError, with what was raised as their cause."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  Triton's have no class in common
        failure = gpu_failure(error)
        if failure is None:
            raise
        raise failure from error


def _of_ours(error: BaseException, cause: str, remedies: list[str]) -> MachineError:
    first, *log = str(error).splitlines() or [type(error).__name__]
    said, _, advice = first.partition("; ")
    details = [said, *[line.strip() for line in log if "error" in line][:MOST_LOG_LINES]]
    if advice:
        remedies = [advice, *(r for r in remedies if r != ON_THE_CPU or "--device" not in advice)]
    return MachineError(cause, *details, remedy=remedies)


def _is_about_gpus(error: BaseException) -> bool:
    """torch raises RuntimeError and its heirs, where it lacks CUDA AssertionError."""
    if isinstance(error, CudaCallFailed) or type(error).__module__.startswith("triton."):
        return True
    text = str(error).lower()
    return isinstance(error, (RuntimeError, AssertionError)) and any(w in text for w in GPU_WORDS)


def _fault(text: str) -> Fault:
    return next((fault for fault in FAULTS if any(word in text for word in fault.words)), UNKNOWN)


def _short(text: str) -> str:
    """The first line, without the advice about settings that torch and the driver add to it."""
    first = (text.splitlines() or [""])[0]
    said = first.partition(" If reserved but unallocated")[0].partition("; ")[0]
    return said[:MOST_CHARACTERS]
