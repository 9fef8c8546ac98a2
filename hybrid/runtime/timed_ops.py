"""Blocks and heads as the model built them, their parts charged by the host's clock.

Operations of a real GPU end after they return: there, this is when they were launched.
"""

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Any, cast

import torch
from torch import Tensor

from hybrid.models.deepseek import DeepseekBlock
from hybrid.models.latent import LatentAttention
from hybrid.models.moe import MixtureOfExperts
from hybrid.models.parts import Block, Linear, Router
from hybrid.runtime.stats import Meter


class TimedOp:
    """An op of a block, or a block's half."""

    def __init__(self, op: Callable[..., Any], part: str, meter: Meter, layer: int | None) -> None:
        self._op = op
        self._part = part
        self._meter = meter
        self._layer = layer

    def __call__(self, *given: Any, **options: Any) -> Any:
        ledger = self._meter.ledger
        if ledger is None:
            return self._op(*given, **options)
        began = perf_counter()
        with self._meter.part(self._part):
            result = self._op(*given, **options)
        spent = perf_counter() - began
        if self._layer is not None and self._part == "attention":
            ledger.attention_s[self._layer] = spent
        if self._layer is not None and self._part == "experts":
            ledger.experts_s[self._layer] = spent
        return result


class CountedRouter:
    """A router whose choices are counted, where they are in RAM: a GPU would have to be waited for.

    usage   of each expert
    """

    def __init__(self, router: Router, experts: int, meter: Meter) -> None:
        self._router = router
        self._meter = meter
        self.usage = torch.zeros(experts, dtype=torch.int64)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        chosen, share = self._router(x)
        if self._meter.counts and not chosen.is_cuda:
            self.usage += torch.bincount(chosen.flatten(), minlength=len(self.usage))
        return chosen, share


class TimedBlocks:
    """The blocks of one engine that stay as they were built.

    experts   routed ones of a block
    """

    def __init__(self, meter: Meter, experts: int) -> None:
        self._meter = meter
        self._experts = experts
        self._routers: dict[int, CountedRouter] = {}

    def block(self, layer: int, block: Block) -> Block:
        """The same with attention and feed-forward told apart, where it has them."""
        if not isinstance(block, DeepseekBlock):
            return block
        feed, part = block.feed_forward, "dense"
        if isinstance(feed, MixtureOfExperts):
            router = CountedRouter(feed.router, self._experts, self._meter)
            self._routers[layer] = router
            feed, part = replace(feed, router=router), "experts"
        attention = TimedOp(block.attention, "attention", self._meter, layer)
        return replace(
            block,
            attention=cast(LatentAttention, attention),
            feed_forward=TimedOp(feed, part, self._meter, layer),
        )

    def head(self, head: Linear) -> Linear:
        return TimedOp(head, "head", self._meter, None)

    def usage(self) -> dict[int, list[int]]:
        """How often experts of these blocks were chosen while somebody listened: all tokens."""
        return {
            layer: router.usage.tolist()
            for layer, router in self._routers.items()
            if router.usage.any()
        }
