"""Output norm and head on a GPU: in the graph of a step, by products of few rows for a prompt."""

import torch
from torch import Tensor

from hybrid.runtime.crossing import Place
from hybrid.runtime.gpu.chain import GpuChain
from hybrid.runtime.gpu.step import MOST_TOKENS, Head
from hybrid.runtime.stats import Meter
from kernels.linear.gpu import Product, matvec
from placement.memory.gpu_scratch import HEAD_ROWS


class GpuHead:
    """Output norm and head on the GPU of the last block: of a step they are in its graph."""

    def __init__(self, head: Head, home: Place, meter: Meter) -> None:
        self.head = head
        self.home = home
        self.chain: GpuChain | None = None
        self._meter = meter
        self._step_tokens = 0  # of the last pass, if it was a step

    def __call__(self, h: Tensor, rows: int) -> Tensor:
        """h [T, D] on the GPU -> [rows, vocabulary] of the last rows, in host memory."""
        self._step_tokens = len(h) if len(h) <= MOST_TOKENS else 0
        if self._step_tokens and self.chain is not None:
            return self.chain.logits(len(h), rows)
        if self._meter.ledger is not None and rows:
            with self._meter.on(self.home.name):  # else the wait for all blocks would be the head's
                self.home.wait()
        with self._meter.on(self.home.name, "head"):
            return self._of_prompt(h[len(h) - rows :])

    def _of_prompt(self, x: Tensor) -> Tensor:
        """A few rows at a time leave the GPU, whose memory need not hold a micro-batch of them."""
        vocabulary = self.head.weight.rows
        logits = torch.empty(len(x), vocabulary)
        few = torch.empty(min(len(x), HEAD_ROWS), vocabulary, device=x.device)
        for first in range(0, len(x), HEAD_ROWS):
            end = min(first + HEAD_ROWS, len(x))
            for row in range(first, end, MOST_TOKENS):
                some = x[row : min(row + MOST_TOKENS, end)]
                products = [Product(self.head.weight, few[row - first :][: len(some)])]
                matvec(some, products, len(some), self.head.norm, self.head.epsilon)
            logits[first:end] = few[: end - first]
        return logits

    def greatest(self) -> tuple[int, float] | None:
        if not self._step_tokens or self.chain is None:
            return None
        return self.chain.greatest(self._step_tokens - 1)
