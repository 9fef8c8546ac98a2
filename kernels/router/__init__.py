"""Contract: which experts a token goes to, and with what share."""

import torch
from torch import Tensor

from kernels.choice import choose
from kernels.errors import KernelInputError
from kernels.router import cpu, gpu, reference
from kernels.router.rules import Gating, GroupScore, RouterRules

__all__ = ["IMPLEMENTATIONS", "Gating", "GroupScore", "RouterRules", "choose_experts"]

IMPLEMENTATIONS = {
    "native": cpu.choose_experts,
    "cuda": gpu.choose_experts,
    "reference": reference.choose_experts,
}


def choose_experts(
    logits: Tensor,
    bias: Tensor | None,
    rules: RouterRules,
    *,
    implementation: str | None = None,
) -> tuple[Tensor, Tensor]:
    """probability = gating(logits); chosen = best `used` of probability + bias within the best
    groups; share = probability of the chosen, unbiased, normalised and scaled as `rules` say.

    logits           [tokens, experts] float32
    bias             [experts] float32 or None: takes part in the choice only
    implementation   a name of IMPLEMENTATIONS; None: "native" on the CPU, else "reference"
    returns          chosen [tokens, used] int64, best first; share [tokens, used] float32

    "cuda" has room for 512 experts, 64 groups and 16 used ones.
    Equal scores go to the lower expert number, so that every device chooses alike.
    Raises KernelInputError when shapes, dtypes or devices do not fit.
    Source: DeepSeek-V2 report section 2.2, DeepSeek-V3 report section 2.1.2; deepseek2 of
    llama.cpp.
    """
    if logits.dtype != torch.float32 or logits.ndim != 2 or logits.shape[1] != rules.experts:
        raise KernelInputError(
            f"logits must be float32 [tokens, {rules.experts}], "
            f"not {logits.dtype} {tuple(logits.shape)}"
        )
    if bias is not None and (bias.dtype != torch.float32 or bias.shape != logits.shape[1:]):
        raise KernelInputError(
            f"bias must be float32 [{rules.experts}], not {bias.dtype} {tuple(bias.shape)}"
        )
    if bias is not None and bias.device != logits.device:
        raise KernelInputError(f"logits are on {logits.device}, bias on {bias.device}")
    return choose(IMPLEMENTATIONS, implementation, logits.device)(logits, bias, rules)
