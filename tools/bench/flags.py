"""Values of the benches' flags: types for argparse, which prints what they raise."""

import argparse


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def counts(text: str) -> list[int]:
    """Of "1,64": each once, in the order given."""
    return list(dict.fromkeys(positive(word) for word in text.split(",")))
