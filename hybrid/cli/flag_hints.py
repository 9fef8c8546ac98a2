"""What to type in place of a flag that is not known: by hand for those that other programs have,
by likeness for the rest, and nothing where nothing is near.
"""

import difflib
from collections.abc import Collection

from hybrid.errors import UsageError

LEAST_LIKENESS = 0.82  # -ncmoe for -nmoe has 0.91, -h for -hf 0.8

# as other programs call it -> how it is called here, every name of it
_SYNONYMS = {
    **dict.fromkeys(
        ("--ctx", "-ctx", "--n-ctx", "--context", "--context-size", "--context-length"),
        ("-c", "--ctx-size"),
    ),
    **dict.fromkeys(("--batch", "--ubatch", "--n-batch", "--n-ubatch"), ("-ub", "--ubatch-size")),
    **dict.fromkeys(
        ("--kv-cache-type", "--cache-type", "-ctkv", "--kv-type"), ("-ctk", "--cache-type-k")
    ),
    **dict.fromkeys(("--max-tokens", "--num-predict"), ("-n", "--predict")),
    **dict.fromkeys(("--ngl", "--n-layers"), ("-ngl", "--n-gpu-layers")),
}
_ADAPTERS = ("--lora", "--lora-scaled", "--lora-base", "--lora-init-without-apply")
_DOWNLOADS = (
    *("-hf", "-hfr", "--hf-repo", "-hff", "--hf-file", "-hft", "--hf-token"),
    *("-mu", "--model-url", "--docker-repo"),
)


def unknown_flag(flag: str, known: Collection[str], help_line: str) -> UsageError:
    """The error for a flag that the command does not take.

    known       its flags that have an effect
    help_line   the remedy that always stands: "hybrid run --help"
    """
    if flag in _ADAPTERS:
        return UsageError(
            f"unknown flag {flag}: adapters are not supported",
            remedy=[f"merge the adapter into the model's file and leave out {flag}", help_line],
        )
    if flag in _DOWNLOADS and "--model" in known:
        return UsageError(
            f"unknown flag {flag}: nothing is downloaded here",
            remedy=["give -m a file: -m MODEL.gguf", help_line],
        )
    near = _nearest(flag, known)
    hint = [f"did you mean {near}?"] if near else []
    return UsageError(f"unknown flag {flag}", remedy=[*hint, help_line])


def _nearest(flag: str, known: Collection[str]) -> str | None:
    """The flag that was meant, "-c/--ctx-size" where it was found by another program's name."""
    there = {word: names for word, names in _SYNONYMS.items() if names[-1] in known}
    found = difflib.get_close_matches(flag, [*there, *known], n=1, cutoff=LEAST_LIKENESS)
    return "/".join(there.get(found[0], (found[0],))) if found else None
