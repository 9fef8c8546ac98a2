"""The kernels of `kernels/step/gpu.cu`, emulated on the CPU and on a GPU where there is one."""

import pytest
import torch

from kernels.step import Greatest, argmax, argmax_scratch, begin_step, cases, step_input
from kernels.testing import assert_same_bits


@pytest.fixture
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


everywhere = pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True
)


def some(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def greatest(tokens, device="cpu", *, pinned=False):
    index = torch.full((tokens,), -1, dtype=torch.int32, device=device)
    value = torch.full((tokens,), torch.nan, device=device)
    return Greatest(*(t.pin_memory() if pinned else t for t in (index, value)))


def filled_input(tokens, width, device):
    source = step_input(tokens, width, torch.device("cpu"), pinned=device.type == "cuda")
    source.hidden.copy_(some(tokens, width))
    source.positions.copy_(torch.arange(tokens) + 163_832)
    source.rows.copy_(torch.arange(tokens) + (1 << 33))
    source.seen.copy_(torch.arange(tokens) * 7 + 1)
    return source


@everywhere
@pytest.mark.parametrize(("tokens", "width"), cases.INPUTS)
def test_a_step_begins_with_what_the_host_wrote(tokens, width, device):
    source, target = filled_input(tokens, width, device), step_input(tokens, width, device)
    begin_step(source, target, implementation="gpu")
    for name, given, taken in source.pairs(target):
        assert torch.equal(given, taken.cpu()), name


@everywhere
@pytest.mark.parametrize(("tokens", "vocabulary"), cases.LOGITS)
def test_the_greatest_logit_is_found_and_told_to_the_host(tokens, vocabulary, device):
    logits = some(tokens, vocabulary)
    if vocabulary > 3:
        logits[-1, vocabulary // 2 :: 3] = 9.0  # equals, in several blocks
        logits[0, 0] = torch.nan
    expected, host = greatest(tokens), greatest(tokens, pinned=device.type == "cuda")
    scratch = argmax_scratch(tokens, vocabulary, torch.device("cpu"))
    argmax(logits, expected, scratch, implementation="reference")
    found, scratch = greatest(tokens, device), argmax_scratch(tokens, vocabulary, device)
    argmax(logits.to(device), found, scratch, host, implementation="gpu")
    assert not scratch.counters.cpu().any()  # also waits
    for place in (found, host):
        assert place.index.tolist() == expected.index.tolist()
        assert_same_bits(place.value.cpu(), expected.value)


@everywhere
def test_zeros_of_both_signs_are_equal_and_a_second_launch_finds_anew(device):
    logits = -some(2, 9000).abs()
    logits[:, 5000], logits[:, 70] = 0.0, -0.0
    found, scratch = greatest(2, device), argmax_scratch(2, 9000, device)
    argmax(logits.to(device), found, scratch, implementation="gpu")
    assert found.index.tolist() == [70, 70]
    logits[1, 8999] = 1e-30
    argmax(logits.to(device), found, scratch, implementation="gpu")
    assert found.index.tolist() == [70, 8999]


@everywhere
def test_logits_without_a_number_give_the_first(device):
    logits = torch.full((1, 40), torch.nan)
    found, scratch = greatest(1, device), argmax_scratch(1, 40, device)
    argmax(logits.to(device), found, scratch, implementation="gpu")
    assert found.index.tolist() == [0]
    assert found.value.isnan().all()


@everywhere
def test_infinities_are_ordered_as_numbers(device):
    logits = torch.tensor([[-torch.inf, -3e38, -torch.inf], [-torch.inf, torch.inf, 3e38]])
    found, scratch = greatest(2, device), argmax_scratch(2, 3, device)
    argmax(logits.to(device), found, scratch, implementation="gpu")
    assert (found.index.tolist(), found.value.tolist()) == (
        [1, 1],
        [pytest.approx(-3e38), torch.inf],
    )


@pytest.mark.gpu
def test_a_replayed_graph_reads_the_host_and_tells_it():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    device = torch.device("cuda")
    source, target = filled_input(2, 64, device), step_input(2, 64, device)
    found, host = greatest(2, device), greatest(2, pinned=True)
    scratch = argmax_scratch(2, 64, device)

    def step():
        begin_step(source, target)
        argmax(target.hidden, found, scratch, host)

    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for index in (3, 60, 0):
        source.hidden.fill_(0.5)
        source.hidden[:, index] = 1.5
        graph.replay()
        torch.cuda.synchronize()
        assert host.index.tolist() == [index, index]
