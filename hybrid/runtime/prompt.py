"""From a prompt to ids that the model can take, without torch: so that a prompt which does not fit
is told before 400 GB are read.
"""

from collections.abc import Sequence
from operator import index

from hybrid.errors import ContextError, TokenizerError, UsageError
from hybrid.runtime.prepare import Prepared
from hybrid.tokenizer.tokenizer import NoVocabulary, Tokenizer


def open_tokenizer(prepared: Prepared, conventions: str) -> Tokenizer | None:
    """The file's tokenizer; None without a vocabulary: such a model runs on token ids.

    Raises TokenizerError for a vocabulary that is damaged or larger than the model's head.
    """
    try:
        tokenizer = Tokenizer.from_gguf(prepared.file, conventions=conventions)
    except NoVocabulary:
        return None
    if tokenizer.vocabulary_size > prepared.config.vocabulary:
        raise TokenizerError(
            f"{prepared.file.path.name} has {tokenizer.vocabulary_size} tokens, "
            f"but its head knows {prepared.config.vocabulary}",
            remedy="get the file again, or convert the model again",
        )
    return tokenizer


def need_tokenizer(prepared: Prepared, tokenizer: Tokenizer | None, remedy: str) -> Tokenizer:
    """The tokenizer. Raises TokenizerError, with what to do instead, for a file without one."""
    if tokenizer is None:
        raise TokenizerError(f"{prepared.file.path.name} carries no vocabulary", remedy=remedy)
    return tokenizer


def encode(
    prepared: Prepared,
    tokenizer: Tokenizer | None,
    prompt: str | Sequence[int],
    *,
    parse_special: bool = False,
) -> list[int]:
    """Token ids of a prompt; text gets the file's begin-of-text token, ids stay as they are.

    parse_special   take the texts of control tokens in it as those tokens
    """
    if not isinstance(prompt, str):
        return list(prompt)
    remedy = "give the prompt as token ids: --prompt-ids 1,2,3 (in Python a list)"
    return need_tokenizer(prepared, tokenizer, remedy).encode(prompt, parse_special=parse_special)


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading ids agree."""
    count = 0
    for left, right in zip(a, b, strict=False):
        if left != right:
            break
        count += 1
    return count


def checked(
    prepared: Prepared, ids: Sequence[int], new_tokens: int = 0, *, cached_tokens: int = 0
) -> list[int]:
    """The ids, when they are all in the vocabulary and fit into the cache with what is to come.

    cached_tokens   what stays in the cache before them

    Raises UsageError for no ids or unknown ones, ContextError for too many.
    """
    try:
        ids = [index(token) for token in ids]
    except TypeError as error:
        raise UsageError(f"token ids are whole numbers: {error}", remedy="[0, 54, 1183]") from error
    if not ids:
        raise UsageError(
            "the prompt is empty", remedy="give at least one token: -p TEXT, or a list of ids"
        )
    vocabulary = prepared.config.vocabulary
    if wrong := [token for token in ids if not 0 <= token < vocabulary]:
        raise UsageError(
            f"token id {wrong[0]} is not in the vocabulary",
            remedy=f"ids from 0 to {vocabulary - 1}",
        )
    reserved = prepared.plan.workload.context_tokens
    prompt_tokens = cached_tokens + len(ids)
    reach = prompt_tokens + new_tokens
    if reach > reserved:
        raise ContextError(
            f"{prompt_tokens} prompt tokens and {new_tokens} to generate exceed the context",
            f"{reserved} tokens of cache are reserved",
            remedy=[
                f"-c {reach} (context={reach}) reserves enough",
                "a shorter prompt or smaller -n (max_tokens)",
            ],
        )
    return ids
