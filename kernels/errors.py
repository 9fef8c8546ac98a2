"""Errors of this package."""


class KernelInputError(ValueError):
    """A shape, dtype, format or index that breaks a contract: a caller's mistake, not a user's."""


class NativeLibraryMissing(ImportError):
    """The compiled library is not there or does not load; the message says where and what to do."""


class GpuSilent(RuntimeError):
    """A GPU did not call the CPU in time, or gave up waiting for it; says what to do."""


class WorkerFailed(RuntimeError):
    """A thread of the native pool failed; the message says which one, how, and what to do."""


class CudaDriverMissing(ImportError):
    """NVIDIA's driver library is not there, or does not know a function that is needed."""


class CudaCompilerMissing(ImportError):
    """NVRTC is not there, or is too old for the GPU; the message says what to install."""


class DeviceTooOld(RuntimeError):
    """A GPU of a compute capability that the kernels are not written for."""


class KernelCompileFailed(RuntimeError):
    """A kernel's source does not compile; the message carries the compiler's log."""


class CudaCallFailed(RuntimeError):
    """The driver refused a call; the message has the call, the error's name and its text."""


class EmulationFailed(RuntimeError):
    """A kernel did in the emulator what a GPU leaves undefined; the message says which thread."""
