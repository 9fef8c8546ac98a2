"""Rows of `rms_norm`, `rope` and `router`: one thread, memory that stays in the caches."""

import ctypes
from collections.abc import Iterator
from functools import partial

import torch

from kernels.native.library import library
from kernels.rms_norm import reference as rms_norm_reference
from kernels.rope import frequencies, rotation
from kernels.rope import reference as rope_reference
from kernels.router import Gating, RouterRules
from kernels.router import reference as router_reference
from kernels.testing import compare
from tools.bench.kernel_rows.measure import TIERS, Contender, Group, Setup, Work, chain
from tools.bench.kernel_rows.memory import RamMemory
from tools.bench.kernel_rows.shapes import ModelShape

EPSILON = 1e-6
POSITION = 4096


def rms_norm_groups(setup: Setup) -> Iterator[Group]:
    for shape in setup.shapes.values():
        for width in dict.fromkeys((shape.width, shape.latent)):
            make = partial(_rms_norm_contenders, setup, width)
            yield Group("rms_norm", "F32", f"{width}", 0, make)


def rope_groups(setup: Setup) -> Iterator[Group]:
    for shape in setup.shapes.values():
        make = partial(_rope_contenders, setup, shape)
        yield Group("rope", "F32", f"{shape.heads} heads of {shape.rope}", 0, make)


def router_groups(setup: Setup) -> Iterator[Group]:
    for shape in setup.shapes.values():
        rules = rules_of(shape)
        text = f"{rules.used} of {rules.experts}, {rules.gating.value}, {rules.groups} groups"
        yield Group("router", "F32", text, 0, partial(_router_contenders, setup, rules))


def rules_of(shape: ModelShape) -> RouterRules:
    """V3's rules where queries have a latent, as they do there; else V2-Lite's."""
    if not shape.query_latent:
        return RouterRules(shape.experts, shape.used, Gating.SOFTMAX)
    grouped = {"groups": 8, "groups_used": 4, "normalise": True, "scale": 2.5}
    return RouterRules(shape.experts, shape.used, Gating.SIGMOID, **grouped)


def _rms_norm_contenders(setup: Setup, width: int, _memory: RamMemory) -> Iterator[Contender]:
    for tokens in setup.tokens:
        x, weight = torch.randn(tokens, width), torch.rand(width)
        for tier in setup.tiers:
            yield _rms_norm(x, weight, tier)


def _rms_norm(x: torch.Tensor, weight: torch.Tensor, tier: str) -> Contender:
    out, (tokens, width) = torch.empty_like(x), x.shape
    call = partial(
        library().hybrid_rms_norm,
        *(TIERS[tier], x.data_ptr(), weight.data_ptr(), tokens, width, EPSILON, out.data_ptr()),
    )

    def error() -> float:
        call()
        expected = rms_norm_reference.rms_norm(x.double(), weight.double(), EPSILON)
        return compare(out, expected).relative_error

    return Contender(Work(tier, "-", tokens, 1), chain([call]), error, keeps=(x, weight, out))


def _rope_contenders(setup: Setup, shape: ModelShape, _memory: RamMemory) -> Iterator[Contender]:
    for tokens in setup.tokens:
        for tier in setup.tiers:
            yield _rope(tokens, shape, tier)


def _rope(tokens: int, shape: ModelShape, tier: str) -> Contender:
    heads, length = shape.heads, shape.rope
    x = torch.randn(tokens, heads, length)
    positions, frequency = torch.arange(POSITION, POSITION + tokens), frequencies(length, 1e4)
    cos, sin = rotation(positions, frequency, 1.0)
    turned = x.clone()
    call = partial(
        library().hybrid_rotate,
        *(TIERS[tier], turned.data_ptr(), tokens, heads, length, cos.data_ptr(), sin.data_ptr()),
    )

    def error() -> float:
        turned.copy_(x)
        call()
        expected = rope_reference.rope(x, positions, frequency, 1.0)
        return compare(turned, expected).relative_error

    return Contender(Work(tier, "-", tokens, 1), chain([call]), error, keeps=(turned, cos, sin))


def _router_contenders(setup: Setup, rules: RouterRules, _memory: RamMemory) -> Iterator[Contender]:
    """One for all tiers: the router has scalar code only."""
    for tokens in setup.tokens:
        yield _router(tokens, rules)


def _router(tokens: int, rules: RouterRules) -> Contender:
    logits, bias = torch.randn(tokens, rules.experts), torch.randn(rules.experts) * 0.1
    chosen = torch.empty(tokens, rules.used, dtype=torch.int32)
    share = torch.empty(tokens, rules.used)
    scratch = torch.empty(library().hybrid_router_scratch(rules.experts, rules.groups))
    counts = (ctypes.c_int32 * 4)(rules.experts, rules.used, rules.groups, rules.groups_used)
    ways = (ctypes.c_int32 * 3)(rules.gating is Gating.SIGMOID, 0, rules.normalise)
    call = partial(
        library().hybrid_choose_experts,
        *(ctypes.addressof(counts), ctypes.addressof(ways), rules.scale, logits.data_ptr()),
        *(bias.data_ptr(), tokens, scratch.data_ptr(), chosen.data_ptr(), share.data_ptr()),
    )

    def error() -> float:
        """Of the shares; where a choice differs, 1."""
        call()
        wanted, expected = router_reference.choose_experts(logits, bias, rules)
        return compare(share, expected).relative_error if chosen.equal(wanted.int()) else 1.0

    kept = (counts, ways, logits, bias, scratch, chosen, share)
    return Contender(Work("scalar", "-", tokens, 1), chain([call]), error, keeps=kept)
