"""Errors that are printed for a person.

    ReportedError            cause, numbers, remedies; `hybrid.HybridError` is this very class
      PlacementError
        RequestError         a size, budget or count that cannot be read or obeyed
        RuleError            a -ot / --override-tensor text that cannot be obeyed
        ProbeError           the machine could not be read as asked
        DoesNotFit           bytes needed against bytes there
        PlanError            a plan file that does not belong to the model or the machine

The base lives here because imports run one way (`hybrid -> placement`) and a caller of `hybrid`
wants one class to catch.
"""

from collections.abc import Sequence


class ReportedError(Exception):
    """One block for a person: what is wrong, the numbers, and at least one thing to do.

    cause     one line without a full stop: "the model does not fit on CUDA0"
    details   further lines with numbers
    remedy    one or more lines that a person can follow or paste
    """

    exit_code = 1

    def __init__(self, cause: str, *details: str, remedy: str | Sequence[str]) -> None:
        self.cause = cause
        self.details = details
        self.remedies = (remedy,) if isinstance(remedy, str) else tuple(remedy)
        super().__init__(cause)

    def __str__(self) -> str:
        """The block as printed after "error: "."""
        lines = [self.cause]
        lines += [f"  {line}" for line in self.details]
        lines += [
            f"  {'try' if i == 0 else 'or '}   {line}" for i, line in enumerate(self.remedies)
        ]
        return "\n".join(lines)


class PlacementError(ReportedError):
    """Anything this package cannot do with what it was given."""


class RequestError(PlacementError):
    """A size, budget or count in the request that cannot be read or obeyed."""

    exit_code = 2


class RuleError(PlacementError):
    """A rule that cannot be parsed or obeyed; the command line was wrong."""

    exit_code = 2


class ProbeError(PlacementError):
    """The machine could not be read as asked."""


class DoesNotFit(PlacementError):
    """Bytes needed exceed bytes there; found before anything is loaded."""


class PlanError(PlacementError):
    """A plan file that does not belong to this model or this machine."""
