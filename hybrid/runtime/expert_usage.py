"""How often each expert is chosen: counted by an engine while somebody listens, and the file of
--expert-stats (`placement.cost.expert_stats`).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hybrid.errors import UsageError
from hybrid.runtime.text_file import replace_text
from placement.cost.expert_stats import EVEN, EXAMPLE, STATS_VERSION, ExpertStats, parse_stats
from placement.errors import RequestError
from placement.inventory import ModelInventory

Counts = dict[int, list[int]]


@dataclass(frozen=True, slots=True)
class ExpertUsage:
    """Choices so far.

    layers           block -> how often each of its experts was chosen
    counted_tokens   that the block counted most has seen. On the CPU every token is counted; on a
                     GPU those of prompts, and of decoding one in so many
                     (`hybrid.runtime.timing`)
    """

    layers: Mapping[int, tuple[int, ...]]
    counted_tokens: int


def joined_usage(sources: Iterable[Callable[[], Counts]], used: int) -> ExpertUsage:
    """The sums of several counts.

    used   experts a token uses
    """
    sums: Counts = {}
    for source in sources:
        for layer, counts in source().items():
            before = sums.get(layer, [0] * len(counts))
            sums[layer] = [a + b for a, b in zip(before, counts, strict=True)]
    layers = {layer: tuple(sums[layer]) for layer in sorted(sums)}
    return ExpertUsage(layers, max(map(sum, layers.values()), default=0) // max(used, 1))


def write_expert_stats(path: str | Path, layers: Mapping[int, Sequence[int]]) -> None:
    """The file that `read_expert_stats` reads; whoever reads it meanwhile sees the one before.

    Raises UsageError where it cannot be written.
    """
    value = {"version": STATS_VERSION, "layers": {str(k): list(v) for k, v in layers.items()}}
    try:
        replace_text(path, json.dumps(value))
    except OSError as error:
        raise UsageError(
            f"statistics of experts cannot be written to {path}",
            error.strerror or str(error),
            remedy="--save-expert-stats FILE in a folder that is there and may be written to",
        ) from error


def read_expert_stats(path: str | Path | None, stock: ModelInventory) -> ExpertStats:
    """Which experts of this model are chosen how often; evenly without a file.

    Raises UsageError naming the file, for one that is none of this model.
    """
    if path is None:
        return EVEN
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be read",
            getattr(error, "strerror", None) or str(error),
            remedy="--expert-stats FILE as hybrid run --save-expert-stats FILE writes it",
        ) from error
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} cannot be read as statistics of experts",
            str(error),
            remedy=f"it holds {EXAMPLE}",
        ) from error
    try:
        return parse_stats(value, stock)
    except RequestError as error:
        raise UsageError(f"{path}: {error.cause}", remedy=error.remedies) from error
