"""How a text is cut into windows; scoring itself is tested through the command."""

import pytest

from hybrid.errors import UsageError
from hybrid.gguf.reader import GgufFile
from hybrid.runtime.perplexity import Score, text_windows
from hybrid.runtime.prepare import model_path
from hybrid.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    with GgufFile.open(model_path("demo")) as file:
        return Tokenizer.from_gguf(file)


def test_windows_start_with_bos_and_hold_every_token_once(tokenizer):
    text = "The quick brown fox jumps over the lazy dog, and then again. " * 5
    ids = tokenizer.encode(text, add_special=False)
    windows = text_windows(tokenizer, text, 8)
    assert all(window[0] == tokenizer.bos_id for window in windows)
    assert all(len(window) == 8 for window in windows[:-1])
    assert [token for window in windows for token in window[1:]] == ids


@pytest.mark.parametrize(("extra", "lengths"), [(-1, [5]), (0, [6]), (1, [6, 2]), (5, [6, 6])])
def test_a_last_window_is_kept_when_it_has_a_token(tokenizer, extra, lengths):
    text = tokenizer.decode([*range(300, 305 + extra)])
    ids = tokenizer.encode(text, add_special=False)
    windows = text_windows(tokenizer, text, len(ids) - extra + 1)
    assert [len(window) for window in windows][: len(lengths) - 1] == lengths[:-1]
    assert sum(len(window) - 1 for window in windows) == len(ids)
    assert len(windows) == len(lengths)


def test_texts_of_special_tokens_are_plain_text(tokenizer):
    bos = tokenizer.token_text(tokenizer.bos_id)
    [window] = text_windows(tokenizer, f"a {bos} b", 64)
    assert tokenizer.bos_id not in window[1:]


def test_the_heldout_text_has_the_published_count_of_tokens(tokenizer, shared):
    text = (shared / "models" / "heldout.txt").read_bytes().decode()
    windows = text_windows(tokenizer, text, 1024)
    assert sum(len(window) - 1 for window in windows) == 55_661
    assert len(windows) == 55


def test_a_window_needs_room_and_a_text_needs_tokens(tokenizer):
    with pytest.raises(UsageError, match="room"):
        text_windows(tokenizer, "text", 1)
    with pytest.raises(UsageError, match="empty"):
        text_windows(tokenizer, "", 8)


def test_a_hopeless_score_is_still_a_number():
    assert Score(1, 1e6).perplexity > 1e300
