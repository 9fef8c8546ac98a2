"""GPUs' figures from an NVML that the test plays: what it refuses is None, never zero."""

import builtins
from types import SimpleNamespace

import pytest

from hybrid.live.snapshot import Sensors
from hybrid.live.sources import nvml
from hybrid.live.sources.nvml import NvmlGpus, load_nvml

NOT_SUPPORTED, NO_PERMISSION, LOST = 3, 4, 15
UUIDS = {"CUDA0": "GPU-a"}


class NVMLError(Exception):
    def __init__(self, value):
        super().__init__(value)
        self.value = value


class Nvml:
    """The module pynvml with one card; `refused` maps a function to its error."""

    NVMLError = NVMLError

    def __init__(self, **refused):
        self.refused, self.calls, self.depth = refused, [], 0

    def _answer(self, function, value):
        self.calls.append(function)
        if function in self.refused:
            raise NVMLError(self.refused[function])
        return value

    def nvmlInit(self):  # noqa: N802
        self._answer("nvmlInit", None)
        self.depth += 1

    def nvmlShutdown(self):  # noqa: N802
        self.depth -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        if uuid != "GPU-a":
            raise NVMLError(6)
        return self._answer("nvmlDeviceGetHandleByUUID", "handle")


def question(name, value):
    def ask(self, handle, *more):
        assert handle == "handle"
        return self._answer(name, value(*more) if callable(value) else value)

    return ask


for _name, _value in {
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=7, memory=3),
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=5 << 30),
    "nvmlDeviceGetPowerUsage": 251_500,
    "nvmlDeviceGetEnforcedPowerLimit": 350_000,
    "nvmlDeviceGetTemperature": 61,
    "nvmlDeviceGetClockInfo": {1: 1980, 2: 2619}.get,
    "nvmlDeviceGetCurrentClocksEventReasons": 0x1 | 0x4 | 0x20,
    "nvmlDeviceGetCurrPcieLinkGeneration": 4,
    "nvmlDeviceGetCurrPcieLinkWidth": 8,
    "nvmlDeviceGetMaxPcieLinkGeneration": 5,
    "nvmlDeviceGetMaxPcieLinkWidth": 16,
    "nvmlDeviceGetPcieThroughput": {0: 11, 1: 22_000}.get,
}.items():
    setattr(Nvml, _name, question(_name, _value))

ALL = Sensors(
    0.07, 61.0, 251.5, 350.0, 1980, 2619, ("power limit", "temperature"), 4, 8, 5, 16, 2.2e7, 1.1e4
)


def test_all_that_a_card_tells_comes_in_our_units():
    found = NvmlGpus(Nvml(), UUIDS).read()["CUDA0"]
    assert found.sensors == ALL
    assert found.used_bytes == 5 << 30


@pytest.mark.parametrize(
    ("function", "fields"),
    [
        ("nvmlDeviceGetUtilizationRates", ["busy_share"]),
        ("nvmlDeviceGetPowerUsage", ["power_w"]),
        ("nvmlDeviceGetTemperature", ["temperature_c"]),
        ("nvmlDeviceGetClockInfo", ["sm_clock_mhz", "memory_clock_mhz"]),
        ("nvmlDeviceGetCurrentClocksEventReasons", ["throttle"]),
        ("nvmlDeviceGetPcieThroughput", ["link_sent_bytes_s", "link_received_bytes_s"]),
        ("nvmlDeviceGetMaxPcieLinkWidth", ["link_most_width"]),
    ],
)
@pytest.mark.parametrize("error", [NOT_SUPPORTED, NO_PERMISSION, LOST])
def test_what_is_refused_is_none_and_the_rest_stays(function, fields, error):
    found = NvmlGpus(Nvml(**{function: error}), UUIDS).read()["CUDA0"].sensors
    missing = [name for name in Sensors.__slots__ if getattr(found, name) is None]
    assert missing == fields
    kept = [name for name in Sensors.__slots__ if name not in fields]
    assert all(getattr(found, name) == getattr(ALL, name) for name in kept)


def test_memory_that_is_refused_is_none():
    assert NvmlGpus(Nvml(nvmlDeviceGetMemoryInfo=LOST), UUIDS).read()["CUDA0"].used_bytes is None


def test_no_throttling_is_an_empty_list_not_none(monkeypatch):
    monkeypatch.setattr(
        Nvml,
        "nvmlDeviceGetCurrentClocksEventReasons",
        question("nvmlDeviceGetCurrentClocksEventReasons", 0x1),
    )
    assert NvmlGpus(Nvml(), UUIDS).read()["CUDA0"].sensors.throttle == ()


def test_what_is_not_supported_is_asked_once_and_what_failed_again():
    library = Nvml(nvmlDeviceGetPowerUsage=NOT_SUPPORTED, nvmlDeviceGetTemperature=LOST)
    gpus = NvmlGpus(library, UUIDS)
    for _ in range(3):
        gpus.read()
    assert library.calls.count("nvmlDeviceGetPowerUsage") == 1
    assert library.calls.count("nvmlDeviceGetTemperature") == 3


def test_an_older_library_s_name_for_throttling_is_known(monkeypatch):
    monkeypatch.delattr(Nvml, "nvmlDeviceGetCurrentClocksEventReasons")
    older = question("nvmlDeviceGetCurrentClocksThrottleReasons", 0x80)
    monkeypatch.setattr(Nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", older, raising=False)
    assert NvmlGpus(Nvml(), UUIDS).read()["CUDA0"].sensors.throttle == ("power brake",)


def test_no_driver_no_card_and_no_library_give_nothing():
    assert NvmlGpus(Nvml(nvmlInit=12), UUIDS).read() == {}
    assert NvmlGpus(Nvml(), {"CUDA0": "GPU-other"}).read() == {}
    assert NvmlGpus(None, UUIDS).read() == {}


def test_without_gpus_the_library_is_not_even_opened():
    library = Nvml()
    assert NvmlGpus(library, {}).read() == {}
    assert library.calls == []


def test_the_library_is_closed_once():
    library = Nvml()
    gpus = NvmlGpus(library, UUIDS)
    gpus.close()
    gpus.close()
    assert library.depth == 0


def test_a_missing_module_is_none(monkeypatch):
    monkeypatch.setattr(
        nvml.importlib, "import_module", lambda name: builtins.__import__("no_such_module")
    )
    assert load_nvml() is None
