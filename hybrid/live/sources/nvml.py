"""GPUs as NVML, the driver's library, sees them: temperature, power, clocks, PCIe. The only module
that calls it while a model runs.

Each figure is asked for on its own: what a card, a driver, a virtual machine or a permission
refuses is None, and what was refused as unsupported is not asked again.
"""

import importlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from hybrid.live.snapshot import Sensors
from hybrid.live.sources.readings import GpuReading

# NVML's numbers, fixed by its interface
_TEMPERATURE_GPU = 0
_CLOCK_SM, _CLOCK_MEMORY = 1, 2
_PCIE_TO_HOST, _PCIE_FROM_HOST = 0, 1  # as the GPU sends and receives
_NOT_SUPPORTED, _NO_PERMISSION = 3, 4
KB = 1000

# Bits of the reasons for clocks below the highest; that the GPU is idle (1) is none of them.
REASONS = {
    0x2: "clocks set by a user",
    0x4: "power limit",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "temperature",
    0x40: "temperature (hardware)",
    0x80: "power brake",
    0x100: "display clock",
    0x200: "board limit",
    0x400: "voltage reliability",
}


def load_nvml() -> Any | None:
    """The library's Python module, None where it is missing."""
    try:
        return importlib.import_module("pynvml")
    except (ImportError, OSError):
        return None


class NvmlGpus:
    """The GPUs of a plan, asked again and again. Calls may take a tenth of a second a GPU: not for
    the thread that generates.

    nvml    the module pynvml; None gives no readings
    uuids   NVML's "GPU-..." by device name
    """

    def __init__(self, nvml: Any | None, uuids: Mapping[str, str]) -> None:
        self._nvml = nvml if uuids else None
        self._handles: dict[str, Any] = {}
        self._refused: set[tuple[str, str]] = set()
        self._open = False
        if self._nvml is not None:
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlInit()
                self._open = True
        for name, uuid in uuids.items() if self._open else ():
            handle = self._ask(name, "nvmlDeviceGetHandleByUUID", uuid)
            if handle is not None:
                self._handles[name] = handle

    def read(self) -> dict[str, GpuReading]:
        """By device name; GPUs that NVML does not know are left out."""
        return {name: self._gpu(name, handle) for name, handle in self._handles.items()}

    def close(self) -> None:
        if self._nvml is not None and self._open:
            self._open = False
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _gpu(self, name: str, handle: Any) -> GpuReading:
        def ask(function: str, *more: Any) -> Any:
            return self._ask(name, function, handle, *more)

        load = ask("nvmlDeviceGetUtilizationRates")
        memory = ask("nvmlDeviceGetMemoryInfo")
        power, limit = ask("nvmlDeviceGetPowerUsage"), ask("nvmlDeviceGetEnforcedPowerLimit")
        sent = ask("nvmlDeviceGetPcieThroughput", _PCIE_FROM_HOST)
        received = ask("nvmlDeviceGetPcieThroughput", _PCIE_TO_HOST)
        sensors = Sensors(
            busy_share=_scaled(getattr(load, "gpu", None), 0.01),
            temperature_c=_scaled(ask("nvmlDeviceGetTemperature", _TEMPERATURE_GPU), 1.0),
            power_w=_scaled(power, 1e-3),
            power_limit_w=_scaled(limit, 1e-3),
            sm_clock_mhz=ask("nvmlDeviceGetClockInfo", _CLOCK_SM),
            memory_clock_mhz=ask("nvmlDeviceGetClockInfo", _CLOCK_MEMORY),
            throttle=self._throttle(ask),
            link_generation=ask("nvmlDeviceGetCurrPcieLinkGeneration"),
            link_width=ask("nvmlDeviceGetCurrPcieLinkWidth"),
            link_most_generation=ask("nvmlDeviceGetMaxPcieLinkGeneration"),
            link_most_width=ask("nvmlDeviceGetMaxPcieLinkWidth"),
            link_sent_bytes_s=_scaled(sent, KB),
            link_received_bytes_s=_scaled(received, KB),
        )
        used = getattr(memory, "used", None)
        return GpuReading(sensors, None if used is None else int(used))

    def _throttle(self, ask: Callable[[str], Any]) -> tuple[str, ...] | None:
        newer = "nvmlDeviceGetCurrentClocksEventReasons"
        known = hasattr(self._nvml, newer)
        bits = ask(newer if known else "nvmlDeviceGetCurrentClocksThrottleReasons")
        if bits is None:
            return None
        return tuple(reason for bit, reason in REASONS.items() if int(bits) & bit)

    def _ask(self, name: str, function: str, *arguments: Any) -> Any:
        """The answer; None where there is none."""
        asked = f"{function} {arguments[1:]}"
        call = getattr(self._nvml, function, None)
        if call is None or (name, asked) in self._refused:
            return None
        assert self._nvml is not None, "it has the function"
        try:
            return call(*arguments)
        except self._nvml.NVMLError as error:
            if getattr(error, "value", None) in (_NOT_SUPPORTED, _NO_PERMISSION):
                self._refused.add((name, asked))
            return None


def _scaled(value: Any, factor: float) -> float | None:
    return None if value is None else float(value) * factor
