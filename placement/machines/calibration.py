"""What runs on a machine taught about its predictions: for each kind of run a factor on the seconds
that the cost model computes. Plain data, kept with the machine's speeds.

    ratio    seconds measured / seconds computed, of one run
    factor   median of 1 and the last LAST_RUNS ratios, within FACTOR_BOUNDS

The 1 stands for the model without any run. So one run moves the factor half of its way, and one
that something else disturbed moves it no further than its neighbours do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

WORKS = ("decode", "prompt")
PLACES = ("gpu", "mixed", "cpu", "reference")
KINDS = tuple(f"{work}_{place}" for work in WORKS for place in PLACES)
LAST_RUNS = 8
FACTOR_BOUNDS = (0.5, 2.0)
# Beyond these nothing is learned: a machine that swaps, a clock that stood, a file of elsewhere.
RATIO_BOUNDS = (0.2, 5.0)
SURE_RUNS = 3  # from so many on, the runs' own spread says how sure a prediction is
LEAST_ERROR = 0.05


@dataclass(frozen=True, slots=True)
class Calibration:
    """ratios   by kind of KINDS, newest last; others are passed over

    decode_gpu, prompt_gpu         all that computes is on GPUs
    decode_mixed, prompt_mixed     blocks on GPUs, routed experts or blocks in RAM
    decode_cpu, prompt_cpu         all in RAM
    decode_reference, ...          blocks on GPUs that fall back, or exact kernels
    """

    ratios: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def factor(self, kind: str) -> float:
        """What the computed seconds are multiplied by; 1 where no run taught anything."""
        least, most = FACTOR_BOUNDS
        return min(max(median((1.0, *self._known(kind))), least), most)

    def error(self, kind: str, error: float) -> float:
        """Share by which predictions of this kind may be wrong; `error` while runs are few.

        Half of the runs were nearer to the factor than their median distance from it; twice that
        is told from SURE_RUNS on, be it less or more than was said before.
        """
        known = self._known(kind)
        if len(known) < SURE_RUNS:
            return error
        factor = self.factor(kind)
        spread = median(abs(ratio / factor - 1) for ratio in known)
        return max(LEAST_ERROR, 2 * spread)

    def runs(self, kind: str) -> int:
        """How many the factor of this kind comes from."""
        return len(self._known(kind))

    def observed(self, ratios: Mapping[str, float]) -> "Calibration":
        """With one more run's ratios, by kind; those that nobody would believe are passed over."""
        kept = dict(self.ratios)
        for kind, ratio in ratios.items():
            if kind in KINDS and _believable(ratio):
                kept[kind] = (*self._known(kind), ratio)[-LAST_RUNS:]
        return Calibration(kept)

    def _known(self, kind: str) -> tuple[float, ...]:
        ratios = self.ratios.get(kind, ())
        return tuple(ratio for ratio in ratios if _believable(ratio))[-LAST_RUNS:]


def _believable(ratio: float) -> bool:
    least, most = RATIO_BOUNDS
    return least <= ratio <= most
