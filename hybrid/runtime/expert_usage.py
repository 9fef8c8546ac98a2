"""The file of --expert-stats: how often each expert is chosen (`placement.cost.expert_stats`)."""

import json
from pathlib import Path

from hybrid.errors import UsageError
from placement.cost.expert_stats import EVEN, EXAMPLE, ExpertStats, parse_stats
from placement.errors import RequestError
from placement.inventory import ModelInventory


def read_expert_stats(path: str | Path | None, stock: ModelInventory) -> ExpertStats:
    """Which experts of this model are chosen how often; evenly without a file.

    Raises UsageError naming the file, for one that is none of this model.
    """
    if path is None:
        return EVEN
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} cannot be read as statistics of experts",
            str(error),
            remedy=f"it holds {EXAMPLE}",
        ) from error
    try:
        return parse_stats(value, stock)
    except RequestError as error:
        raise UsageError(f"{path}: {error.cause}", remedy=error.remedies) from error
