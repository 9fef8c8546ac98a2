"""Listeners of an engine on the CPU and on simulated GPUs as the model built them."""

from dataclasses import replace

import pytest

import hybrid
from hybrid.runtime.timing import Intervals
from tests.runtime.listeners import Ear, assert_times_are_whole

GIB = 1 << 30
PROMPT = "Once upon a time there was a"
PLACES = {
    "native blocks": {"devices": ("none",)},
    "experts in RAM": {"simulate": {"CUDA0": GIB}, "rules": ["exps=CPU"]},
    "all on a GPU": {"simulate": {"CUDA0": GIB}, "rules": [".*=CUDA0"]},
}


def demo(**options):
    usual = {"context": 64, "ubatch": 4, "threads": 1, "kernels": "exact"}
    return hybrid.load("demo", **usual, **options)


@pytest.fixture(scope="module", params=PLACES)
def engine(request):
    return demo(**PLACES[request.param])


def greedy(engine, count=12):
    engine.forget()
    tokens = engine.generate(PROMPT, max_tokens=count, temperature=0, ignore_stop=True)
    return [token.id for token in tokens]


def listened(engine, *ears):
    """Greedy tokens; the first pass of the prompt and the first of decoding are measured."""
    engine._timing._intervals = {True: Intervals(), False: Intervals()}
    for ear in ears:
        engine.listen(ear)
    try:
        return greedy(engine)
    finally:
        for ear in ears:
            engine.unlisten(ear)


def test_tokens_are_the_same_whoever_listens(engine):
    assert listened(engine, Ear(), Ear()) == greedy(engine)


def test_a_listener_hears_the_prompts_progress_then_pass_and_token_in_turn(engine):
    ear = Ear()
    tokens = listened(engine, ear)
    count = len(engine.encode(PROMPT))
    told = [item for item in ear.heard if item[0] != "times"]
    done = [what for kind, what in told if kind == "prompt"]
    assert done == [(0, count), *((min(first + 4, count), count) for first in range(0, count, 4))]
    assert [what for kind, what in told if kind == "token"] == tokens
    decoding = [kind for kind, _ in told][-2 * len(tokens) + 1 :]
    assert decoding == ["token", *["pass", "token"] * (len(tokens) - 1)]
    assert [prompt for _, prompt in ear.passes].count(False) == len(tokens) - 1


def test_parts_of_every_device_sum_to_the_pass(engine):
    ear = Ear()
    listened(engine, ear)
    assert_times_are_whole(ear)
    _, _, times = ear.times[-1]
    assert set(times.parts) == {"CPU", *(home for home in engine.plan.layers)}
    home = engine.plan.layers[0]
    assert times.parts[home]["attention"] > 0
    assert times.parts[engine.plan.layers[-1]]["head"] > 0


def test_layers_have_times_and_dense_ones_none_of_experts(engine):
    ear = Ear()
    listened(engine, ear)
    stats, _, times = ear.times[-1]
    assert len(times.layers) == engine.prepared.inventory.shape.layers
    assert all(0 < layer.attention_s < stats.seconds for layer in times.layers)
    dense = engine.prepared.config.dense_layers
    assert [layer.experts_s is None for layer in times.layers[:dense]] == [True] * dense
    assert all(0 < layer.experts_s < stats.seconds for layer in times.layers[dense:])


def test_nobody_is_told_any_more_after_unlistening(engine):
    ear = Ear()
    listened(engine, ear)
    before = len(ear.heard)
    greedy(engine)
    assert len(ear.heard) == before


class Deaf(Ear):
    def on_pass(self, stats, *, prompt):
        raise ValueError("no room")


def test_what_is_being_computed_is_known_within_a_pass_and_nothing_between_two(engine, monkeypatch):
    within, one_pass = [], engine._pass

    def computed(*arguments, **fields):
        within.append(engine.stats.computing)
        return one_pass(*arguments, **fields)

    monkeypatch.setattr(engine, "_pass", computed)
    tokens = engine.generate(PROMPT, max_tokens=3, temperature=0, ignore_stop=True)
    assert [engine.stats.computing for _ in tokens] == [None] * 3
    assert set(within[:-2]) == {"prompt"}
    assert within[-2:] == ["decode"] * 2
    monkeypatch.setattr(engine, "_pass", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        greedy(engine)
    assert engine.stats.computing is None


def test_a_listener_that_fails_is_dropped_with_one_note_and_the_run_goes_on():
    engine, ear = demo(devices=("none",)), Ear()
    wanted = greedy(engine)
    assert listened(engine, Deaf(), ear) == wanted
    assert len(ear.passes) > len(wanted)
    dropped = [note for note in engine.notes if "Deaf" in note]
    assert dropped == ["Deaf hears no more of the run: ValueError: no room"]


def test_choices_of_experts_are_counted_while_somebody_listens(engine):
    before = engine.expert_usage
    greedy(engine)
    assert engine.expert_usage == before
    listened(engine, Ear())
    after, shape = engine.expert_usage, engine.prepared.inventory.shape
    tokens = len(engine.encode(PROMPT)) + 11
    assert after.counted_tokens - before.counted_tokens == tokens
    dense = engine.prepared.config.dense_layers
    assert list(after.layers) == list(range(dense, shape.layers))
    for counts in after.layers.values():
        assert len(counts) == shape.expert_count
        assert sum(counts) == after.counted_tokens * shape.expert_used_count


def test_every_placement_counts_the_same_choices():
    found = []
    for options in PLACES.values():
        engine = demo(**options)
        listened(engine, Ear())
        found.append(engine.expert_usage)
    assert found[0] == found[1] == found[2]
    assert max(map(max, found[0].layers.values())) > 1


def test_seconds_in_experts_are_told_by_node():
    engine, ear = demo(devices=("none",)), Ear()
    listened(engine, ear)
    for stats, _, times in ear.times:
        assert times.nodes is not None
        assert list(times.nodes) == sorted(set(engine.prepared.cpus.system_nodes))
        assert all(0 < seconds < stats.seconds for seconds in times.nodes.values())


def test_a_measured_pass_that_fails_is_not_told_and_the_next_one_is_whole(monkeypatch):
    engine, ear = demo(devices=("none",)), Ear()
    engine.listen(ear)

    def fail(*_):
        raise RuntimeError("on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_model", replace(engine._model, ending=fail))
        with pytest.raises(RuntimeError, match="on purpose"):
            engine.fill(engine.encode(PROMPT)[:4])
    assert ear.passes == ear.times == []
    assert listened(engine, ear) == greedy(engine)
    assert_times_are_whole(ear)
