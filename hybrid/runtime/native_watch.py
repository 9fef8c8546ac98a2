"""What blocks that run as one native call tell of their passes: times and chosen experts."""

from collections.abc import Sequence

import numpy as np

from hybrid.runtime.ledger import Ledger
from kernels.latent_block import Watched
from placement.machines.machine import CPU


class ChainWatch:
    """Of one chain.

    first     number of its first block in the model
    experts   routed experts of each block, 0: it is dense
    watched   what the native call fills
    """

    def __init__(self, first: int, experts: Sequence[int]) -> None:
        self._first, self._experts = first, experts
        self._routed = np.array(experts) > 0
        self.watched = Watched(len(experts), max(*experts, 1))

    def tell(self, ledger: Ledger) -> None:
        """The parts of the pass that is done: a feed-forward with its router and shared experts is
        one part, experts or dense; waits for workers are where they wait.
        """
        spent = np.diff(self.watched.marks.numpy()) * 1e-9
        attention_s, fed_s = spent[0::2], spent[1::2]
        parts = {
            "attention": float(attention_s.sum()),
            "experts": float(fed_s[self._routed].sum()),
            "dense": float(fed_s[~self._routed].sum()),
        }
        ledger.divide(CPU, parts)
        experts_s = np.where(self._routed, fed_s, np.nan)
        ledger.layers(self._first, attention_s.tolist(), experts_s.tolist())

    def usage(self) -> dict[int, list[int]]:
        rows = self.watched.usage.tolist()
        return {
            self._first + number: row[:count]
            for number, (row, count) in enumerate(zip(rows, self._experts, strict=True))
            if count
        }
