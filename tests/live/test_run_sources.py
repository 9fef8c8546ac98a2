"""Sources on threads of their own: started, asked, stopped; one that hangs keeps nobody."""

import threading
from dataclasses import replace
from time import monotonic, sleep

import pytest

from hybrid.live import run_sources
from hybrid.live.run_sources import RunSources
from hybrid.live.sources import ticker
from hybrid.live.sources.ticker import Ticker
from tests.live.samples import view
from tests.live.sources.test_nvml import Nvml
from tests.live.waiting import PATIENCE_S, until


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(run_sources, "EVERY_S", 0.02)


def sources(nvml=None, uuid="GPU-a"):
    return RunSources(replace(view(), uuids={"CUDA0": uuid} if nvml else {}), (0,), nvml)


def test_host_and_gpus_are_read_again_and_again():
    library = Nvml()
    its = sources(library)
    its.start()
    until(lambda: "CUDA0" in its.readings.gpus)
    until(lambda: its.readings.host.view.load_share is not None)
    until(lambda: library.calls.count("nvmlDeviceGetPowerUsage") > 2)
    its.stop()
    assert library.depth == 0
    asked = len(library.calls)
    sleep(0.1)
    assert len(library.calls) == asked
    assert its.readings.gpus["CUDA0"].sensors.power_w == 251.5


def test_a_machine_without_nvml_has_no_gpu_figures_and_all_others(monkeypatch):
    monkeypatch.setattr(run_sources, "load_nvml", lambda: None)
    its = RunSources(view(), (0,))
    its.start()
    until(lambda: its.readings.host.view.resident_bytes)
    its.stop()
    assert its.readings.gpus == {}


def test_the_peak_stays_and_what_is_held_follows():
    its, held = sources(), [{"CUDA0": 5}, {"CUDA0": 9}, {"CUDA0": 7}]
    its.actual = lambda: held.pop(0) if len(held) > 1 else held[0]
    its.start()
    until(lambda: its.readings.actual == {"CUDA0": 7})
    its.stop()
    assert its.readings.peak == {"CUDA0": 9}


def test_a_peak_outlives_what_cannot_be_asked_any_more():
    its, held = sources(), [{"CUDA0": 5}, {}]
    its.actual = lambda: held.pop(0) if len(held) > 1 else held[0]
    its.start()
    until(lambda: its.readings.peak and not its.readings.actual)
    its.stop()
    assert its.readings.peak == {"CUDA0": 5}


def test_pages_by_node_are_asked_for_once():
    its, asked = sources(), []

    def ours():
        asked.append(1)
        return {0: 12}

    its.start()
    its.ours = ours
    until(lambda: its.readings.ours == {0: 12})
    sleep(0.1)
    its.stop()
    assert (len(asked), its.readings.ours) == (1, {0: 12})


def test_a_driver_that_hangs_keeps_the_end_a_moment_only(monkeypatch):
    monkeypatch.setattr(ticker, "STOP_S", 0.2)
    hangs, goes_on = threading.Event(), threading.Event()

    def tick():
        hangs.set()
        goes_on.wait(60.0)

    made = Ticker("stuck", 0.01, tick)
    assert hangs.wait(PATIENCE_S)
    began = monotonic()
    assert not made.stop()
    assert monotonic() - began < 20.0, "the end waits for the driver"
    goes_on.set()


def test_a_tick_longer_than_its_turn_misses_turns():
    ticks = []

    def tick():
        ticks.append(monotonic())
        if len(ticks) == 1:
            sleep(0.5)

    made = Ticker("slow", 0.05, tick)
    until(lambda: len(ticks) >= 6)
    made.stop()
    assert ticks[1] - ticks[0] >= 0.5
    assert ticks[5] - ticks[1] > 0.05 * 2.9, "turns that were missed are made up for"
