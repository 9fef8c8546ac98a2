import numpy as np
import pytest
import torch

import hybrid
from hybrid.errors import ContextError, UsageError
from hybrid.runtime.sampling import SamplingOptions

PROMPT = "Once upon a time there was a"


@pytest.fixture(scope="module")
def engine():
    return hybrid.load("demo", devices=("none",), context=64, threads=1, kernels="exact")


def ids_of(tokens) -> list[int]:
    return [token.id for token in tokens]


def test_logits_have_one_row_per_token_and_pick_the_greedy_token(engine):
    ids = engine.encode(PROMPT)
    logits = engine.logits(ids)
    assert logits.shape == (len(ids), 4096)
    assert logits.dtype == np.float32
    [first] = engine.generate(ids, max_tokens=1, temperature=0)
    assert first.id == logits[-1].argmax()


def test_a_known_prefix_is_not_computed_again_and_changes_nothing(engine):
    engine.forget()
    first = ids_of(engine.generate(PROMPT, max_tokens=8, temperature=0))
    reused, computed = engine.stats.reused_tokens, engine.stats.prompt_tokens
    longer = [*engine.encode(PROMPT), *first]
    again = ids_of(engine.generate(longer, max_tokens=4, temperature=0))
    assert engine.stats.reused_tokens - reused == len(longer) - 1
    assert engine.stats.prompt_tokens - computed == 1
    engine.forget()
    assert ids_of(engine.generate(longer, max_tokens=4, temperature=0)) == again


def test_a_prompt_that_leaves_the_cached_one_is_right_too(engine):
    engine.forget()
    expected = ids_of(engine.generate("The captain", max_tokens=6, temperature=0))
    ids_of(engine.generate("The queen of the island", max_tokens=6, temperature=0))
    assert ids_of(engine.generate("The captain", max_tokens=6, temperature=0)) == expected


def test_text_of_the_tokens_is_the_decoded_sequence(engine):
    tokens = list(engine.generate(PROMPT, max_tokens=12, temperature=0.9, seed=3))
    assert "".join(token.text for token in tokens) == engine.tokenizer.decode(ids_of(tokens))


def test_the_same_seed_gives_the_same_text(engine):
    def run(seed: int) -> list[int]:
        return ids_of(engine.generate(PROMPT, max_tokens=16, seed=seed))

    assert run(5) == run(5)
    assert run(5) != run(6)


def test_generation_ends_with_a_reason(engine):
    *_, last = engine.generate(PROMPT, max_tokens=3, temperature=0)
    assert (last.finish, engine.finish_reason) == ("length", "length")
    *_, last = engine.generate(PROMPT, temperature=0, ignore_stop=True)
    assert (last.finish, engine.finish_reason) == ("context", "context")
    assert list(engine.generate(PROMPT, max_tokens=0)) == []


def test_a_stop_token_ends_the_text_and_is_not_part_of_it(engine, monkeypatch):
    ids = ids_of(engine.generate(PROMPT, max_tokens=5, temperature=0))
    monkeypatch.setattr(engine.tokenizer, "stop_ids", frozenset({ids[3]}))
    first = ids.index(ids[3])
    assert ids_of(engine.generate(PROMPT, max_tokens=5, temperature=0)) == ids[:first]
    assert engine.finish_reason == "stop"
    assert ids_of(engine.generate(PROMPT, max_tokens=5, temperature=0, ignore_stop=True)) == ids


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda e: e.generate([1] * 60, max_tokens=5), ContextError, "-c 65"),
        (lambda e: e.logits([1] * 65), ContextError, "64 tokens of cache"),
        (lambda e: e.generate([]), UsageError, "empty"),
        (lambda e: e.generate([4096]), UsageError, "0 to 4095"),
        (lambda e: e.generate([-1]), UsageError, "-1"),
        (lambda e: e.generate("x", max_tokens=-2), UsageError, "-2"),
        (lambda e: e.generate([5] * 64), ContextError, "-c 65"),
        (lambda e: e.logits([1.5, 2]), UsageError, "whole numbers"),
        (lambda e: e.extend([]), UsageError, "empty"),
        (lambda e: e.extend([1] * 65), ContextError, "-c 65"),
        (lambda e: e.fill([4096]), UsageError, "0 to 4095"),
        (lambda e: e.fill([1] * 65), ContextError, "-c 65"),
        (lambda e: e.truncate(1), UsageError, "a sequence of 0"),
        (lambda e: e.truncate(-1), UsageError, "-1"),
        (lambda e: e.generate("x", sampling=SamplingOptions(), top_k=1), UsageError, "at once"),
    ],
)
def test_impossible_requests_fail_before_any_work(engine, call, error, words):
    engine.forget()
    computed = engine.stats.prompt_tokens
    with pytest.raises(error) as raised:
        call(engine)
    assert words in str(raised.value)
    assert engine.stats.prompt_tokens == computed


def test_the_context_can_be_filled_to_the_last_row(engine):
    assert len(ids_of(engine.generate([5] * 60, max_tokens=4, ignore_stop=True))) == 4


def test_an_iterator_left_open_cannot_go_on_over_another_calls_cache(engine):
    first = engine.generate(PROMPT, max_tokens=8, temperature=0)
    next(first)
    engine.logits(engine.encode("The captain"))
    with pytest.raises(UsageError, match="another call"):
        list(first)
    scored = engine.passes(engine.encode(PROMPT))
    [*engine.generate("The captain", max_tokens=2, temperature=0)]
    assert torch.cat(list(scored)).shape == (len(engine.encode(PROMPT)), 4096)


def test_a_generation_that_was_left_open_does_not_disturb_the_next(engine):
    engine.forget()
    expected = ids_of(engine.generate(PROMPT, max_tokens=6, temperature=0))
    left = engine.generate(PROMPT, max_tokens=6, temperature=0)
    next(left), next(left)
    left.close()
    assert ids_of(engine.generate(PROMPT, max_tokens=6, temperature=0)) == expected


def test_extending_goes_on_after_the_last_generated_token(engine):
    ids = engine.encode(PROMPT)
    generated = ids_of(engine.generate(ids, max_tokens=5, temperature=0))
    extended = engine.extend([40, 41])
    whole = engine.logits([*ids, *generated, 40, 41])
    assert extended.shape == (2, 4096)
    np.testing.assert_allclose(extended, whole[-2:], atol=0.02)  # an f16 cache, filled in two ways


def test_filling_appends_as_extending_does_and_tells_what_each_pass_took(engine):
    ids = engine.encode(PROMPT)
    engine.forget()
    engine.fill(ids[:3])
    [step] = engine.fill(ids[3:])
    assert (step.start, step.tokens) == (3, len(ids) - 3)
    expected = engine.extend([40])
    engine.forget()
    engine.fill(ids)
    np.testing.assert_allclose(engine.extend([40]), expected, atol=0.02)
    np.testing.assert_allclose(engine.logits([*ids, 40])[-1:], expected, atol=0.02)


def test_more_than_the_rest_of_the_context_is_not_appended(engine):
    engine.forget()
    engine.fill([1] * 60)
    for append in (engine.fill, engine.extend):
        with pytest.raises(ContextError, match="65 prompt tokens"):
            append([1] * 5)
    assert engine.fill([1] * 4)[0].start == 60


def test_truncating_forgets_what_came_after_and_keeps_what_came_before(engine):
    ids = engine.encode(PROMPT)
    engine.forget()
    engine.fill(ids)
    once = engine.extend([40, 41])
    engine.truncate(len(ids))
    engine.fill([7, 8, 9])
    engine.truncate(len(ids))
    np.testing.assert_array_equal(engine.extend([40, 41]), once)
    with pytest.raises(UsageError, match=f"a sequence of {len(ids) + 2}"):
        engine.truncate(len(ids) + 3)


def test_truncating_keeps_the_last_generated_token_only_when_it_is_counted(engine):
    ids = engine.encode(PROMPT)
    expected = None
    for kept in (1, 0):
        engine.forget()
        [token] = engine.generate(ids, max_tokens=1, temperature=0)
        engine.truncate(len(ids) + kept)
        found = engine.extend([40] if kept else [token.id, 40])[-1:]
        expected = found if expected is None else expected
        np.testing.assert_allclose(found, expected, atol=0.02)


def test_a_generation_left_open_ends_when_the_sequence_is_truncated(engine):
    tokens = engine.generate(PROMPT, max_tokens=4, temperature=0)
    next(tokens)
    engine.truncate(2)
    with pytest.raises(UsageError, match="another call"):
        list(tokens)
