"""Steps of several layers through mailboxes, one truth for test and bench."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """`layers` crossings a step, spread over `mailboxes` in stretches.

    first, count   experts held here, of `experts`; the others add nothing
    """

    tokens: int
    layers: int
    mailboxes: int
    experts: int
    used: int
    width: int
    feed_forward: int
    first: int = 0
    count: int | None = None


SMALL = [
    Case(tokens=1, layers=3, mailboxes=1, experts=4, used=2, width=64, feed_forward=32),
    Case(tokens=8, layers=4, mailboxes=2, experts=6, used=3, width=33, feed_forward=17),
    Case(
        tokens=3,
        layers=3,
        mailboxes=2,
        experts=8,
        used=2,
        width=40,
        feed_forward=9,
        first=2,
        count=3,
    ),
]
REAL = [
    Case(tokens=1, layers=26, mailboxes=1, experts=64, used=6, width=2048, feed_forward=1408),
    Case(tokens=1, layers=58, mailboxes=1, experts=256, used=8, width=7168, feed_forward=2048),
]
