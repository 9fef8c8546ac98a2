"""Errors of this package."""


class KernelInputError(ValueError):
    """A shape, dtype, format or index that breaks a kernel's contract: a mistake of the caller, never of a user."""


class NativeLibraryMissing(ImportError):
    """The compiled library is not there or does not load; the message says where it was looked for."""
