import pytest

from hybrid.runtime.ledger import HOST, Ledger
from hybrid.runtime.stats import Meter


def times_of(ledger, pass_s, sampling_s=0.0):
    return ledger.times(pass_s, sampling_s, {}).parts


def test_a_gpu_waits_while_others_have_their_turn():
    ledger = Ledger(1)
    ledger.turn("CUDA0", "attention", 2.0)
    ledger.turn("CUDA1", "other", 3.0)
    ledger.turn("CUDA1", HOST, 1.0)
    parts = times_of(ledger, 6.0, sampling_s=1.0)
    assert parts["CUDA0"] == pytest.approx({"attention": 2.0, "waiting": 5.0})
    assert parts["CUDA1"] == pytest.approx({"other": 3.0, "waiting": 4.0})
    assert parts["CPU"] == pytest.approx({"waiting": 5.0, "sampling": 1.0, "other": 1.0})


def test_the_cpus_work_beside_a_gpus_turn_is_not_its_waiting():
    ledger = Ledger(1)
    ledger.turn("CUDA0", "other", 5.0)
    ledger.divide("CUDA0", {"attention": 1.0, "waiting": 3.0})
    ledger.beside("experts", 2.0)
    parts = times_of(ledger, 6.0)
    assert parts["CUDA0"] == pytest.approx({"attention": 1.0, "waiting": 4.0, "other": 1.0})
    assert parts["CPU"] == pytest.approx({"experts": 2.0, "waiting": 3.0, "other": 1.0})


def test_what_measuring_took_is_in_no_part():
    ledger = Ledger(1)
    ledger.turn("CUDA0", "other", 5.0)
    ledger.divide("CUDA0", {"attention": 3.0})
    ledger.measuring("CUDA0", 1.0)
    parts = times_of(ledger, 6.0)
    assert parts["CUDA0"] == pytest.approx({"attention": 3.0, "other": 1.0, "waiting": 1.0})
    assert sum(parts["CPU"].values()) == pytest.approx(5.0)


@pytest.mark.parametrize(("host_s", "left_s"), [(0.2, 1.0), (0.3, 0.9), (0.7, 0.5)])
def test_what_the_host_spent_on_measuring_is_in_no_part(host_s, left_s):
    ledger = Ledger(1)
    ledger.turn("CUDA0", "other", 4.0)
    ledger.turn("CUDA0", HOST, 0.2)
    ledger.divide("CUDA0", {"attention": 3.0})
    ledger.host_measuring(host_s)
    parts = times_of(ledger, 4.2, sampling_s=0.1)
    waiting_s = 4.3 - host_s - 3.0 - left_s
    assert parts["CUDA0"] == pytest.approx(
        {"attention": 3.0, "other": left_s, "waiting": waiting_s}, abs=1e-12
    )
    assert parts["CPU"]["sampling"] == pytest.approx(0.1)
    assert sum(parts["CPU"].values()) == pytest.approx(4.3 - host_s)


def test_what_clocks_told_is_not_taken_for_measuring():
    ledger = Ledger(1)
    ledger.turn("CUDA0", "other", 4.0)
    ledger.turn("CUDA0", HOST, 0.2)
    ledger.divide("CUDA0", {"attention": 3.0})
    ledger.host_measuring(2.0)  # 1.2 of which nobody told anything
    assert ledger.cost_s == pytest.approx(1.2)
    assert times_of(ledger, 4.2)["CUDA0"] == pytest.approx({"attention": 3.0, "waiting": 0.0})


def test_clocks_that_say_more_than_the_wall_shrink_alike():
    ledger = Ledger(1)
    ledger.turn("CUDA0", "other", 1.0)
    ledger.divide("CUDA0", {"attention": 3.0, "experts": 1.0})
    assert times_of(ledger, 2.0)["CUDA0"] == pytest.approx(
        {"attention": 1.5, "experts": 0.5, "waiting": 0.0}
    )


def test_clocks_are_read_when_the_pass_is_done():
    ledger, read = Ledger(2), []
    ledger.later(read.append)
    ledger.later(lambda later: later.layers(1, [0.5], [float("nan")]))
    assert read == []
    ledger.tell()
    ledger.tell()
    times = ledger.times(1.0, 0.0, {0: 0.25})
    assert read == [ledger]
    assert [(each.attention_s, each.experts_s) for each in times.layers] == [
        (None, None),
        (0.5, None),
    ]
    assert times.nodes == {0: 0.25}


def test_a_part_is_charged_to_the_device_at_work_and_kept_where_another_takes_over():
    meter = Meter()
    meter.ledger = Ledger(1)
    with meter.on("CUDA0"), meter.part("experts"), meter.on("CPU"):
        pass
    parts = times_of(meter.ledger, 1.0)
    assert set(parts["CUDA0"]) == {"other", "experts", "waiting"}
    assert set(parts["CPU"]) == {"experts", "waiting", "other"}
