"""Where a token's time went, as a mean over several measured passes. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hybrid.runtime.step_times import StepTimes


@dataclass(frozen=True, slots=True)
class MeanTimes:
    """Seconds of a token, mean over `tokens`.

    parts       device -> part -> seconds
    attention   by layer, experts likewise; None where no pass says
    """

    tokens: int = 0
    parts: Mapping[str, Mapping[str, float]] | None = None
    attention: tuple[float | None, ...] = ()
    experts: tuple[float | None, ...] = ()
    nodes: Mapping[int, float] | None = None


def mean_times(passes: Sequence[tuple[int, StepTimes]]) -> MeanTimes:
    """Seconds of a token over these passes.

    passes   (tokens, times) of each
    """
    tokens = sum(count for count, _ in passes)
    if not tokens:
        return MeanTimes()
    parts: dict[str, dict[str, float]] = {}
    nodes: dict[int, float] = {}
    for _, times in passes:
        for device, seconds in times.parts.items():
            total = parts.setdefault(device, {})
            for part, spent in seconds.items():
                total[part] = total.get(part, 0.0) + spent / tokens
        for node, spent in (times.nodes or {}).items():
            nodes[node] = nodes.get(node, 0.0) + spent / tokens
    return MeanTimes(
        tokens,
        parts,
        _layer_means([[layer.attention_s for layer in t.layers] for _, t in passes], tokens),
        _layer_means([[layer.experts_s for layer in t.layers] for _, t in passes], tokens),
        nodes or None,
    )


def _layer_means(rows: Sequence[Sequence[float | None]], tokens: int) -> tuple[float | None, ...]:
    """Column by column; None where a pass does not say."""
    return tuple(
        None if None in column else sum(map(float, column)) / tokens
        for column in zip(*rows, strict=False)
    )
