"""Whatever went wrong as one block: HybridErrors as they are, others in our words."""

import errno
import sys
import traceback

from hybrid.cli.output import error_block
from hybrid.errors import HybridError, MachineError, OutputError
from hybrid.runtime.gpu.failures import gpu_failure

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_OUT_OF_MEMORY_WORDS = ("can't allocate memory", "out of memory")


def report(error: BaseException, *, with_traceback: bool) -> int:
    """Print the error; the exit code it stands for."""
    if with_traceback:
        traceback.print_exception(type(error), error, error.__traceback__)
    if isinstance(error, KeyboardInterrupt):
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    reported = as_reported(error)
    error_block(reported)
    return reported.exit_code


def as_reported(error: BaseException) -> HybridError:
    """The block for an exception of any kind."""
    if isinstance(error, HybridError):
        return error
    of_gpu = gpu_failure(error)
    if of_gpu is not None:
        return of_gpu
    if _is_out_of_memory(error):
        return MachineError(
            "memory ran out",
            _first_line(error),
            remedy=["-c or -ub with a smaller number", "-ot exps=CPU, or a lower --vram budget"],
        )
    if isinstance(error, BrokenPipeError):
        return OutputError(
            "whoever read the output has gone",
            remedy="let the reading program run to its end, or write to a file: > out.txt",
        )
    if isinstance(error, OSError):
        return _system_error(error)
    if isinstance(error, ImportError):
        return MachineError(
            "a library that this command needs does not load",
            _first_line(error),
            remedy=["hybrid doctor shows what is missing", "pip install --force-reinstall ."],
        )
    return HybridError(
        f"internal error: {type(error).__name__}: {_first_line(error)}",
        "this is a mistake of the program, not yours",
        remedy="run the command again with --traceback and report what it prints",
    )


def _system_error(error: OSError) -> HybridError:
    where = f" ({error.filename})" if error.filename else ""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return OutputError(
        f"{error.strerror or _first_line(error)}{where}",
        remedy="free space on that disk" if full else "check the path, its disk and permissions",
    )


def _is_out_of_memory(error: BaseException) -> bool:
    """MemoryError, and torch's: told by name and words, since torch may not be imported here."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in _OUT_OF_MEMORY_WORDS)


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:300]
