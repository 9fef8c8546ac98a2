"""What goes into a decode step and what comes out of it."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from torch import Tensor


@dataclass(frozen=True, slots=True)
class StepInput:
    """A step's inputs, all contiguous.

    hidden     [tokens, width] float32   embedding rows
    positions  [tokens] int32            of the tokens in their sequences
    rows       [tokens] int64            cache rows that the tokens fill
    seen       [tokens] int32            cache rows that each token sees, its own among them
    """

    hidden: Tensor
    positions: Tensor
    rows: Tensor
    seen: Tensor

    def pairs(self, other: "StepInput") -> Iterator[tuple[str, Tensor, Tensor]]:
        for field in fields(self):
            yield field.name, getattr(self, field.name), getattr(other, field.name)


@dataclass(frozen=True, slots=True)
class Greatest:
    """index [tokens] int32 and value [tokens] float32 of each token's greatest logit."""

    index: Tensor
    value: Tensor


@dataclass(frozen=True, slots=True)
class ArgmaxScratch:
    """best [tokens, parts] int64, counters [tokens] int32: zero before and after a launch."""

    best: Tensor
    counters: Tensor
