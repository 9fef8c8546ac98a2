"""Router and experts of a decode step on this GPU: python -m tools.bench.gpu_experts [--check]

A replayed graph runs a launch of `route`, or the pair expert_hidden and expert_down, over so many
layers' weights that the GPU's second cache keeps none of them from one replay to the next. Layers
hold random bits: what is computed means nothing, which `pytest -m gpu` checks (--check runs it).

    time us      of a layer
    MB           weights of the experts that the tokens chose, each once, and of the shared ones;
                 or the gate
    GB/s         those over the time; `of copy`: over what a copy reads and writes per second
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch

from kernels.expert_ffn.gpu import Halves, Routed, expert_down, expert_hidden
from kernels.formats import BY_NAME
from kernels.planar import PlanarTensor
from kernels.router import Gating, RouterRules
from kernels.router.gpu import route
from tools.bench.flags import positive
from tools.bench.gpu_time import DEVICE, copy_gb_s, each_us, need_gpu
from tools.bench.table import Cell, show

COLUMNS = ("op", "shape", "tokens", "time us", "MB", "GB/s", "of copy")
READ_BYTES = 600 << 20  # of a replay at least: ten times the largest second cache
TESTS = ("tests/kernels/test_router_gpu.py", "tests/kernels/test_expert_ffn_gpu.py")


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's layer; formats of gate, up and down."""

    rules: RouterRules
    width: int
    rows: int
    shared_rows: int
    routed: tuple[str, str, str]
    shared: tuple[str, str, str]


def _v3(routed: str, down: str, shared: str = "Q4_K", shared_down: str = "Q6_K") -> Shape:
    rules = RouterRules(256, 8, Gating.SIGMOID, groups=8, groups_used=4, normalise=True, scale=2.5)
    formats = (routed, routed, down), (shared, shared, shared_down)
    return Shape(rules, 7168, 2048, 2048, *formats)


SHAPES = {
    "V2-Lite": Shape(
        RouterRules(64, 6, Gating.SOFTMAX), 2048, 1408, 2816, ("IQ4_NL",) * 3, ("Q8_0",) * 3
    ),
    "V3": _v3("Q4_K", "Q4_K", "Q4_K", "Q4_K"),
    "V3 Q6_K down": _v3("Q4_K", "Q6_K"),
    "V3 Q8_0": _v3("Q8_0", "Q8_0", "Q8_0", "Q8_0"),
    "V3 Q2_K": _v3("Q2_K", "Q3_K", "Q2_K", "Q3_K"),
    "V3 IQ4_XS": _v3("IQ4_XS", "IQ4_XS", "IQ4_XS", "IQ4_XS"),
    "V3 IQ3_XXS": _v3("IQ3_XXS", "IQ3_S"),
    "V3 IQ2_XS": _v3("IQ2_XS", "IQ2_S"),
    "V3 IQ2_XXS": _v3("IQ2_XXS", "Q2_K"),
    "V3 IQ1_S": _v3("IQ1_S", "IQ2_XXS"),
}
PHASES = ("hidden", "down", "both")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's weights and what its tokens chose of them."""

    routing: Routed
    routed: Halves
    shared: Halves
    nbytes: dict[str, int]

    def run(self, h: torch.Tensor, norm: torch.Tensor, phase: str) -> None:
        tokens, parts = len(h), (self.routing, self.routed, self.shared)
        if phase != "down":
            expert_hidden(h, tokens, *parts, norm, 1e-6)
        if phase != "hidden":
            expert_down(h, tokens, *parts)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="run the tests on the GPU before")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--tokens", nargs="+", type=positive, default=[1, 2, 4, 8])
    arguments = parser.parse_args(words)
    need_gpu("router and experts")
    if arguments.check and pytest.main(["-q", "-m", "gpu", *TESTS]):
        raise SystemExit("error: the tests fail, so times mean nothing")
    copied = copy_gb_s()
    rows: list[list[Cell]] = []
    for name in arguments.shapes:
        for tokens in arguments.tokens:
            rows += expert_rows(name, tokens, copied)
            rows.append(router_row(name, tokens, copied))
    show(f"experts on a GPU that copies {copied:.0f} GB/s", COLUMNS, rows)


def expert_rows(name: str, tokens: int, copied: float) -> list[list[Cell]]:
    """hidden, down, and the two in turn."""
    shape = SHAPES[name]
    layers = [layer(shape, tokens, 0)]
    while sum(one.nbytes["down"] for one in layers) < READ_BYTES:
        layers.append(layer(shape, tokens, len(layers)))
    h, norm = torch.randn(tokens, shape.width, device=DEVICE), torch.ones(shape.width).to(DEVICE)
    rows = []
    for phase in PHASES:
        us = each_us(lambda one, phase=phase: one.run(h, norm, phase), layers)
        nbytes = sum(one.nbytes[phase] for one in layers) / len(layers)
        rows.append(_row(f"experts, {phase}", name, tokens, us, nbytes, copied))
    return rows


def router_row(name: str, tokens: int, copied: float) -> list[Cell]:
    shape, width = SHAPES[name], SHAPES[name].width
    rules = shape.rules
    gates = [
        planes("F32", (rules.experts, width))
        for _ in range(READ_BYTES // (4 * rules.experts * width))
    ]
    bias = torch.zeros(rules.experts, device=DEVICE)
    h, norm = torch.randn(tokens, width, device=DEVICE), torch.ones(width, device=DEVICE)
    logits = torch.empty(tokens, rules.experts, device=DEVICE)
    counter = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    chosen = torch.empty(tokens, rules.used, dtype=torch.int32, device=DEVICE)
    share = torch.empty(tokens, rules.used, device=DEVICE)

    def run(gate: PlanarTensor) -> None:
        route(h, norm, 1e-6, gate, bias, rules, logits, counter, chosen, share, tokens)

    us = each_us(run, gates)
    return _row("router", name, tokens, us, gates[0].nbytes, copied)


def layer(shape: Shape, tokens: int, seed: int) -> Layer:
    """Room for just the experts that are chosen, at places of their own, as if among all."""
    random = torch.Generator().manual_seed(seed)
    used, experts = shape.rules.used, shape.rules.experts
    names = torch.rand(tokens, experts, generator=random).argsort(-1)[:, :used]
    distinct, chosen = names.unique(return_inverse=True)
    routed = _halves(shape, shape.routed, (len(distinct),), shape.rows, (tokens, used))
    shared = _halves(shape, shape.shared, (), shape.shared_rows, (tokens,))
    routing = Routed(chosen.int().to(DEVICE), torch.ones(tokens, used, device=DEVICE))
    hidden = sum(part.gate.nbytes + (part.up or part.gate).nbytes for part in (routed, shared))
    down = routed.down.nbytes + shared.down.nbytes
    return Layer(routing, routed, shared, {"hidden": hidden, "down": down, "both": hidden + down})


def _halves(
    shape: Shape,
    formats: tuple[str, str, str],
    leading: tuple[int, ...],
    rows: int,
    users: tuple[int, ...],
) -> Halves:
    gate, up = (planes(name, (*leading, rows, shape.width)) for name in formats[:2])
    down = planes(formats[2], (*leading, shape.width, rows))
    return Halves(gate, up, torch.zeros(*users, rows, device=DEVICE), down)


def planes(name: str, shape: tuple[int, ...]) -> PlanarTensor:
    """Random bits."""
    rows = torch.Size(shape[:-1]).numel()
    nbytes = rows * BY_NAME[name].row_bytes(shape[-1])
    data = torch.randint(0, 256, (nbytes,), dtype=torch.uint8, device=DEVICE)
    return PlanarTensor(data, BY_NAME[name], shape, rows)


def _row(op: str, shape: str, tokens: int, us: float, nbytes: float, copied: float) -> list[Cell]:
    gb_s = nbytes / us / 1e3
    return [op, shape, tokens, us, nbytes / 1e6, gb_s, gb_s / copied]


if __name__ == "__main__":
    main()
