"""The two feed-forwards of a block: dense, and a mixture of experts, wherever those are.

Shapes: T tokens, D embedding length, F hidden length, K experts a token uses.
"""

from dataclasses import dataclass

from torch import Tensor

from hybrid.models.config import ModelConfig
from hybrid.models.parts import Experts, Linear, Parts, Router
from kernels.expert_ffn import gated
from kernels.router import Gating, GroupScore, RouterRules


@dataclass(frozen=True, slots=True)
class FeedForward:
    """down(silu(gate x) * up x), x [T, D] -> [T, D] through [T, F]."""

    gate: Linear
    up: Linear
    down: Linear

    def __call__(self, x: Tensor) -> Tensor:
        return self.down(gated(self.gate(x), self.up(x)))


@dataclass(frozen=True, slots=True)
class MixtureOfExperts:
    """Σ_k share_k · expert_k(x) + shared(x); the shared expert, where there is one, is not
    weighted.
    """

    router: Router
    experts: Experts
    shared: FeedForward | None

    def __call__(self, x: Tensor) -> Tensor:
        chosen, share = self.router(x)  # both [T, K]
        routed = self.experts(x, chosen, share)
        return routed if self.shared is None else routed + self.shared(x)


def build_feed_forward(
    config: ModelConfig, parts: Parts, layer: int
) -> FeedForward | MixtureOfExperts:
    """Of one trunk layer: dense in the leading ones, experts in the others."""
    if layer < config.dense_layers:
        return _feed_forward(config, parts, f"blk.{layer}.", "", config.feed_forward_length)
    return _mixture(config, parts, layer)


def router_rules(config: ModelConfig) -> RouterRules:
    stated = config.experts
    return RouterRules(
        experts=stated.count,
        used=stated.used,
        gating=Gating(stated.gating),
        groups=stated.groups,
        groups_used=stated.groups_used,
        group_score=GroupScore(stated.group_score),
        normalise=stated.normalise,
        scale=stated.scale,
    )


def _mixture(config: ModelConfig, parts: Parts, layer: int) -> MixtureOfExperts:
    block, width = f"blk.{layer}.", config.embedding_length
    bias = f"{block}exp_probs_b.bias"
    gate = f"{block}ffn_gate_inp.weight"
    shared = None
    if config.experts.shared:
        length = config.shared_feed_forward_length
        shared = _feed_forward(config, parts, block, "_shexp", length)
    return MixtureOfExperts(
        router=parts.router(gate, bias if parts.has(bias) else None, width, router_rules(config)),
        experts=parts.experts(
            layer, config.experts.count, width, config.experts.feed_forward_length
        ),
        shared=shared,
    )


def _feed_forward(
    config: ModelConfig, parts: Parts, block: str, suffix: str, length: int
) -> FeedForward:
    width = config.embedding_length
    return FeedForward(
        gate=parts.linear(f"{block}ffn_gate{suffix}.weight", length, width),
        up=parts.linear(f"{block}ffn_up{suffix}.weight", length, width),
        down=parts.linear(f"{block}ffn_down{suffix}.weight", width, length),
    )
