"""The bench of what being looked at costs, over a few tokens."""

import json

import pytest

from tools.bench import listening
from tools.bench.listening import Round, others_percent, tokens_percent


def test_every_way_is_measured_and_a_watcher_was_there(capfd):
    line = ("-n", "900", "-r", "1", "--device", "none", "-t", "1", "--cpu-time")
    listening.main(("demo", *line))
    rows = json.loads(capfd.readouterr().out.splitlines()[-1])["rows"]
    assert [row["way"] for row in rows] == ["nothing", "a listener", "the view"]
    nothing, listener, view = rows
    assert (nothing["passes measured"], nothing["snapshots"], listener["snapshots"]) == (0, 0, 0)
    assert min(listener["passes measured"], view["passes measured"], view["snapshots"]) > 0
    assert nothing["other threads, %"] == 0 < view["other threads, %"]


def test_measured_passes_count_by_their_share():
    found = Round([10.0] * 4, [14.0], [10.0] * 3)
    assert tokens_percent([found]) == pytest.approx(10)
    assert found.rate_percent == pytest.approx(10)


def test_other_threads_time_is_a_share_of_the_generating_one_s():
    nobody, seen = Round(own_s=10.0, others_s=0.5), Round(own_s=20.0, others_s=1.4)
    assert others_percent([seen], [nobody]) == pytest.approx(2)
