"""How a text is cut before merging: one list of patterns per pre-type (`tokenizer.ggml.pre`).

The patterns of a list are applied in sequence, each inside every piece left by the one before;
matched and unmatched stretches both become pieces. They are written for Oniguruma, which knows
`&&` and nested classes.

Two conventions: "trained" is the pattern the models were trained with; "llama.cpp" repeats where
that project differs:
    deepseek-llm, -coder   non-ASCII white space counts as U+000B, so is in no written-out class
                           (deepseek-v3 has no such class and needs no second form)
    kimi-k2                letters are one class, marks no letters, Han is ideographs only
    gpt-4o                 upper and lower case are told apart in ASCII only, marks are no letters

Must not know: vocabularies, ids. Source: the published tokenizer.json files; llama.cpp's list of
pre-types.
"""

from dataclasses import dataclass

from hybrid.errors import TokenizerError

CONVENTIONS = ("trained", "llama.cpp")

# The cased letters of DeepSeek's first tokenizer, as published: no CJK, no Arabic, no modifier
# letters. Written as escapes because several (U+2126, U+212A, U+1FBE) do not survive Unicode
# normalisation of a source file.
_CASED = (
    "A-Za-z"
    "\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481"
    "\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf"
    "\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d"
    "\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4"
    "\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107"
    "\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f"
    "\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d"
    "\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17"
    "\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb"
    "\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)
_PUNCTUATION = "!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f"
_EAST_ASIAN = "\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff"
# CJK unified ideographs, extensions A to F, compatibility ideographs
_IDEOGRAPHS = (
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ebef"
    "\U0002f800-\U0002fa1f"
)
# Same matches as `\s+$`, in linear time: a run that does not end the text is tried once, not from
# each of its blanks.
_TRAILING_BLANKS = r"(?<!\s)\s++$"

_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+"
_GPT2 = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # lower case only
)


def _llama3(digits: str) -> str:
    words = rf"[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}"
    return rf"{_CONTRACTION}|{words}|{_SYMBOLS}[\r\n]*|{_BLANKS}"


def _cased_words(upper: str, lower: str, symbol_tail: str) -> str:
    """Words cut where lower case turns into upper, contractions kept at their word."""
    start = r"[^\r\n\p{L}\p{N}]?"
    words = f"{start}{upper}*{lower}+{_CONTRACTION}?|{start}{upper}+{lower}*{_CONTRACTION}?"
    return rf"{words}|\p{{N}}{{1,3}}|{_SYMBOLS}{symbol_tail}*|{_BLANKS}"


def _deepseek_llm(punctuation: str, east_asian: str) -> tuple[str, ...]:
    # `:-~` in the punctuation holds all ASCII letters: a word with one other letter is cut again.
    words, marks = rf"\s?[{_CASED}]+", rf"\s?[{punctuation}]+"
    return (r"[\r\n]", words, marks, _TRAILING_BLANKS, f"[{east_asian}]+", r"\p{N}+")


def _deepseek_coder(east_asian: str) -> tuple[str, ...]:
    return (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", f"[{east_asian}]+", r"\p{N}")


_DEEPSEEK_V3 = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    rf"""| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_BLANKS}""",
)
_KIMI = r"\p{Han}+|" + _cased_words(
    r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]",
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]",
    r"[\r\n]",
)
_KIMI_ONE_CASE = (
    rf"[{_IDEOGRAPHS}]+|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}&&[^{_IDEOGRAPHS}]]+{_CONTRACTION}?"
    rf"|\p{{N}}{{1,3}}|{_SYMBOLS}[\r\n]*|{_BLANKS}"
)
_GPT4O = _cased_words(r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"[\r\n/]")
_GPT4O_ASCII_CASE = _cased_words(r"[\p{L}&&[^a-z]]", r"[\p{L}&&[^A-Z]]", r"[\r\n/]")
_LLAMA3, _QWEN2 = _llama3(r"\p{N}{1,3}"), _llama3(r"\p{N}")
_DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")


@dataclass(frozen=True)
class PreTokenizer:
    """The cutting patterns of one pre-type and what else hangs on it.

    patterns        applied in sequence
    like_llama_cpp  the patterns as llama.cpp applies them; empty: the same
    whole_words     a piece that is a token is taken without merging ("ignore_merges")
    add_bos         whether a text starts with BOS when the file does not say
    """

    patterns: tuple[str, ...]
    like_llama_cpp: tuple[str, ...] = ()
    whole_words: bool = False
    add_bos: bool = False

    def following(self, conventions: str) -> tuple[str, ...]:
        """The patterns under one of CONVENTIONS."""
        return (conventions == "llama.cpp" and self.like_llama_cpp) or self.patterns


_FAMILIES = {
    "default": PreTokenizer(_DEFAULT),
    "gpt-2 phi-2 mpt olmo jais": PreTokenizer((_GPT2,)),
    "smollm starcoder refact command-r codeshell exaone": PreTokenizer((r"\p{N}", _GPT2)),
    "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral": PreTokenizer(
        (_LLAMA3,), whole_words=True, add_bos=True
    ),
    "glm4 chatglm-bpe": PreTokenizer((_LLAMA3,)),
    "qwen2 deepseek-r1-qwen": PreTokenizer((_QWEN2,)),
    "deepseek-llm": PreTokenizer(
        _deepseek_llm(_PUNCTUATION + "\u3000-\u3002", _EAST_ASIAN),
        _deepseek_llm(_PUNCTUATION + "\u3001-\u3002", rf"{_EAST_ASIAN}&&[^\s]"),
    ),
    "deepseek-coder": PreTokenizer(
        _deepseek_coder(_EAST_ASIAN), _deepseek_coder(rf"{_EAST_ASIAN}&&[^\s]")
    ),
    "deepseek-v3": PreTokenizer(_DEEPSEEK_V3),
    "kimi-k2": PreTokenizer((_KIMI,), (_KIMI_ONE_CASE,)),
    "gpt-4o llama4": PreTokenizer((_GPT4O,), (_GPT4O_ASCII_CASE,)),
}
PRE_TOKENIZERS = {name: family for names, family in _FAMILIES.items() for name in names.split()}


def pre_tokenizer(name: str, source: str) -> PreTokenizer:
    """The pre-type called `name`; a TokenizerError that lists the known ones otherwise."""
    if name not in PRE_TOKENIZERS:
        raise TokenizerError(
            f"unknown pre-tokenizer {name!r:.80} in {source}",
            f"known: {', '.join(sorted(PRE_TOKENIZERS))}",
            remedy="set tokenizer.ggml.pre to the name whose pattern the model was trained with",
        )
    return PRE_TOKENIZERS[name]
