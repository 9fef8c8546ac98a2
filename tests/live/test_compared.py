"""Speeds are held against predictions of the same depth, and of whole micro-batches alone."""

import pytest

from hybrid.live.compared import Predicted, compared, curve, seconds_at
from hybrid.live.recorder import WARM_UP_TOKENS, Recorder
from hybrid.live.snapshot import Phase
from placement.prediction import Pace
from tests.live.samples import Pass

PREDICTED = Predicted(
    decode=((0, 0.010), (4096, 0.020), (16384, 0.050)),
    prompt=((0, 0.002), (4096, 0.004)),
    ubatch_tokens=512,
)


def heard(passes, *, prompt, idle_s=0.0):
    """Told one after another, after the first tokens; then nothing for `idle_s`."""
    now = 1000.0
    recorder = Recorder(lambda: now)
    for its in passes if prompt else [Pass()] * WARM_UP_TOKENS + list(passes):
        now += its.seconds
        recorder.on_pass(its, prompt=prompt)
    now += idle_s
    return recorder.heard()


def test_tokens_after_many_others_are_held_against_the_prediction_after_as_many():
    passes = [Pass(start=16384, seconds=0.05)] * 8
    told = compared(PREDICTED, heard(passes, prompt=False), Phase.DECODE)
    assert (told.cached_tokens, told.predicted_tok_s) == (16384, pytest.approx(20.0))
    assert told.actual_tok_s == pytest.approx(told.predicted_tok_s)


def test_tokens_of_several_depths_are_each_held_against_their_own():
    passes = [Pass(start=start, seconds=0.01) for start in [0] * 8 + [4096] * 8]
    told = compared(PREDICTED, heard(passes, prompt=False), Phase.IDLE)
    assert told.predicted_tok_s == pytest.approx(1 / 0.015)


def test_the_first_tokens_are_held_against_nothing():
    assert compared(PREDICTED, heard([], prompt=False), Phase.DECODE) is None
    told = compared(PREDICTED, heard([Pass(seconds=0.02)] * 8, prompt=False), Phase.DECODE)
    assert told.actual_tok_s == pytest.approx(50.0)


@pytest.mark.parametrize(("seconds", "found"), [(0.5, False), (3.0, True)])
def test_a_slow_first_token_behind_a_pause_is_no_miss_of_the_prediction(seconds, found):
    now = 1000.0
    recorder = Recorder(lambda: now)
    for its in [Pass(seconds=0.02)] * 200:
        now += its.seconds
        recorder.on_pass(its, prompt=False)
    now += 60.0 + seconds
    recorder.on_pass(Pass(seconds=seconds), prompt=False)
    assert (compared(PREDICTED, recorder.heard(), Phase.DECODE) is not None) == found


def test_a_hiccup_of_a_few_milliseconds_is_no_miss_of_the_prediction():
    passes = [Pass(seconds=0.001)] * 3000 + [Pass(seconds=0.03)]
    its = heard(passes, prompt=False)
    told = compared(PREDICTED, its, Phase.DECODE)
    assert told.actual_tok_s == pytest.approx(3001 / 3.03)


def test_what_is_older_than_the_last_seconds_is_not_compared():
    passes = [Pass(start=0, seconds=0.5)] * 100 + [Pass(start=4096, seconds=0.02)] * 600
    told = compared(PREDICTED, heard(passes, prompt=False), Phase.DECODE)
    assert told.actual_tok_s == pytest.approx(50.0)
    assert told.predicted_tok_s == pytest.approx(50.0)


@pytest.mark.parametrize("seconds", [0.02, 40.0])
def test_the_last_seconds_of_decoding_stay_compared_however_long_they_are_over(seconds):
    its = heard([Pass(seconds=seconds)] * 20, prompt=False, idle_s=3600.0)
    told = compared(PREDICTED, its, Phase.IDLE)
    assert told.actual_tok_s == pytest.approx(1 / seconds)


@pytest.mark.parametrize(("tokens", "found"), [(511, False), (512, True)])
def test_a_prompt_is_held_against_one_of_a_micro_batch_where_it_has_one(tokens, found):
    told = compared(
        PREDICTED, heard([Pass(tokens=tokens, start=2048, seconds=1.0)], prompt=True), Phase.PROMPT
    )
    assert (told is not None) is found
    if found:
        assert told.actual_tok_s == pytest.approx(512.0)
        assert told.predicted_tok_s == pytest.approx(1 / 0.003)


def test_the_micro_batches_of_the_prompt_before_say_nothing_of_this_one():
    recorder = Recorder()
    recorder.on_pass(Pass(tokens=512, seconds=1.0), prompt=True)
    recorder.on_prompt(0, 10)
    assert compared(PREDICTED, recorder.heard(), Phase.PROMPT) is None


def test_without_a_prediction_nothing_is_compared():
    passes = heard([Pass()] * 20, prompt=False)
    assert compared(Predicted(), passes, Phase.DECODE) is None
    assert compared(Predicted(), passes, Phase.PROMPT) is None


@pytest.mark.parametrize(
    ("depth", "seconds"), [(0, 0.01), (1024, 0.0125), (4096, 0.02), (16384, 0.05), (90000, 0.05)]
)
def test_between_two_depths_seconds_lie_on_a_line(depth, seconds):
    assert seconds_at(PREDICTED.decode, depth) == pytest.approx(seconds)


def test_a_curve_is_of_seconds_by_rising_depth():
    paces = (Pace(4096, 1, 50.0, {}), Pace(0, 1, 100.0, {}))
    assert curve(paces) == ((0, 0.01), (4096, 0.02))
