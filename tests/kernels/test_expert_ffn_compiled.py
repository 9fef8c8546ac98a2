import pytest

from kernels.formats import FORMATS
from tests.kernels.aot import CAPABILITIES, Capability, cuda_resources

QUANTISED = [known.name for known in FORMATS if known.block_weights > 1]


@pytest.mark.parametrize(
    "capability",
    [(9, 0), *(pytest.param(one, marks=pytest.mark.slow) for one in CAPABILITIES if one != (9, 0))],
)
def test_one_token_of_any_format_needs_no_local_memory(capability: Capability) -> None:
    names = [f"expert_hidden_one<{name}, {name}, Q4_K, Q4_K>" for name in QUANTISED]
    names += [f"expert_down_one<2, {name}, Q6_K>" for name in QUANTISED]
    needs = cuda_resources("expert_ffn/gpu.cu", names, capability)
    assert {name for name, one in needs.items() if one.stack_bytes or one.spill_bytes} == set()


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_experts_need_no_local_memory(capability: Capability) -> None:
    names = [
        "expert_hidden_one<IQ4_NL, IQ4_NL, Q8_0, Q8_0>",
        "expert_hidden_one<Q4_K, Q4_K, Q4_K, Q4_K>",
        "expert_hidden_small<IQ4_NL, IQ4_NL, Q8_0, Q8_0>",
        "expert_hidden_small<Q4_K, Q4_K, Q4_K, Q4_K>",
        "expert_hidden<2, IQ4_NL, IQ4_NL, Q8_0, Q8_0>",
        "expert_hidden<8, Q4_K, Q4_K, Q6_K, Q6_K>",
    ]
    names += ["expert_down_one<1, IQ4_NL, Q8_0>", "expert_down_one<2, Q6_K, Q4_K>"]
    names += ["expert_down<2, 1, IQ4_NL, Q8_0>", "expert_down<8, 2, Q6_K, Q4_K>"]
    needs = cuda_resources("expert_ffn/gpu.cu", names, capability)
    assert {name for name, one in needs.items() if one.stack_bytes or one.spill_bytes} == set()
