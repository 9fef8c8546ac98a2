"""Waiting for what another thread or process does, and how often it does so."""

import select
from collections.abc import Callable
from time import monotonic, sleep

from hybrid.live.client import Attached

PATIENCE_S = 30.0  # with machines that are busy elsewhere: nothing here takes so long by itself


def until(told: Callable[[], object], seconds: float = PATIENCE_S) -> object:
    """What `told` says once that is true; fails when it does not come about."""
    end = monotonic() + seconds
    while not (found := told()):
        assert monotonic() < end, f"it did not come about within {seconds:g} s"
        sleep(0.005)
    return found


def has_more(watched: Attached) -> bool:
    return bool(select.select([watched._connection], [], [], 0)[0])


def apart_s(watched: Attached, count: int) -> float:
    """Between a snapshot and the one so many later, as the run has taken them. Of a run that was
    kept from its work two come too soon after the ones before; the others keep their pace.
    """
    shots = [next(watched).at for _ in range(count + 1)]
    return shots[-1] - shots[0]
