"""The text that Prometheus reads, and the server that gives it."""

import errno
import re
import socket
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import replace
from time import monotonic, sleep

import pytest

from hybrid.errors import UsageError
from hybrid.live import prometheus
from hybrid.live.figures import FIGURES
from hybrid.live.live_run import LiveRun
from hybrid.live.prometheus import MetricsServer, metrics_text
from hybrid.live.sources.nvml import REASONS
from tests.live.samples import GIB, SENSORS, Sources, empty_snapshot, full_snapshot, view
from tests.live.waiting import PATIENCE_S, until

SAMPLE = re.compile(r'[a-z][a-z0-9_]*(\{([a-z]+="([^"\\\n]|\\[\\"n])*",?)+\})? -?[0-9.e+-]+')


def samples(snapshot):
    return [line for line in metrics_text(snapshot).splitlines() if not line.startswith("#")]


@pytest.fixture
def server():
    made = MetricsServer("127.0.0.1", 0)
    yield made
    made.stop()


def fetched(server, path=""):
    with urllib.request.urlopen(server.address + path, timeout=PATIENCE_S) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def test_every_line_is_as_the_format_has_it():
    for line in samples(full_snapshot()):
        assert SAMPLE.fullmatch(line), line


def test_every_figure_of_a_full_snapshot_is_there_with_its_type():
    text = metrics_text(full_snapshot())
    missing = [
        figure.metric
        for figure in FIGURES
        if figure.kind in ("gauge", "counter")
        and f"# TYPE {figure.metric} {figure.kind}\n{figure.metric}" not in text
    ]
    assert missing == []


def test_values_carry_labels():
    lines = samples(full_snapshot())
    assert 'hybrid_device_seconds{device="CUDA0",part="attention"} 0.01' in lines
    assert f'hybrid_device_memory_actual_bytes{{device="CUDA0"}} {5 * GIB}' in lines
    assert 'hybrid_device_sensors_throttle{device="CUDA0",reason="power limit"} 1' in lines
    assert 'hybrid_node_core_load{node="1",core="1"} 1.0' in lines
    assert 'hybrid_phase{phase="decode"} 1' in lines
    assert 'hybrid_phase{phase="prompt"} 0' in lines
    assert 'hybrid_progress_done{what="prompt",unit="tokens"} 512' in lines


def test_a_card_that_is_not_slowed_is_told_from_one_that_says_nothing():
    full = full_snapshot()
    for throttle, told in (((), {" 0"}), (("temperature",), {" 0", " 1"}), (None, set())):
        gpu = replace(full.devices[1], sensors=replace(SENSORS, throttle=throttle))
        lines = samples(replace(full, devices=(full.devices[0], gpu)))
        found = [line for line in lines if line.startswith("hybrid_device_sensors_throttle")]
        assert {line[-2:] for line in found} == told
        assert len(found) == (0 if throttle is None else len(REASONS))


def test_what_no_source_says_has_no_line():
    text = metrics_text(empty_snapshot())
    assert "sensors" not in text
    assert "actual_bytes" not in text
    assert "hybrid_rates_decode_now_tok_s" not in text
    assert "hybrid_host" not in text


def test_texts_that_would_break_a_line_are_escaped():
    named = full_snapshot()
    named = replace(named, facts=replace(named.facts, model='a "b"\\\nc'))
    [info] = [line for line in samples(named) if line.startswith("hybrid_run_info")]
    assert SAMPLE.fullmatch(info)
    assert r'model="a \"b\"\\\nc"' in info


def test_the_page_is_served_and_nothing_else(server):
    with pytest.raises(urllib.error.HTTPError, match="503"):
        fetched(server)
    server.serve(LiveRun(view(), Sources()))
    kind, text = fetched(server)
    assert kind.startswith("text/plain; version=0.0.4")
    assert 'hybrid_phase{phase="loading"} 1' in text
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetched(server, "/other")


def test_a_port_in_use_is_an_error_with_its_number(server):
    port = int(re.search(r":(\d+)/", server.address)[1])
    with pytest.raises(UsageError, match=f"127.0.0.1:{port}"):
        MetricsServer("127.0.0.1", port)


def test_other_machines_do_not_reach_it(server):
    port = int(re.search(r":(\d+)/", server.address)[1])
    elsewhere = socket.socket()
    with elsewhere, pytest.raises(OSError, match="refused"):
        elsewhere.connect(("127.0.0.2", port))  # another address of this machine


def test_an_address_that_is_not_here_is_an_error():
    with pytest.raises(UsageError, match="192.0.2.1:9090"):
        MetricsServer("192.0.2.1", 9090)


def test_a_reader_that_hangs_does_not_keep_others_or_the_end():
    server = MetricsServer("127.0.0.1", 0)
    server.serve(LiveRun(view(), Sources()))
    port = int(re.search(r":(\d+)/", server.address)[1])
    with socket.create_connection(("127.0.0.1", port)):
        assert "hybrid_phase" in fetched(server)[1]
        server.stop()


def port_of(server):
    return int(re.search(r":(\d+)/", server.address)[1])


def test_a_reader_that_sends_a_byte_now_and_then_is_cut_off(server, monkeypatch):
    monkeypatch.setattr(prometheus, "READER_S", 0.5)
    end = monotonic() + PATIENCE_S
    with socket.create_connection(("127.0.0.1", port_of(server))) as slow:
        with suppress(OSError):
            while monotonic() < end:
                slow.sendall(b"G")
                sleep(0.05)
        assert monotonic() < end, "a byte now and then keeps the reader's place"
    until(lambda: not server._server._readers)


def test_more_readers_than_there_is_room_for_are_turned_away(server, monkeypatch):
    monkeypatch.setattr(prometheus, "MOST_READERS", 2)
    address = ("127.0.0.1", port_of(server))
    with socket.create_connection(address), socket.create_connection(address):
        until(lambda: len(server._server._readers) == 2)
        with socket.create_connection(address) as third:
            third.settimeout(PATIENCE_S)
            assert third.recv(10) == b""
    until(lambda: not server._server._readers)
    with pytest.raises(urllib.error.HTTPError, match="503"):
        fetched(server)


def test_where_no_descriptor_is_free_it_does_not_try_without_end(server, monkeypatch):
    tried = []

    def refused(_):
        tried.append(monotonic())
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket.socket, "accept", refused)
    with socket.create_connection(("127.0.0.1", port_of(server))):
        until(lambda: len(tried) > 3)
    assert tried[3] - tried[0] > prometheus.POLL_S * 2.9
