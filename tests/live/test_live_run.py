"""A run is measured while somebody watches, and only then."""

import gc
import threading
import weakref
from dataclasses import replace

import pytest

from hybrid.live.live_run import LiveRun
from hybrid.live.snapshot import Phase
from hybrid.runtime.step_times import StepTimes
from tests.live.samples import Engine, Pass, Sources, Stats, Told, readings, view


@pytest.fixture
def sources():
    return Sources()


@pytest.fixture
def live(sources):
    return LiveRun(view(), sources)


def test_nobody_watching_costs_nothing(live, sources):
    engine = Engine()
    live.begin(engine)
    assert engine.listeners == []
    assert sources.started == 0


def test_the_first_watcher_begins_and_the_last_one_ends_it(live, sources):
    engine = Engine()
    live.begin(engine)
    with live.watch():
        with live.watch():
            assert len(engine.listeners) == 1
        assert len(engine.listeners) == 1
    assert engine.listeners == []
    assert (sources.started, sources.stopped) == (1, 1)


def test_an_engine_that_comes_later_is_listened_to_from_its_first_pass(live):
    engine = Engine()
    with live.watch():
        assert live.snapshot().phase is Phase.LOADING
        live.begin(engine, ("a note",))
        assert len(engine.listeners) == 1
        assert live.snapshot().notes == ("a note",)


def test_loading_shows_bytes_and_what_is_left(live):
    assert live.snapshot().progress is None
    live.loading(0, 1000)
    live.loading(250, 1000)
    told = live.snapshot().progress
    assert (told.what, told.unit, told.done, told.total) == ("loading", "bytes", 250, 1000)
    assert told.eta_s == pytest.approx(3 * 250 / told.rate_s)


def test_totals_are_the_engine_s_and_rates_what_was_heard(live):
    engine = Engine(Stats(decode_tokens=7))
    live.begin(engine, usage=lambda: {1: (1, 2, 3)})
    with live.watch():
        [recorder] = engine.listeners
        recorder.on_pass(Pass(seconds=0.25, start=40), prompt=False)
        recorder.on_token(Told("hello"))
        shot = live.snapshot()
    assert (shot.rates.decode_tokens, shot.rates.decode_now_tok_s) == (7, pytest.approx(4.0))
    assert (shot.text, shot.phase) == ("hello", Phase.DECODE)
    assert shot.layers[1].usage == (1, 2, 3)
    assert shot.layers[0].usage == ()


def test_a_slow_pass_is_no_idleness(live):
    engine = Engine(Stats(computing="prompt"))
    live.begin(engine)
    with live.watch():
        assert live.snapshot().phase is Phase.PROMPT
        engine.stats.computing = None
        assert live.snapshot().phase is Phase.IDLE


def test_bytes_read_grow_with_the_depth_and_follow_the_rate(live):
    engine = Engine()
    live.begin(engine)
    with live.watch():
        [recorder] = engine.listeners
        recorder.on_pass(Pass(seconds=0.25, start=99), prompt=False)
        shot = live.snapshot()
    cpu, gpu = shot.devices
    assert cpu.read_bytes_s == pytest.approx(4 * 1_000_000)
    assert gpu.read_bytes_s == pytest.approx(4 * (500_000 + 100 * 1000))
    assert [node.read_bytes_s for node in shot.nodes] == [pytest.approx(2_000_000)] * 2


def test_a_node_s_speed_in_experts_is_by_the_time_that_its_cores_were_in_them(live):
    engine = Engine()
    live.begin(engine)
    with live.watch():
        [recorder] = engine.listeners
        recorder.on_pass(Pass(seconds=0.25), prompt=False)
        recorder.on_times(StepTimes({"CPU": {"experts": 0.1}}, (), {0: 0.1, 1: 0.2}))
        shot = live.snapshot()
        assert [node.experts_read_bytes_s for node in shot.nodes] == [
            pytest.approx(400_000 / 0.1),
            pytest.approx(400_000 / 0.2),
        ]
        recorder.on_prompt(0, 10)
        shot = live.snapshot()
    assert [node.experts_read_bytes_s for node in shot.nodes] == [None, None]


def test_one_gpu_s_crossing_is_its_own_and_several_gpus_are_not_told_apart():
    one, engine = LiveRun(view(), Sources()), Engine()
    several = LiveRun(
        replace(view(), devices=(*view().devices, replace(view().devices[1], name="CUDA1"))),
        Sources(),
    )
    several.view.reads["CUDA1"] = several.view.reads["CUDA0"]
    for live in (one, several):
        live.begin(engine)
        with live.watch():
            engine.listeners[0].on_pass(Pass(crossing_bytes=9), prompt=False)
            found = {device.name: device.crossing_bytes for device in live.snapshot().devices}
        assert found["CPU"] is None
        assert found["CUDA0"] == (9 if live is one else None)


def test_readings_of_sources_stand_beside_the_plan(live, sources):
    sources.readings = readings()
    shot = live.snapshot()
    cpu, gpu = shot.devices
    assert gpu.memory.actual_bytes < gpu.memory.peak_bytes < gpu.memory.total_bytes
    assert gpu.sensors.power_w == 250.0
    assert cpu.memory.used_by_all_bytes == readings().host.used_bytes
    assert [node.ours_bytes for node in shot.nodes] == [7, 8]
    assert shot.nodes[1].core_load == (0.5, 1.0)
    assert shot.nodes[0].huge_bytes is None  # two nodes, and the process's sum alone is known


def test_the_end_stays_as_it_was(live):
    engine = Engine()
    live.begin(engine)
    with live.watch():
        live.end("the disc burnt")
        assert engine.listeners == []
        shot = live.snapshot()
    assert (shot.phase, shot.error) == (Phase.FAILED, "the disc burnt")
    assert live.is_over


def test_following_ends_with_the_run(live):
    phases = []
    live.begin(Engine())
    threading.Timer(0.05, live.end).start()
    for shot in live.follow(0.01):
        phases.append(shot.phase)
    assert phases[0] is Phase.IDLE
    assert phases[-1] is Phase.ENDED


def test_an_engine_s_memory_is_free_when_its_owner_lets_go(live):
    engine = Engine()
    live.begin(engine)
    freed = []
    with live.watch():
        weakref.finalize(engine, freed.append, True)
        del engine
        gc.collect()
        assert freed == [True]
        assert live.snapshot().phase is Phase.IDLE


def test_another_placement_goes_on_for_whoever_watches(live, sources):
    before, after, others = Engine(), Engine(), Sources()
    live.begin(before)
    with live.watch():
        before.listeners[0].on_token(Told("old"))
        live.replan(view(4712), others)
        assert (before.listeners, sources.stopped, others.started) == ([], 1, 1)
        assert live.snapshot().phase is Phase.LOADING
        live.begin(after)
        assert len(after.listeners) == 1
        assert (live.snapshot().text, live.snapshot().facts.pid) == ("", 4712)
    assert (after.listeners, others.stopped) == ([], 1)
