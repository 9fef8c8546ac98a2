"""Contract: the routed experts' feed-forward, weighted and summed."""

from torch import Tensor

from kernels.blocks import BlockTensor


def expert_ffn(
    x: Tensor,
    gate: BlockTensor,
    up: BlockTensor,
    down: BlockTensor,
    chosen: Tensor,
    share: Tensor,
    first_expert: int = 0,
) -> Tensor:
    """Σ_k share[t, k] · down_e( silu(gate_e x[t]) * up_e x[t] ), e = chosen[t, k], over the experts held here.

    x             [tokens, width] float32
    gate, up      [experts, feed_forward, width] blocks
    down          [experts, width, feed_forward] blocks
    chosen        [tokens, k] int64, model-wide expert numbers; those outside first_expert .. first_expert+experts-1
                  add nothing (another device holds them)
    share         [tokens, k] float32, used as given
    first_expert  number of the first expert held here
    returns       [tokens, width] float32, a new tensor

    Each expert's weights are decoded once per call, for all its tokens. float32 sums.
    Raises KernelInputError when shapes, dtypes or devices do not fit.
    """
    raise AssertionError("written by the model's author")


def gate_up(x: Tensor, gate: BlockTensor) -> Tensor:
    raise AssertionError("written by the model's author")
