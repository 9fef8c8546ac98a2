"""The vocabulary of a GGUF file, checked before anything is built from it.

Every array and id is checked here once, so that the rooms behind it index without fear. What
llama.cpp tolerates is tolerated (empty tokens, repeated merges, merges of symbols that are no
tokens); what would tokenise wrongly without a word (arrays of different lengths, two tokens with
one text) is an error.

Must not know: how a text is cut or merged.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hybrid.errors import TokenizerError
from hybrid.tokenizer.pretokenizers import PreTokenizer, pre_tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
MODELS = {"gpt2": "byte-level BPE", "llama": "SentencePiece"}
# Texts that end an answer in one model family or another, whatever the file's keys say.
_STOP_TEXTS = (
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
)
_STOP_KEYS = ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")
_CONVERT_AGAIN = (
    "convert the model again, or take the vocabulary from another file of the same model"
)


class NoVocabulary(TokenizerError):
    """The file holds no tokens at all; such a model runs on token ids only."""


@dataclass(frozen=True)
class Vocabulary:
    """Tokens and rules of one file.

    source            name of the file, for messages
    model, pre        "gpt2" or "llama"; the pre-type as written ("default" when absent)
    tokens, types     one per id; an empty text stands for a token that no text reaches
    scores            one per id for "llama", else empty
    merges            (left, right), best rank first, for "gpt2"
    ids               text -> id, empty texts left out
    bos_id, eos_id    None when the file names none and the tokenizer model has no default
    space_prefix      a blank is put before a text ("llama" only)
    """

    source: str
    model: str
    pre: str
    splitter: PreTokenizer
    tokens: list[str]
    types: list[int]
    scores: list[float]
    merges: list[tuple[str, str]]
    ids: dict[str, int] = field(repr=False)
    bos_id: int | None
    eos_id: int | None
    unknown_id: int | None
    add_bos: bool
    add_eos: bool
    space_prefix: bool
    stop_ids: frozenset[int]


def read_vocabulary(metadata: Mapping[str, Any], source: str, conventions: str) -> Vocabulary:
    """The vocabulary in `metadata`, which has GGUF keys and Python values (arrays as lists).

    Absent bos and eos ids of byte-level BPE are None; under conventions "llama.cpp" they are 11, as
    that project has it (a comma in GPT-2's vocabulary, at which it would stop).
    Raises NoVocabulary, and TokenizerError with key and numbers for what does not fit together.
    """
    keys = _Keys(metadata, source)
    model = _model(keys)
    spm = model == "llama"
    pre = keys.text("pre", "default") or "default"
    splitter = pre_tokenizer("default" if spm else pre, source)
    tokens = keys.array("tokens", str)
    types = keys.array("token_type", int, count=len(tokens)) or [NORMAL] * len(tokens)
    ids = _ids(tokens, source)
    fallback = (1, 2, 0) if spm else (11, 11, None) if conventions == "llama.cpp" else (None,) * 3
    names = ("bos", "eos", "unknown")
    special = {n: keys.token_id(n, len(tokens), f) for n, f in zip(names, fallback, strict=True)}
    _promote_stop_texts(ids, types)
    return Vocabulary(
        source=source,
        model=model,
        pre=pre,
        splitter=splitter,
        tokens=tokens,
        types=types,
        scores=_scores(keys, len(tokens)) if spm else [],
        merges=[] if spm else list(_merges(keys)),
        ids=ids,
        bos_id=special["bos"],
        eos_id=special["eos"],
        unknown_id=special["unknown"],
        add_bos=_add_bos(keys, special["bos"], spm or splitter.add_bos),
        add_eos=special["eos"] is not None and keys.flag("add_eos_token", False),
        space_prefix=spm and keys.flag("add_space_prefix", True),
        stop_ids=_stop_ids(keys, ids, len(tokens), special["eos"]),
    )


class _Keys:
    """Typed reads of `tokenizer.ggml.*`; every failure names the file and the key."""

    def __init__(self, metadata: Mapping[str, Any], source: str) -> None:
        self._metadata = metadata
        self.source = source

    def has(self, key: str) -> bool:
        return f"tokenizer.ggml.{key}" in self._metadata

    def wrong(self, key: str, *details: str) -> TokenizerError:
        cause = f"tokenizer.ggml.{key} of {self.source} cannot be used"
        return TokenizerError(cause, *details, remedy=_CONVERT_AGAIN)

    def text(self, key: str, default: str) -> str:
        value = self._metadata.get(f"tokenizer.ggml.{key}", default)
        if not isinstance(value, str):
            raise self.wrong(key, f"needs a string, has {type(value).__name__}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._metadata.get(f"tokenizer.ggml.{key}", default)
        if not isinstance(value, int) or value not in (0, 1):
            raise self.wrong(key, f"needs true or false, has {value!r:.40}")
        return bool(value)

    def array(self, key: str, *kinds: type, count: int | None = None) -> list[Any]:
        """The list under `key`, or an empty one when the key is absent and `count` is given."""
        value = self._metadata.get(f"tokenizer.ggml.{key}", () if count is not None else None)
        if not isinstance(value, list | tuple):
            raise self.wrong(key, f"needs an array, has {type(value).__name__}")
        for index, item in enumerate(value):
            if not isinstance(item, kinds):
                found, needed = type(item).__name__, kinds[0].__name__
                raise self.wrong(key, f"entry {index} is {found}, needs {needed}")
        if count is not None and self.has(key) and len(value) != count:
            raise self.wrong(key, f"{len(value)} entries for {count} tokens")
        return list(value)

    def token_id(self, name: str, count: int, default: int | None) -> int | None:
        key = f"{name}_token_id"
        value = self._metadata.get(f"tokenizer.ggml.{key}")
        if value is None:
            return default if default is not None and default < count else None
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(key, f"needs a token id, has {value!r:.40}")
        if not 0 <= value < count:
            raise self.wrong(key, f"id {value}, but the ids are 0 to {count - 1}")
        return value


def _model(keys: _Keys) -> str:
    model = keys.text("model", "no_vocab")
    if model in ("no_vocab", "none") or not keys.has("tokens"):
        raise NoVocabulary(
            f"the file {keys.source} carries no vocabulary",
            f"tokenizer.ggml.model is {model!r}, {'with' if keys.has('tokens') else 'no'} tokens",
            remedy="give the prompt as token ids, or use a file converted with its tokenizer",
        )
    if model not in MODELS:
        raise TokenizerError(
            f"unknown tokenizer model {model!r:.80} in {keys.source}",
            f"known: {', '.join(f'{name} ({what})' for name, what in MODELS.items())}",
            remedy="give the prompt as token ids, or use a file with one of these tokenizers",
        )
    return model


def _ids(tokens: list[str], source: str) -> dict[str, int]:
    _refuse_surrogates(tokens, source)
    ids = {text: index for index, text in enumerate(tokens) if text}
    if not ids:
        raise NoVocabulary(
            f"the file {source} carries no vocabulary",
            f"{len(tokens)} tokens, all empty",
            remedy="give the prompt as token ids, or use a file converted with its tokenizer",
        )
    for index, text in enumerate(tokens):
        if text and ids[text] != index:
            raise TokenizerError(
                f"two tokens of {source} have the same text",
                f"{text[:60]!r} is token {index} and token {ids[text]}",
                remedy=_CONVERT_AGAIN,
            )
    return ids


def _refuse_surrogates(tokens: list[str], source: str) -> None:
    try:
        "".join(tokens).encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"a token of {source} is not valid Unicode",
            f"lone surrogate U+{ord(error.object[error.start]):04X} in tokenizer.ggml.tokens",
            remedy=_CONVERT_AGAIN,
        ) from None


def _promote_stop_texts(ids: dict[str, int], types: list[int]) -> None:
    """Careless conversions leave `<|im_end|>` a normal token, which no chat text would reach."""
    for text in _STOP_TEXTS:
        if text in ids and types[ids[text]] == NORMAL:
            types[ids[text]] = CONTROL


def _scores(keys: _Keys, count: int) -> list[float]:
    scores = [float(score) for score in keys.array("scores", float, int, count=count)]
    if not scores:
        raise keys.wrong(
            "scores", f"absent; a SentencePiece vocabulary needs one per token, {count}"
        )
    if any(score != score for score in scores):
        raise keys.wrong("scores", "a score is not a number")
    return scores


def _merges(keys: _Keys) -> Iterator[tuple[str, str]]:
    """Each different merge once, best rank first, cut at the first blank after position 0."""
    for rank, merge in enumerate(dict.fromkeys(keys.array("merges", str))):
        at = merge.find(" ", 1)
        if at < 0 or at == len(merge) - 1:
            raise keys.wrong("merges", f"merge {rank} is {merge[:60]!r}, needs 'left right'")
        yield merge[:at], merge[at + 1 :]


def _add_bos(keys: _Keys, bos_id: int | None, default: bool) -> bool:
    add = keys.flag("add_bos_token", default)
    if add and bos_id is None and keys.has("add_bos_token"):
        raise keys.wrong("add_bos_token", "true, but tokenizer.ggml.bos_token_id is absent")
    return add and bos_id is not None


def _stop_ids(keys: _Keys, ids: dict[str, int], count: int, eos_id: int | None) -> frozenset[int]:
    named = {keys.token_id(name, count, None) for name in _STOP_KEYS}
    stops = named | {eos_id} | {ids[text] for text in _STOP_TEXTS if text in ids}
    if "<|return|>" in ids and "<|call|>" in ids:
        stops.discard(ids.get("<|end|>"))  # gpt-oss: ends a message, not the answer
    return frozenset(stop for stop in stops if stop is not None)
