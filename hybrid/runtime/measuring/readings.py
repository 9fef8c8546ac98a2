"""What a machine's measuring brings: figures by device, and one line for each failure."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hybrid.errors import HybridError
from hybrid.runtime.gpu.failures import gpu_failure
from kernels.errors import KernelInputError

Value = TypeVar("Value")

# Ours and torch's (RuntimeError, AssertionError without CUDA), the system's, missing libraries'.
FAULTS = (
    HybridError,
    RuntimeError,
    AssertionError,
    ImportError,
    OSError,
    MemoryError,
    KernelInputError,
)


@dataclass(slots=True)
class Readings:
    """Collects both.

    say       is told what is measured next
    figures   values of HostSpeeds and GpuSpeeds by name, by device name
    """

    say: Callable[[str], None]
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def note(self, device: str, **figures: Any) -> None:
        self.figures.setdefault(device, {}).update(figures)

    def attempt(self, device: str, what: str, measure: Callable[[], Value]) -> Value | None:
        """What `measure` returns; None, and one line among the faults, when it fails."""
        self.say(f"{device}: {what}")
        try:
            return measure()
        except FAULTS as error:
            told = gpu_failure(error) or error
            said = (str(told).splitlines() or [type(error).__name__])[0]
            self.faults.append(f"{device}: {what} could not be measured: {said[:160]}")
            return None

    def figure(self, device: str, name: str, what: str, measure: Callable[[], Any]) -> None:
        """Notes what `measure` returns under this name, unless it fails."""
        value = self.attempt(device, what, measure)
        if value is not None:
            self.note(device, **{name: value})
