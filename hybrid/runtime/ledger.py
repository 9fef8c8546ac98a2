"""Where one pass's time goes, gathered while it runs.

    turn     seconds that the host's clock charges to a device (`stats.Meter`), exclusive
    divide   what the device's own clock says of a turn, out of its `other`
    beside   the CPU's, inside a GPU's turn

Reading clocks and adding up is left for after the pass (`later`): nothing of it is in the wall
time. What measuring itself took of the pass (`cost_s`), as devices say and neighbouring passes
show, is taken out.
"""

from collections.abc import Callable, Mapping, Sequence
from math import isnan

from hybrid.runtime.step_times import LayerTimes, StepTimes
from placement.machines.machine import CPU

# The host's own work between devices' turns, whichever device is next.
HOST, OTHER, WAITING = "host", "other", "waiting"

Parts = dict[str, float]


class Ledger:
    """One pass's.

    layers   of the model
    whole    False once some device's time could not be told: nobody hears of such a pass
    cost_s   of measuring, inside the pass
    """

    def __init__(self, layers: int) -> None:
        self.attention_s: list[float | None] = [None] * layers
        self.experts_s: list[float | None] = [None] * layers
        self.whole = True
        self.cost_s = 0.0
        self._turns: dict[str, Parts] = {}
        self._beside: Parts = {}
        self._later: list[Callable[[Ledger], None]] = []

    def turn(self, device: str, part: str, seconds: float) -> None:
        parts = self._turns.setdefault(device, {})
        parts[part] = parts.get(part, 0.0) + seconds

    def divide(self, device: str, parts: Mapping[str, float]) -> None:
        for part, seconds in parts.items():
            self.turn(device, part, seconds)
        self.turn(device, OTHER, -sum(parts.values()))

    def measuring(self, device: str, seconds: float) -> None:
        """So much of the device's turn went into measuring."""
        self.cost_s += seconds
        self.turn(device, OTHER, -seconds)

    def host_measuring(self, seconds: float) -> None:
        """So much of the host's work went into measuring, in whose turn is not known: its own come
        first, then what no clock of a device has told. What clocks told is left alone, so it is
        no more than there is of these two.
        """
        for part in (HOST, OTHER):
            for parts in self._turns.values():
                taken = min(max(parts.get(part, 0.0), 0.0), seconds)
                if taken:
                    parts[part] -= taken
                    self.cost_s += taken
                    seconds -= taken

    def beside(self, part: str, seconds: float) -> None:
        self._beside[part] = self._beside.get(part, 0.0) + seconds

    def layers(
        self, first: int, attention_s: Sequence[float], experts_s: Sequence[float | None]
    ) -> None:
        """Of blocks that follow one another; None or NaN where there are no experts."""
        end = first + len(attention_s)
        self.attention_s[first:end] = attention_s
        self.experts_s[first:end] = [
            None if spent is None or isnan(spent) else spent for spent in experts_s
        ]

    def later(self, tell: Callable[["Ledger"], None]) -> None:
        self._later.append(tell)

    def tell(self) -> None:
        """What was left for after the pass."""
        for tell in self._later:
            tell(self)
        self._later.clear()

    def times(self, pass_s: float, sampling_s: float, nodes: Mapping[int, float]) -> StepTimes:
        """What there is to say, once the pass is done and all is told.

        pass_s       wall time of the pass, measuring included
        sampling_s   that choosing its token took before it
        """
        wall_s = max(pass_s - self.cost_s, 0.0) + sampling_s
        of_gpus = {
            device: {part: seconds for part, seconds in parts.items() if part != HOST}
            for device, parts in self._turns.items()
            if device != CPU
        }
        turns_s = sum(sum(parts.values()) for parts in of_gpus.values())
        found = {device: _filled(parts, wall_s, WAITING) for device, parts in of_gpus.items()}
        found[CPU] = _filled(self._of_cpu(turns_s, sampling_s), wall_s, OTHER)
        layers = tuple(map(LayerTimes, self.attention_s, self.experts_s))
        return StepTimes(found, layers, nodes or None, self.cost_s)

    def _of_cpu(self, turns_s: float, sampling_s: float) -> Parts:
        """All but its `other`, which is the rest."""
        parts = dict(self._beside)
        for part, seconds in self._turns.get(CPU, {}).items():
            if part not in (HOST, OTHER, "crossing"):
                parts[part] = parts.get(part, 0.0) + seconds
        waiting = turns_s - sum(self._beside.values())
        if waiting > 0:
            parts[WAITING] = parts.get(WAITING, 0.0) + waiting
        if sampling_s:
            parts["sampling"] = sampling_s
        return parts


def _filled(parts: Mapping[str, float], wall_s: float, rest: str) -> Parts:
    """The same with a rest, so that they sum to the wall time: where two clocks disagree and there
    is too much of them, all shrink alike.
    """
    found = {part: seconds for part, seconds in parts.items() if seconds > 0}
    found[rest] = found.get(rest, 0.0) + max(wall_s - sum(found.values()), 0.0)
    total = sum(found.values())
    return {part: seconds * wall_s / total for part, seconds in found.items()} if total else found
