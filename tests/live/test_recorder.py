"""What a listener keeps of an engine's passes, by a clock that the test sets."""

import threading
from itertools import repeat

import pytest

from hybrid.live.recorder import MOST_TEXT, WINDOW_STEPS, Recorder
from hybrid.live.snapshot import Phase
from hybrid.runtime.step_times import LayerTimes, StepTimes
from tests.live.samples import Pass, Told


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def decode(recorder, clock, passes=1, seconds=0.1, **fields):
    for _ in range(passes):
        clock.now += seconds
        recorder.on_pass(Pass(seconds=seconds, **fields), prompt=False)


def times(attention=0.01, waiting=0.03, experts=0.03):
    layers = (LayerTimes(attention, None), LayerTimes(attention, experts))
    parts = {"CUDA0": {"attention": attention, "waiting": waiting}, "CPU": {"experts": experts}}
    return StepTimes(parts, layers, {0: experts})


def test_nothing_is_claimed_before_the_first_pass(clock):
    heard = Recorder(clock).heard()
    assert heard.phase is Phase.IDLE
    assert (heard.decode_now, heard.decode_10_s, heard.ms_a_token) == (None, None, None)
    assert (heard.cached_tokens, heard.crossing_bytes, heard.progress) == (None, None, None)
    assert heard.times.parts is None
    assert heard.history == ()


def test_decoding_gives_rates_and_the_depth(clock):
    recorder = Recorder(clock)
    decode(recorder, clock, passes=30, start=99, crossing_bytes=7)
    heard = recorder.heard()
    assert heard.phase is Phase.DECODE
    assert heard.decode_now == pytest.approx(10.0)
    assert heard.ms_a_token == pytest.approx(100.0)
    assert (heard.cached_tokens, heard.crossing_bytes) == (100, 7)
    assert heard.prompt_now is None


def test_tokens_slower_than_a_second_keep_their_rate_between_them(clock):
    recorder = Recorder(clock)
    decode(recorder, clock, seconds=4.0)
    clock.now += 3.0
    heard = recorder.heard()
    assert heard.phase is Phase.DECODE
    assert heard.decode_now == pytest.approx(0.25)


def test_no_news_for_several_tokens_is_idle_and_has_no_rate_now(clock):
    recorder = Recorder(clock)
    decode(recorder, clock, passes=10)
    clock.now += 5.0
    heard = recorder.heard()
    assert heard.phase is Phase.IDLE
    assert heard.decode_now is None
    assert heard.decode_10_s == pytest.approx(10.0)


def test_a_prompt_has_progress_with_the_rate_of_its_last_micro_batches(clock):
    recorder = Recorder(clock)
    recorder.on_prompt(0, 1000)
    assert recorder.heard().phase is Phase.PROMPT
    assert recorder.heard().progress.eta_s is None
    for batch in range(1, 9):
        clock.now += batch  # each takes a second more than the one before
        recorder.on_pass(Pass(tokens=100, start=100 * batch - 100, seconds=batch), prompt=True)
        recorder.on_prompt(100 * batch, 1000)
    heard = recorder.heard()
    assert heard.phase is Phase.PROMPT
    assert (heard.progress.done, heard.progress.total) == (800, 1000)
    assert heard.progress.rate_s == pytest.approx(400 / (5 + 6 + 7 + 8))
    assert heard.progress.eta_s == pytest.approx(200 / heard.progress.rate_s)
    assert heard.decode_now is None
    assert heard.prompt_now == pytest.approx(100 / 8)


def test_a_prompt_that_is_read_gives_way_to_decoding(clock):
    recorder = Recorder(clock)
    recorder.on_prompt(0, 10)
    clock.now += 1.0
    recorder.on_prompt(10, 10)
    assert recorder.heard().phase is Phase.DECODE
    assert recorder.heard().progress is None


@pytest.mark.parametrize("batch_s", [3.0, 300.0])
def test_a_prompt_is_read_however_long_its_micro_batches_take(clock, batch_s):
    recorder = Recorder(clock)
    recorder.on_prompt(0, 100)
    for done in (50, 100):
        clock.now += batch_s - 0.1
        heard = recorder.heard("prompt")
        assert heard.phase is Phase.PROMPT
        assert heard.progress.done == done - 50
        clock.now += 0.1
        recorder.on_pass(Pass(tokens=50, seconds=batch_s), prompt=True)
        recorder.on_prompt(done, 100)


def test_the_first_token_after_a_prompt_may_take_long(clock):
    recorder = Recorder(clock)
    recorder.on_prompt(0, 50)
    clock.now += 3.0
    recorder.on_prompt(50, 50)
    clock.now += 40.0
    assert recorder.heard("decode").phase is Phase.DECODE
    assert recorder.heard().phase is Phase.IDLE


def test_a_watcher_that_came_within_a_prompt_is_told_of_it(clock):
    heard = Recorder(clock).heard("prompt")
    assert (heard.phase, heard.progress) == (Phase.PROMPT, None)


def test_a_prompt_that_was_given_up_is_idle_in_the_end(clock):
    recorder = Recorder(clock)
    recorder.on_prompt(0, 10)
    clock.now += 600.0
    assert recorder.heard().phase is Phase.IDLE


def test_times_are_means_of_the_last_tokens(clock):
    recorder = Recorder(clock)
    for attention in (*repeat(9.0, 5), *repeat(0.01, WINDOW_STEPS // 2), *repeat(0.03, 16)):
        decode(recorder, clock)
        recorder.on_times(times(attention=attention))
    told = recorder.heard().times
    assert told.tokens == WINDOW_STEPS
    assert told.parts["CUDA0"] == pytest.approx({"attention": 0.02, "waiting": 0.03})
    assert told.attention == pytest.approx((0.02, 0.02))
    assert told.experts == (None, pytest.approx(0.03))
    assert told.nodes == pytest.approx({0: 0.03})


def test_while_a_prompt_is_read_times_are_of_its_tokens(clock):
    recorder = Recorder(clock)
    decode(recorder, clock)
    recorder.on_times(times(attention=0.01))
    recorder.on_prompt(0, 200)
    clock.now += 1.0
    recorder.on_pass(Pass(tokens=100, seconds=1.0), prompt=True)
    recorder.on_times(times(attention=0.5))
    recorder.on_prompt(100, 200)
    told = recorder.heard().times
    assert (told.tokens, told.parts["CUDA0"]["attention"]) == (100, pytest.approx(0.005))
    recorder.on_prompt(200, 200)
    assert recorder.heard().times.parts["CUDA0"]["attention"] == pytest.approx(0.01)


def test_times_of_a_pass_that_was_not_heard_of_are_left_out(clock):
    recorder = Recorder(clock)
    recorder.on_times(times())
    assert recorder.heard().times.parts is None


def test_a_text_keeps_its_end_and_turns_are_apart(clock):
    recorder = Recorder(clock)
    for _ in range(5000):
        recorder.on_token(Told("word "))
    assert len(recorder.heard().text) == MOST_TEXT
    recorder.on_prompt(0, 5)
    recorder.on_token(Told("next"))
    assert recorder.heard().text.endswith("word \n\nnext")


def test_any_thread_may_ask_while_the_engine_tells():
    recorder, faults = Recorder(), []
    stop = threading.Event()

    def ask():
        while not stop.is_set():
            heard = recorder.heard()
            if heard.decode_now is not None and not 9.0 < heard.decode_now < 11.0:
                faults.append(heard.decode_now)

    thread = threading.Thread(target=ask)
    thread.start()
    for _ in range(20_000):
        recorder.on_pass(Pass(seconds=0.1), prompt=False)
        recorder.on_token(Told("a"))
    stop.set()
    thread.join()
    assert faults == []


def test_chosen_experts_are_counted_now_and_again_between_passes(clock):
    recorder, asked = Recorder(clock), []

    def usage():
        asked.append(threading.current_thread())
        return {1: (len(asked), 0)}

    recorder.counts(usage)
    decode(recorder, clock, passes=50)
    assert recorder.heard().usage == {1: (3, 0)}
    assert set(asked) == {threading.current_thread()}
    assert len(asked) == 3  # of five seconds


def test_experts_are_not_counted_before_a_prompt_is_read_to_its_end(clock):
    recorder, asked = Recorder(clock), []
    recorder.counts(lambda: asked.append(clock.now) or {1: (3, 0)})
    recorder.on_prompt(0, 500)
    for done in (100, 200, 300, 400, 500):
        assert asked == []
        clock.now += 3.0
        recorder.on_pass(Pass(tokens=100, start=done - 100, seconds=3.0), prompt=True)
        recorder.on_prompt(done, 500)
    assert asked == [clock.now]
    assert recorder.heard().usage == {1: (3, 0)}
