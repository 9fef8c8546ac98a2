"""The sides take turns, and what is shown are medians of ratios within a round."""

import sys

import pytest

from tools.bench.in_turn import Decoder, rounds

SIDE = """
import sys
print("loading")
print("ready", flush=True)
for number, line in enumerate(sys.stdin):
    print(float(line) * {speeds}[number], flush=True)
"""


def side(speeds):
    return Decoder([sys.executable, "-c", SIDE.format(speeds=speeds)])


def test_ratios_are_taken_within_a_round():
    ours, peer = side([1.0, 2.0, 8.0]), side([1.0, 1.0, 2.0])
    rows = rounds(ours, peer, 3, 10)
    ours.close(), peer.close()
    assert rows[1] == [2, 20.0, 10.0, 2.0]
    assert rows[-1] == ["median", 20.0, 10.0, 2.0]


def test_a_side_that_ends_is_named():
    with pytest.raises(SystemExit, match=r"-c pass ended"):
        Decoder([sys.executable, "-c", "pass"])
