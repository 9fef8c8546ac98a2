"""Errors of this package."""


class KernelInputError(ValueError):
    """A shape, dtype, format or index that breaks a contract: a caller's mistake, not a user's."""


class NativeLibraryMissing(ImportError):
    """The compiled library is not there or does not load; the message says where and what to do."""


class GpuSilent(RuntimeError):
    """A GPU did not call the CPU in time, or gave up waiting for it; the message says what to do."""


class WorkerFailed(RuntimeError):
    """A thread of the native pool failed; the message says which one, how, and what to do."""
