"""Errors of the program, each one block for a person (cause, numbers, remedy).

HybridError              base of everything below and of `placement.errors`
  UsageError             the command line or a call is wrong            exit 2
  GgufError              a file that is not, or not wholly, a GGUF
  UnsupportedModel       a good file of a kind this program cannot run
  TokenizerError         vocabulary, chat template or text
  ContextError           more tokens than the reserved cache holds
  MachineError           a device, library or driver that is not there
    GpuLost              a GPU that this process cannot use any more
  OutputError            a file or pipe that cannot be written
"""

from placement.errors import ReportedError as HybridError

__all__ = [
    "ContextError",
    "GgufError",
    "GpuLost",
    "HybridError",
    "MachineError",
    "OutputError",
    "TokenizerError",
    "UnsupportedModel",
    "UsageError",
]


class UsageError(HybridError):
    """The command line, or the arguments of a call, are wrong."""

    exit_code = 2


class GgufError(HybridError):
    """The file is missing, cut, corrupt or not a GGUF."""


class UnsupportedModel(HybridError):
    """A good file that this program cannot run: architecture, format or tensors it does not
    know."""


class TokenizerError(HybridError):
    """The vocabulary, the chat template or a text cannot be used."""


class ContextError(HybridError):
    """The tokens asked for do not fit into the reserved cache."""


class MachineError(HybridError):
    """A device, driver or library that is needed is not there."""


class GpuLost(MachineError):
    """A GPU failed in the middle of its work: CUDA refuses every further call of this process. What
    lies on it cannot be freed either, and the interpreter's orderly end aborts on that; end with
    `os._exit`, as the command line does.
    """


class OutputError(HybridError):
    """A file or pipe cannot be written."""
