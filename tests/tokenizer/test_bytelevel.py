import random
from collections.abc import Callable
from typing import Any

from hybrid.tokenizer.bytelevel import BYTE_CHARACTERS, spelled_bytes
from hybrid.tokenizer.tokenizer import Tokenizer

Metadata = Callable[..., dict[str, Any]]


def merged(word: str, merges: list[str], ids: dict[str, int]) -> list[int]:
    """The definition, slowly: lowest rank first, leftmost on ties; no token: byte by byte."""
    ranks = {tuple(merge.split(" ")): rank for rank, merge in reversed(list(enumerate(merges)))}
    symbols = [BYTE_CHARACTERS[byte] for byte in word.encode()]
    while True:
        pairs = list(zip(symbols, symbols[1:], strict=False))
        found = [(ranks[pair], at) for at, pair in enumerate(pairs) if pair in ranks]
        if not found:
            break
        _, at = min(found)
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
    spelled = [c for s in symbols for c in ([s] if s in ids else s)]
    return [ids[c] for c in spelled if c in ids]


def test_bytes_map_to_characters_by_the_table_of_gpt_2() -> None:
    assert BYTE_CHARACTERS[ord("a")] == "a"
    assert BYTE_CHARACTERS[0] == "\u0100"
    assert BYTE_CHARACTERS[ord(" ")] == "\u0120"
    assert BYTE_CHARACTERS[ord("\n")] == "\u010a"
    assert BYTE_CHARACTERS[127] == "\u0121"
    assert BYTE_CHARACTERS[173] == "\u0143"
    assert len(set(BYTE_CHARACTERS)) == 256


def test_a_character_outside_the_table_stands_for_itself() -> None:
    assert spelled_bytes("a\u0120\uff5c") == b"a \xef\xbd\x9c"


def test_merging_follows_the_definition_also_where_results_are_no_tokens(
    metadata: Metadata,
) -> None:
    chooser = random.Random(3)
    for _ in range(60):
        grown = list("abcd")
        for _ in range(12):
            grown.append(chooser.choice(grown) + chooser.choice(grown))
        made = [text for text in dict.fromkeys(grown) if len(text) > 1]
        merges = []
        for text in made:
            at = chooser.randrange(1, len(text))
            merges.append(f"{text[:at]} {text[at:]}")
        known = [text for text in made if chooser.random() < 0.7]  # the rest are phantoms
        letters = [c for c in BYTE_CHARACTERS if c != "d"]  # nor is every byte a token
        tokens = [*letters, *known]
        given = metadata(
            tokens=tokens, token_type=None, merges=merges, bos_token_id=0, eos_token_id=0
        )
        tokenizer = Tokenizer.from_metadata(given, "a.gguf")
        ids = {text: number for number, text in enumerate(tokens)}
        for _ in range(20):
            word = "".join(chooser.choices("abcd", k=chooser.randint(1, 16)))
            assert tokenizer.encode(word, add_special=False) == merged(word, merges, ids), word


def test_the_first_of_two_equal_merges_counts(metadata: Metadata) -> None:
    given = metadata(merges=["t h", "h e", "th e", "t h"])
    tokenizer = Tokenizer.from_metadata(given, "a.gguf")
    assert tokenizer.encode("the", add_special=False) == [257]


def test_whole_words_are_taken_without_merging_in_the_llama_3_family(metadata: Metadata) -> None:
    no_merges = {"merges": ["t h"], "add_bos_token": False}
    whole = Tokenizer.from_metadata(metadata(pre="llama-bpe", **no_merges), "a.gguf")
    assert whole.encode("the") == [257]
    cut = Tokenizer.from_metadata(metadata(pre="glm4", **no_merges), "a.gguf")
    assert cut.encode("the") == [256, ord("e")]
