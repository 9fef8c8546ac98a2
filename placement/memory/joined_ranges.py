"""Ranges of one tensor's experts that touch, on the same device: one assignment.

What computes experts takes one range of them at home and one in RAM (`reference_blocks.py`),
whichever rules brought them there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import groupby

from placement.inventory import TensorInfo
from placement.plan import Assignment


def joined_ranges(
    assignments: Iterable[Assignment], tensors: Mapping[str, TensorInfo]
) -> tuple[Assignment, ...]:
    """The assignments of a plan, as few as say the same.

    tensors   by name
    """
    touching = groupby(assignments, key=lambda part: (part.tensor, part.device))
    return tuple(_one(list(parts), tensors[name].experts) for (name, _), parts in touching)


def _one(parts: list[Assignment], experts: int) -> Assignment:
    """Of the first of their rules; all of their reasons."""
    first, last = parts[0], parts[-1]
    if len(parts) == 1 or first.experts is None or last.experts is None:
        return first
    whole = (0, experts - 1)
    here = (first.experts[0], last.experts[1])
    return replace(
        first,
        experts=None if here == whole else here,
        nbytes=sum(part.nbytes for part in parts),
        rule=min((part.rule for part in parts if part.rule is not None), default=None),
        reason="; ".join(dict.fromkeys(part.reason for part in parts)),
    )
