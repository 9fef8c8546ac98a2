from hypothesis import given
from hypothesis import strategies as st

from hybrid.tokenizer.stream import TextStream
from hybrid.tokenizer.tokenizer import Tokenizer

IDS = st.lists(st.integers(0, 269), max_size=40)
UTF8_LEADS = st.sampled_from(
    [0xE2, 0x96, 0x81, 0xF0, 0x9F, 0x98, 0x80, 0xC3, 0xA9, 0xED, 0xA0, 0x41]
)


@given(ids=IDS, special=st.booleans())
def test_pushed_and_flushed_text_is_the_decoded_text(
    small: Tokenizer, ids: list[int], special: bool
) -> None:
    stream = small.stream(render_special=special)
    text = "".join([*map(stream.push, ids), stream.flush()])
    assert text == small.decode(ids, render_special=special)
    assert text == small.decode_bytes(ids, render_special=special).decode("utf-8", "replace")


@given(data=st.lists(UTF8_LEADS), blank=st.booleans())
def test_broken_sequences_stream_as_they_decode(data: list[int], blank: bool) -> None:
    stream = TextStream(lambda byte: bytes([byte]), drop_blank=blank)
    text = "".join([*map(stream.push, data), stream.flush()])
    assert text == bytes(data).decode("utf-8", "replace")


@given(ids=st.lists(st.integers(0, 4095), max_size=60))
def test_the_demo_vocabulary_streams_as_it_decodes(demo: Tokenizer, ids: list[int]) -> None:
    stream = demo.stream()
    text = "".join([*map(stream.push, ids), stream.flush()])
    assert text == demo.decode_bytes(ids).decode("utf-8", "replace")


def test_an_emoji_across_tokens_comes_whole(small: Tokenizer) -> None:
    ids = small.encode("a\U0001f600b", add_special=False)
    stream = small.stream()
    assert [stream.push(i) for i in ids] == ["a", "", "\U0001f600", "b"]
    assert stream.flush() == ""


def test_a_sequence_left_open_is_replaced_at_the_end(small: Tokenizer) -> None:
    stream = small.stream()
    assert stream.push(small.encode("\U0001f600", add_special=False)[0]) == ""
    assert stream.flush() == "\ufffd"
    assert stream.push(257) == "the"


def test_only_the_first_blank_is_dropped() -> None:
    stream = TextStream(lambda n: b" " * n, drop_blank=True)
    assert [stream.push(0), stream.push(2), stream.push(1)] == ["", " ", " "]
