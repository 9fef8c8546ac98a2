"""The experts' CUDA kernels: emulated on CPU tensors, and on a GPU where there is one."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize
from kernels.dequantize.cases import like_weights
from kernels.errors import KernelInputError
from kernels.expert_ffn import cases, gpu
from kernels.expert_ffn.gpu import Halves, Routed, expert_down, expert_hidden
from kernels.formats import BY_NAME
from kernels.planar import to_planar
from kernels.quantize.reference import round_half_away
from kernels.testing import assert_close

EPSILON = 1e-6
PLAIN = ("F32", "F16", "BF16")
on_both = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
Formats = tuple[str, str, str]  # of gate, up and down


@dataclass(frozen=True)
class Case:
    """`used` of `experts` a token, of which those from first to first + count - 1 are here."""

    tokens: int
    width: int
    routed: Formats | None
    shared: Formats | None
    rows: int = 32  # of a routed expert's gate
    shared_rows: int = 64
    experts: int = 5
    used: int = 2
    first: int = 0
    count: int = 5


FLOATS: Formats = ("F32", "F32", "F32")
SMALL = Case(
    tokens=3, width=64, routed=("IQ4_NL", "IQ4_NL", "Q5_0"), shared=("Q8_0", "Q8_0", "Q8_0")
)
CASES = {
    "floats of odd sizes": Case(3, 35, FLOATS, ("F16", "BF16", "F32"), rows=7, shared_rows=45),
    "blocks": SMALL,
    "rows in halves of 32": replace(SMALL, rows=96, shared_rows=32),
    "experts elsewhere": replace(SMALL, first=1, count=2),
    "no expert here": replace(SMALL, first=9, count=2),
    "dense layer": replace(SMALL, routed=None),
    "no shared experts": replace(SMALL, shared=None),
    "floats beside blocks": Case(2, 64, ("F32", "Q8_0", "Q4_0"), ("Q5_1", "F16", "BF16")),
    "blocks of 256": Case(
        2, 512, ("Q4_K", "Q6_K", "Q3_K"), ("Q2_K", "IQ4_XS", "Q5_K"), rows=256, shared_rows=256
    ),
    "codebooks": Case(
        2, 512, ("IQ2_XXS", "IQ3_S", "IQ1_M"), ("IQ2_S",) * 3, rows=256, shared_rows=256
    ),
    "one codebook for all": Case(2, 256, ("IQ3_XXS",) * 3, ("IQ3_XXS",) * 3, 256, 256),
}
CASES |= {f"{name} of one token": replace(case, tokens=1) for name, case in CASES.items()}
CASES["eight tokens"] = replace(SMALL, tokens=8)


class Layer:
    """Weights, inputs and room of one case."""

    def __init__(self, case: Case, device: str) -> None:
        random = torch.Generator().manual_seed(21)
        self.case, self.device = case, device
        self.h = torch.randn(case.tokens, case.width, generator=random).to(device)
        self.norm: Tensor | None = torch.empty(case.width).uniform_(0.5, 1.5, generator=random)
        self.norm = self.norm.to(device)
        chosen = torch.rand(case.tokens, case.experts, generator=random).argsort(-1)
        share = torch.rand(case.tokens, case.used, generator=random)
        self.chosen = chosen[:, : case.used].int().contiguous().to(device)
        self.share = share.to(device)
        self.routed = self._part(case.routed, (case.count,), case.rows, 1)
        self.shared = self._part(case.shared, (), case.shared_rows, 4)

    def _part(
        self, formats: Formats | None, leading: tuple[int, ...], rows: int, seed: int
    ) -> tuple[BlockTensor, BlockTensor, BlockTensor] | None:
        if formats is None:
            return None
        width = self.case.width
        shapes = [(*leading, rows, width)] * 2 + [(*leading, width, rows)]
        gate, up, down = (
            _on(like_weights(BY_NAME[name], shape, seed + n), self.device)
            for n, (name, shape) in enumerate(zip(formats, shapes, strict=True))
        )
        return gate, up, down

    def routing(self) -> Routed | None:
        return Routed(self.chosen, self.share, self.case.first) if self.routed else None

    def halves(self) -> tuple[Halves | None, Halves | None]:
        """Both parts with fresh room for hidden, which is NaN."""
        case, parts = self.case, []
        for weights, users in (
            (self.routed, (case.tokens, case.used)),
            (self.shared, (case.tokens,)),
        ):
            if weights is None:
                parts.append(None)
                continue
            gate, up, down = map(to_planar, weights)
            hidden = torch.full((*users, gate.shape[-2]), torch.nan, device=self.device)
            parts.append(Halves(gate, up, hidden, down))
        return parts[0], parts[1]

    def run(self, halves: tuple[Halves | None, Halves | None] | None = None) -> Tensor:
        """h with everything added."""
        out, tokens, routing = self.h.clone(), self.case.tokens, self.routing()
        routed, shared = halves or self.halves()
        expert_hidden(out, tokens, routing, routed, shared, self.norm, EPSILON)
        expert_down(out, tokens, routing, routed, shared)
        return out

    def normed(self) -> Tensor:
        if self.norm is None:
            return self.h
        factor = (self.h.square().mean(-1, keepdim=True) + EPSILON).rsqrt()
        return self.h * factor * self.norm

    def expected(self) -> Tensor:
        """The same in float64, rounded where the kernels round."""
        x, out = self.normed(), self.h.double()
        for t in range(self.case.tokens):
            if self.shared:
                out[t] += feed_forward(x[t], *self.shared)
            for slot in range(self.case.used):
                e = int(self.chosen[t, slot]) - self.case.first
                if self.routed and 0 <= e < self.case.count:
                    y = feed_forward(x[t], *(weight[e] for weight in self.routed))
                    out[t] += float(self.share[t, slot]) * y
        return out


def feed_forward(x: Tensor, gate: BlockTensor, up: BlockTensor, down: BlockTensor) -> Tensor:
    return times(down, hidden_of(x, gate, up).float())


def hidden_of(x: Tensor, gate: BlockTensor, up: BlockTensor) -> Tensor:
    return torch.nn.functional.silu(times(gate, x)) * times(up, x)


def times(weight: BlockTensor, x: Tensor) -> Tensor:
    taken = x.double() if weight.format.name in PLAIN else rounded(x)
    return dequantize(weight, implementation="reference").double() @ taken


def rounded(x: Tensor) -> Tensor:
    """x [columns] float32 -> float64: whole multiples of the largest of 32 over 127."""
    groups = x.view(-1, 32)
    d = groups.abs().amax(-1, keepdim=True) / 127
    inverse = torch.where(d == 0, 0.0, 1 / d)
    return (round_half_away(groups * inverse).double() * d.double()).view(-1)


def _on(weight: BlockTensor, device: str) -> BlockTensor:
    return BlockTensor(weight.blocks.to(device), weight.format, weight.columns)


def added(layer: Layer, out: Tensor) -> Tensor:
    return out.double() - layer.h.double()


@on_both
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_experts_agree_with_float64_rounded_alike(case: Case, device: str) -> None:
    layer = Layer(case, device)
    plain = {*(case.routed or ()), *(case.shared or ())} <= set(PLAIN)
    allowed = 4 * cases.RELATIVE_ERROR if plain else cases.ROUNDED_AGAIN
    assert_close(added(layer, layer.run()), added(layer, layer.expected()), allowed)


@on_both
@pytest.mark.parametrize("gate", ["Q8_0", "Q4_K"])
def test_activations_are_rounded_as_ggml_does(gate: str, device: str) -> None:
    layer = Layer(Case(2, 256, (gate, gate, "F32"), None, rows=5, shared_rows=0), device)
    layer.norm = None
    routed, _ = layer.halves()
    assert routed
    assert layer.routed
    expert_hidden(layer.h, 2, layer.routing(), routed, None)
    expected = [
        [hidden_of(layer.h[t], layer.routed[0][e], layer.routed[1][e]) for e in layer.chosen[t]]
        for t in range(2)
    ]
    assert_close(routed.hidden, torch.stack([torch.stack(slots) for slots in expected]), 2e-6)


@on_both
def test_an_expert_named_twice_by_a_token_counts_twice(device: str) -> None:
    layer = Layer(replace(SMALL, used=3, shared=None), device)
    layer.chosen[:] = torch.tensor([[2, 2, 0], [1, 3, 1], [2, 0, 2]], dtype=torch.int32)
    assert_close(added(layer, layer.run()), added(layer, layer.expected()), cases.ROUNDED_AGAIN)


@on_both
def test_an_expert_named_twice_by_the_only_token_counts_twice(device: str) -> None:
    layer = Layer(replace(SMALL, tokens=1, used=4, first=1, count=4, shared=None), device)
    layer.chosen[:] = torch.tensor([[2, 0, 2, 3]], dtype=torch.int32)
    assert_close(added(layer, layer.run()), added(layer, layer.expected()), cases.ROUNDED_AGAIN)


@on_both
def test_two_launches_give_the_same_bits(device: str) -> None:
    layer = Layer(CASES["eight tokens"], device)
    assert torch.equal(layer.run(), layer.run())


@on_both
def test_halves_of_one_tensor_are_gate_and_up(device: str) -> None:
    layer = Layer(
        replace(SMALL, routed=("Q4_0", "Q4_0", "Q4_0"), shared=("Q4_0", "Q4_0", "Q4_0")), device
    )
    apart, joined = layer.halves(), []
    for weights, part in zip((layer.routed, layer.shared), apart, strict=True):
        assert weights
        assert part
        both = torch.cat((weights[0].blocks, weights[1].blocks), dim=-2)
        gate = to_planar(BlockTensor(both, weights[0].format, weights[0].columns))
        joined.append(replace(part, gate=gate, up=None))
    assert torch.equal(layer.run((joined[0], joined[1])), layer.run(apart))


@on_both
def test_a_range_of_experts_is_cut_out_of_all_of_them(device: str) -> None:
    layer = Layer(SMALL, device)
    routed, shared = layer.halves()
    assert routed
    parts = [
        replace(
            routed, **{name: getattr(routed, name)[begin:end] for name in ("gate", "up", "down")}
        )
        for begin, end in ((0, 2), (2, 5))
    ]
    out = layer.h.clone()
    x = layer.normed().clone()
    for first, part, also in ((0, parts[0], shared), (2, parts[1], None)):
        routing = Routed(layer.chosen, layer.share, first)
        expert_hidden(x, 3, routing, part, also)
        expert_down(out, 3, routing, part, also)
    assert_close(added(layer, out), added(layer, layer.run()), cases.ROUNDED_AGAIN)


@on_both
def test_experts_nobody_chose_are_not_read(device: str) -> None:
    layer = Layer(replace(SMALL, routed=FLOATS, shared=None), device)
    layer.chosen[layer.chosen == 4] = 9
    assert layer.routed
    for weight in layer.routed:
        weight.blocks[4] = 255  # NaN as float32
    assert layer.run().isfinite().all()


@on_both
def test_rows_behind_the_tokens_are_left_alone(device: str) -> None:
    layer = Layer(SMALL, device)
    out, routing = layer.h.clone(), layer.routing()
    routed, shared = layer.halves()
    expert_hidden(out, 2, routing, routed, shared, layer.norm, EPSILON)
    expert_down(out, 2, routing, routed, shared)
    assert torch.equal(out[2], layer.h[2])
    assert torch.equal(out[:2], layer.run()[:2])


def test_wide_floats_take_more_passes_than_one() -> None:
    assert gpu.users_at_once(("F32",) * 4, 7168, 8) == 2
    assert gpu.users_at_once(("F32", "Q8_0", "F32", "F32"), 7168, 8) == 2
    assert gpu.users_at_once(("Q4_K",) * 4, 7168, 8) == 8
    layer = Layer(Case(3, 7168, None, FLOATS, shared_rows=3), "cpu")
    assert_close(
        added(layer, layer.run()), added(layer, layer.expected()), 4 * cases.RELATIVE_ERROR
    )


@pytest.mark.gpu
@pytest.mark.parametrize("tokens", [1, 2, 5, 8])
@pytest.mark.parametrize(
    "case",
    [
        Case(1, 2048, ("IQ4_NL",) * 3, ("Q8_0",) * 3, 1408, 2816, experts=12, used=6, count=12),
        Case(1, 7168, ("Q4_K", "Q4_K", "Q6_K"), ("Q8_0",) * 3, 2048, 2048, 9, 8, count=9),
    ],
    ids=["V2-Lite", "V3"],
)
def test_layers_of_models_agree_with_float64(case: Case, tokens: int) -> None:
    layer = Layer(replace(case, tokens=tokens), "cuda")
    assert_close(added(layer, layer.run()), added(layer, layer.expected()), cases.ROUNDED_AGAIN)


def test_experts_refuse_what_does_not_fit() -> None:
    layer = Layer(SMALL, "cpu")
    routed, shared = layer.halves()
    routing = layer.routing()
    assert routed
    assert routing
    for change in (
        {"tokens": 0},
        {"tokens": 9},
        {"routing": None},
        {"routed": None, "shared": None, "routing": None},
        {"routed": None},
        {"x": layer.h.double()},
        {"x": torch.zeros(3, 32)},
        {"routing": replace(routing, chosen=layer.chosen.long())},
        {"routing": replace(routing, chosen=layer.chosen[:, :1])},
        {"routed": replace(routed, hidden=torch.zeros(3, 2, 31))},
        {"routed": replace(routed, up=routed.gate[:2])},
        {"routed": replace(routed, down=routed.gate)},
    ):
        given = {"x": layer.h, "tokens": 3, "routing": routing, "routed": routed, "shared": shared}
        with pytest.raises(KernelInputError):
            expert_hidden(**given | change)
    with pytest.raises(KernelInputError, match="does not fit h"):
        expert_down(torch.zeros(3, 32), 3, routing, routed, shared)
