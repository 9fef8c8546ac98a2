"""The router's CUDA kernel: emulated on CPU tensors, and on a GPU where there is one."""

import pytest
import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize
from kernels.dequantize.cases import like_weights
from kernels.errors import KernelInputError
from kernels.formats import BY_NAME
from kernels.mailbox import LINE_BYTES, Mailbox
from kernels.planar import to_planar
from kernels.router import Gating, RouterRules, cases, gpu, reference
from kernels.router.gpu import route
from kernels.testing import assert_close
from tests.kernels.aot import CAPABILITIES, Capability, cuda_resources

EPSILON = 1e-6
on_both = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


class Step:
    """Inputs of one routing and room for its results."""

    def __init__(
        self, rules: RouterRules, tokens: int, width: int, device: str, gate: str = "F32"
    ) -> None:
        random = torch.Generator().manual_seed(11)
        self.rules, self.tokens = rules, tokens
        self.h = (torch.randn(tokens, width, generator=random) * 3).to(device)
        self.norm = torch.empty(width).uniform_(0.5, 1.5, generator=random).to(device)
        self.bias = (torch.randn(rules.experts, generator=random) * 0.3).to(device)
        blocks = like_weights(BY_NAME[gate], (rules.experts, width), seed=12)
        self.gate = BlockTensor(blocks.blocks.to(device), blocks.format, width)
        self.logits = torch.empty(tokens, rules.experts, device=device)
        self.counter = torch.zeros(1, dtype=torch.int32, device=device)
        self.chosen = torch.full((tokens, rules.used), -1, dtype=torch.int32, device=device)
        self.share = torch.empty(tokens, rules.used, device=device)

    def run(self, bias: bool = True, publish: Mailbox | None = None) -> None:
        route(
            self.h,
            self.norm,
            EPSILON,
            to_planar(self.gate),
            self.bias if bias else None,
            self.rules,
            self.logits,
            self.counter,
            self.chosen,
            self.share,
            self.tokens,
            publish,
        )

    def normed(self) -> Tensor:
        h = self.h.double()
        return h / (h.square().mean(-1, keepdim=True) + EPSILON).sqrt() * self.norm.double()

    def exact_logits(self) -> Tensor:
        weight = dequantize(self.gate, implementation="reference").double()
        return self.normed() @ weight.T

    def check(self, bias: bool = True) -> None:
        assert_close(self.logits, self.exact_logits(), 1e-6)
        chosen, share = reference.choose_experts(
            self.logits, self.bias if bias else None, self.rules
        )
        assert torch.equal(self.chosen.long(), chosen)
        assert_close(self.share, share, cases.RELATIVE_ERROR)
        assert self.counter.item() == 0


@on_both
@pytest.mark.parametrize("with_bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("tokens", [1, 3, 8])
@pytest.mark.parametrize("rules", cases.SMALL.values(), ids=cases.SMALL)
def test_router_agrees_with_the_reference(
    rules: RouterRules, tokens: int, with_bias: bool, device: str
) -> None:
    step = Step(rules, tokens, 35, device)
    step.run(with_bias)
    step.check(with_bias)


@on_both
def test_a_second_launch_finds_the_counter_as_the_first_did(device: str) -> None:
    step = Step(cases.SMALL["sigmoid, groups"], 2, 64, device)
    step.run()
    first = step.chosen.clone(), step.share.clone()
    step.chosen.fill_(-1)
    step.share.fill_(torch.nan)
    step.run()
    step.check()
    assert torch.equal(step.chosen, first[0])
    assert torch.equal(step.share, first[1])


@on_both
@pytest.mark.parametrize("gate", ["F32", "BF16", "Q8_0", "Q2_K"])
def test_gates_of_any_format_are_decoded_exactly(gate: str, device: str) -> None:
    step = Step(cases.SMALL["softmax"], 2, 512, device, gate)
    step.run()
    step.check()


@on_both
@pytest.mark.parametrize(("name", "rows"), [("V2-Lite", 1), ("V3", 2), ("Kimi-K2", 4)])
def test_a_block_may_have_several_experts(name: str, rows: int, device: str) -> None:
    step = Step(cases.REAL[name], 2, 40, device)
    assert gpu.rows_per_block(to_planar(step.gate)) == rows
    step.run()
    step.check()


@on_both
def test_equal_experts_are_taken_by_rising_number(device: str) -> None:
    step = Step(RouterRules(300, 16, Gating.SOFTMAX), 3, 32, device)
    step.gate.blocks[:] = step.gate.blocks[0]
    step.run(bias=False)
    assert step.chosen.tolist() == [list(range(16))] * 3


@on_both
def test_rows_behind_the_tokens_are_left_alone(device: str) -> None:
    step = Step(cases.SMALL["softmax"], 4, 24, device)
    step.tokens = 3
    step.run()
    assert step.chosen[3].tolist() == [-1] * 3
    assert step.chosen[:3].min() >= 0
    assert step.share[3].isnan().all()


@on_both
def test_what_was_chosen_is_posted_with_the_normed_activations(device: str) -> None:
    step = Step(cases.SMALL["sigmoid, groups"], 3, 64, device)
    memory = torch.empty(Mailbox.nbytes(4, 64, 8) + LINE_BYTES, dtype=torch.uint8)
    memory = memory.pin_memory() if device == "cuda" else memory
    memory = memory[-memory.data_ptr() % LINE_BYTES :]
    state = torch.zeros(2, dtype=torch.int32, device=device)
    mailbox = Mailbox(memory, state, tokens=4, width=64, used=8, limit_s=1.0)
    for crossing in (1, 2):
        step.run(publish=mailbox)
        step.check()
        assert mailbox.state.tolist() == [crossing, 0]
        assert mailbox.posted.tolist() == [crossing]
        assert set(mailbox.choice[:3, :, 1::2].flatten().tolist()) == {crossing}
        assert set(mailbox.choice[3:, :, 1::2].flatten().tolist()) == {0}
        assert torch.equal(mailbox.chosen[:3], step.chosen.cpu())
        assert torch.equal(mailbox.share[:3], step.share.cpu())
        assert_close(mailbox.x[:3], step.normed().cpu(), 1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("tokens", [1, 8])
@pytest.mark.parametrize("name", cases.REAL)
def test_models_route_on_a_gpu_as_in_float64(name: str, tokens: int) -> None:
    width = 2048 if name == "V2-Lite" else 7168
    step = Step(cases.REAL[name], tokens, width, "cuda")
    step.run()
    step.check()


@pytest.mark.parametrize(
    "rules",
    [
        RouterRules(513, 2, Gating.SOFTMAX),
        RouterRules(64, 17, Gating.SOFTMAX),
        RouterRules(130, 2, Gating.SOFTMAX, groups=65, groups_used=5),
    ],
)
def test_router_refuses_more_than_it_has_room_for(rules: RouterRules) -> None:
    with pytest.raises(KernelInputError, match="there is room for"):
        Step(rules, 1, 8, "cpu").run()


def test_router_refuses_what_does_not_fit() -> None:
    step = Step(cases.SMALL["softmax"], 9, 8, "cpu")
    with pytest.raises(KernelInputError, match="9 tokens"):
        step.run()
    step = Step(cases.SMALL["softmax"], 1, 8, "cpu")
    step.h = torch.zeros(1, 9)
    with pytest.raises(KernelInputError, match="does not fit"):
        step.run()


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_router_needs_no_local_memory(capability: Capability) -> None:
    names = ["choose<32>", "route<1, 2, true, F32>", "route<8, 4, true, F32>"]
    needs = cuda_resources("router/gpu.cu", names, capability)
    assert {name for name, one in needs.items() if one.stack_bytes or one.spill_bytes} == set()
    assert max(one.static_shared_bytes for one in needs.values()) <= 48 << 10
