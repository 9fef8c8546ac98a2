"""The speed of late passes against what was predicted for passes like them. Pure.

A prediction is of one depth, and of whole micro-batches: a token after 60 000 others is not held
against one with an empty cache, nor a prompt of ten tokens against one of 512. Of decoding it is
seconds and not a number of tokens: where tokens take a millisecond, one hiccup outweighs dozens.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from hybrid.live.rate_ring import Stretch
from hybrid.live.recorder import Heard, Passed
from hybrid.live.snapshot import Comparison, Phase
from placement.prediction import Pace

# Of decoding, before it is held against anything: behind a pause the first tokens are slow again.
LEAST_TOKENS, LEAST_S = 8, 2.0


@dataclass(frozen=True, slots=True)
class Predicted:
    """Seconds of a token by depth, of decoding and of a prompt's micro-batches.

    decode, prompt   by rising depth; empty where nothing is predicted
    ubatch_tokens    of the micro-batches that `prompt` is of
    """

    decode: tuple[tuple[int, float], ...] = ()
    prompt: tuple[tuple[int, float], ...] = ()
    ubatch_tokens: int = 0


def curve(paces: Sequence[Pace]) -> tuple[tuple[int, float], ...]:
    """Of `Predicted`."""
    return tuple(sorted((pace.depth, 1.0 / pace.tokens_per_s) for pace in paces))


def compared(predicted: Predicted, heard: Heard, phase: Phase) -> Comparison | None:
    """Of the phase that goes on, of decoding where none does. None where there is too little of it,
    or no prediction for its like.
    """
    if phase is Phase.PROMPT:
        alike = [its for its in heard.read if its.tokens >= predicted.ubatch_tokens > 0]
        return _compared(predicted.prompt, alike)
    return _compared(predicted.decode, heard.settled) if _are_enough(heard.settled) else None


def _are_enough(stretches: Sequence[Stretch]) -> bool:
    tokens = sum(its.tokens for its in stretches)  # parts of them, so never quite whole
    return tokens > LEAST_TOKENS - 0.5 or sum(its.seconds for its in stretches) >= LEAST_S


def _compared(
    points: Sequence[tuple[int, float]], passes: Sequence[Passed | Stretch]
) -> Comparison | None:
    tokens, seconds = sum(its.tokens for its in passes), sum(its.seconds for its in passes)
    if not points or seconds <= 0.0:
        return None
    expected_s = sum(its.tokens * seconds_at(points, its.start) for its in passes)
    return Comparison(passes[-1].start, tokens / seconds, tokens / expected_s)


def seconds_at(points: Sequence[tuple[int, float]], depth: int) -> float:
    """Between two points on the line through them, beyond the ends as at the end."""
    after = bisect_left(points, (depth, 0.0))
    if after in (0, len(points)):
        return points[max(after - 1, 0)][1]
    (low, least), (high, most) = points[after - 1], points[after]
    return least + (most - least) * (depth - low) / (high - low)
