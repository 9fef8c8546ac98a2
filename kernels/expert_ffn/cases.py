"""Shapes and allowed error of `expert_ffn`, one truth for test and bench."""

from dataclasses import dataclass

RELATIVE_ERROR = 2e-6
# Of "rounded" against its own arithmetic in float64: a value of silu(gate x) * up x that lies
# between two eight-bit numbers may go to the other one.
ROUNDED_AGAIN = 2e-3


@dataclass(frozen=True, slots=True)
class Case:
    """`tokens` tokens of `used` experts each among `experts`, of which count from `first` on are
    held here.
    """

    tokens: int
    experts: int
    used: int
    width: int
    feed_forward: int
    first: int = 0
    count: int | None = None


SMALL = [
    Case(tokens=1, experts=3, used=2, width=24, feed_forward=7),
    Case(tokens=13, experts=6, used=3, width=33, feed_forward=17),
    Case(tokens=13, experts=6, used=3, width=33, feed_forward=17, first=2, count=3),
    Case(tokens=2, experts=64, used=1, width=8, feed_forward=5, first=60, count=4),
    Case(tokens=0, experts=4, used=2, width=16, feed_forward=8),
]
REAL = [
    Case(tokens=tokens, experts=64, used=6, width=2048, feed_forward=1408) for tokens in (1, 512)
]
