import pytest
import torch

from hybrid.runtime.experts import ExpertWeights
from hybrid.runtime.gpu.expert_stream import ExpertStream
from kernels.dequantize.cases import any_bits
from kernels.errors import KernelInputError
from kernels.formats import BY_NAME
from kernels.planar import to_blocks

devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
EXPERTS, WIDTH, LENGTH = 7, 64, 32
EXPERT_BYTES = LENGTH * (WIDTH // 32 * (34 + 18)) + WIDTH * LENGTH // 32 * 24
EVERYTHING = 1 << 30  # values decoded at once


def layer(seed: int, scale: int = 1) -> ExpertWeights:
    """Formats of gate, up and down differ."""
    shapes = ((LENGTH, WIDTH), (LENGTH, WIDTH), (WIDTH, LENGTH))
    parts = []
    for name, (rows, columns) in zip(("Q8_0", "Q4_0", "Q5_1"), shapes, strict=True):
        made = any_bits(BY_NAME[name], (EXPERTS, scale * rows, columns), seed)
        parts.append(made)
    gate, up, down = parts
    return ExpertWeights(gate, up, down, 3)


def memory(experts: int, device: str = "cpu", scale: int = 1) -> torch.Tensor:
    third = experts * scale * EXPERT_BYTES + 3 * 256
    return torch.empty(3 * third, dtype=torch.uint8, device=device)


def check(stream: ExpertStream, number: int, weights: ExpertWeights) -> int:
    """Every expert comes once, in order; how many groups there were."""
    source = stream.source(number)
    assert source is not None
    assert (source.first, source.count) == (weights.first, weights.count)
    begin = groups = 0
    for group in source.parts[0]():
        assert group.begin == begin
        for name in ("gate", "up", "down"):
            planes = getattr(group, name)
            some = getattr(weights, name)[begin : begin + planes.shape[0]]
            assert torch.equal(to_blocks(planes).blocks.cpu(), some.blocks)
        begin += group.gate.shape[0]
        groups += 1
    assert begin == weights.count
    return groups


@devices
@pytest.mark.parametrize("at_once", [1, 3, 7])
def test_layers_come_in_order_again_and_again(at_once: int, device: str) -> None:
    layers = {number: layer(number) for number in (1, 2, 5)}
    stream = ExpertStream({n: [w] for n, w in layers.items()}, memory(at_once, device), EVERYTHING)
    for _ in range(2):
        for number, weights in layers.items():
            assert check(stream, number, weights) == -(-EXPERTS // at_once)


@devices
def test_a_pass_that_was_given_up_leaves_the_next_one_right(device: str) -> None:
    layers = {0: layer(1), 1: layer(2)}
    stream = ExpertStream({n: [w] for n, w in layers.items()}, memory(2, device), EVERYTHING)
    given_up = stream.source(1)
    assert given_up is not None
    next(given_up.parts[0]())
    for number, weights in layers.items():
        check(stream, number, weights)


@pytest.mark.gpu
def test_copies_that_outrun_the_products_overwrite_nothing() -> None:
    """Large groups, and each layer's planes read only after all of its launches."""
    layers = {number: layer(number, scale=64) for number in range(3)}
    room = memory(2, "cuda", 64)
    stream = ExpertStream({n: [w] for n, w in layers.items()}, room, EVERYTHING)
    for number, weights in layers.items():
        source = stream.source(number)
        assert source is not None
        kept = [(group.begin, group.up.data.clone(), group.up.shape) for group in source.parts[0]()]
        torch.cuda.synchronize()
        for begin, planes, shape in kept:
            up = weights.up[begin : begin + shape[0]]
            # All Q4_0's nibbles stand before its scales, 16 bytes a block, as in the file.
            nibbles = up.blocks.view(-1, 18)[:, 2:].flatten()
            assert torch.equal(planes[: nibbles.numel()].cpu(), nibbles)


def test_groups_are_no_larger_than_what_is_decoded_at_once() -> None:
    weights = layer(1)
    stream = ExpertStream({0: [weights]}, memory(7), 2 * 2 * LENGTH * WIDTH)
    assert check(stream, 0, weights) == 4


def test_gate_and_up_of_one_tensor_come_without_each_other() -> None:
    both = any_bits(BY_NAME["Q8_0"], (EXPERTS, 2 * LENGTH, WIDTH))
    down = any_bits(BY_NAME["Q8_0"], (EXPERTS, WIDTH, LENGTH))
    weights = ExpertWeights(both[:, :LENGTH], both[:, LENGTH:], down, 0)
    check(ExpertStream({0: [weights]}, memory(20), EVERYTHING), 0, weights)


def test_a_layer_without_experts_in_ram_has_no_source() -> None:
    assert ExpertStream({0: [layer(1)]}, memory(7), EVERYTHING).source(4) is None


def test_an_expert_that_does_not_fit_is_refused_with_its_bytes() -> None:
    with pytest.raises(KernelInputError, match="does not fit a buffer"):
        ExpertStream({0: [layer(1)]}, memory(1)[:EXPERT_BYTES], EVERYTHING)
