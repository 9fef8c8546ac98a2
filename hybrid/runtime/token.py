"""What generation gives, one at a time."""

from dataclasses import dataclass

from hybrid.runtime.stats import StepStats


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token.

    text      what it adds to the output; "" while a UTF-8 sequence is incomplete, and what is
              still incomplete at a stop token is dropped
    stats     the pass that produced its logits
    finish    None, or why this is the last one: "length", "context"; a stop token itself is not
              yielded
    """

    id: int
    text: str
    stats: StepStats
    finish: str | None = None
