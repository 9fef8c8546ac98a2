"""Rows of the conformance table and the measures in them.

    max abs   max |x - reference|
    NMSE      Σ (x - reference)² / Σ reference²
    KL        mean over tokens of KL(softmax reference || softmax x)
    top-1     share of tokens whose most probable entry is the reference's

A comparison passes when all four are within a `Limits`; a NaN is never within.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Limits:
    """Largest differences allowed.

    gap     where the reference's best two logits are closer than this, the top-1 may differ
    top1    smallest share of equal top-1 over all tokens, whatever the gap
    """

    max_abs: float = np.inf
    nmse: float = np.inf
    kl: float = np.inf
    gap: float = np.inf
    top1: float = 0.0


@dataclass(frozen=True)
class Row:
    """One line of the table; None where a measure does not apply.

    failed   names of what was out of bounds, or one line that says what went wrong
    """

    name: str
    cases: int
    max_abs: float | None = None
    nmse: float | None = None
    kl: float | None = None
    top1: float | None = None
    failed: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.failed and self.cases > 0


def compare_logits(
    name: str,
    got: ArrayLike,
    reference: ArrayLike,
    limits: Limits,
    gap: NDArray[np.floating] | None = None,
) -> Row:
    """One row for logits [tokens, vocabulary].

    gap   [tokens] best logit less second best; None takes those of `reference`
    """
    x, ref = np.asarray(got, np.float64), np.asarray(reference, np.float64)
    if x.shape != ref.shape:
        return Row(name, len(ref), failed=(f"shape {x.shape} instead of {ref.shape}",))
    if gap is None:
        best_two = np.partition(ref, -2, axis=-1)[:, -2:]
        gap = best_two[:, 1] - best_two[:, 0]
    expected = log_softmax(ref)
    same = x.argmax(-1) == ref.argmax(-1)
    row = Row(
        name,
        len(ref),
        max_abs=float(np.abs(x - ref).max()),
        nmse=float(((x - ref) ** 2).sum() / (ref**2).sum()),
        kl=float((np.exp(expected) * (expected - log_softmax(x))).sum(-1).mean()),
        top1=float(same.mean()),
    )
    return replace(row, failed=_out_of_bounds(row, limits, clear=same[gap > limits.gap]))


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the last dimension."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _out_of_bounds(row: Row, limits: Limits, clear: NDArray[np.bool_]) -> tuple[str, ...]:
    measured = {"max abs": row.max_abs, "NMSE": row.nmse, "KL": row.kl}
    allowed = (limits.max_abs, limits.nmse, limits.kl)
    failed = [
        name for (name, x), most in zip(measured.items(), allowed, strict=True) if not x <= most
    ]
    if not clear.all() or not row.top1 >= limits.top1:
        failed.append("top-1")
    return tuple(failed)
