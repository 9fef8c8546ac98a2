import pytest
import torch

from kernels.errors import KernelInputError
from kernels.step import Greatest, argmax, argmax_scratch, begin_step, step_input

CPU = torch.device("cpu")


def greatest(tokens):
    return Greatest(torch.full((tokens,), -1, dtype=torch.int32), torch.full((tokens,), torch.nan))


def test_the_reference_takes_the_first_of_equals_and_tells_a_nan():
    logits = torch.tensor([[0.0, 3.0, 3.0, -1.0], [-0.0, 0.0, -1.0, -2.0], [1.0, 2, torch.nan, 9]])
    found = greatest(3)
    argmax(logits, found, argmax_scratch(3, 4, CPU))
    assert (found.index.tolist(), found.value.tolist()[:2]) == ([1, 0, 2], [3.0, 0.0])
    assert found.value[2].isnan()


def test_the_reference_begins_a_step_with_the_same_values():
    source, target = step_input(2, 5, CPU), step_input(2, 5, CPU)
    for field in (source.hidden, source.positions, source.rows, source.seen):
        field += torch.arange(1, field.numel() + 1).view(field.shape)
    begin_step(source, target)
    assert all(torch.equal(given, taken) for _, given, taken in source.pairs(target))


def test_buffers_of_other_shapes_are_refused():
    with pytest.raises(KernelInputError, match="hidden"):
        begin_step(step_input(1, 4, CPU), step_input(1, 5, CPU))
    with pytest.raises(KernelInputError, match="positions|hidden"):
        begin_step(step_input(1, 4, CPU), step_input(2, 4, CPU))


@pytest.mark.parametrize(
    ("logits", "found", "scratch", "named"),
    [
        (torch.zeros(2, 4).double(), greatest(2), (2, 4), "logits"),
        (torch.zeros(2, 0), greatest(2), (2, 1), "logits"),
        (torch.zeros(2, 4), greatest(3), (2, 4), "index"),
        (torch.zeros(2, 4), greatest(2), (1, 4), "scratch"),
        (torch.zeros(2, 4), greatest(2), (2, 5000), "scratch"),
    ],
    ids=["dtype", "nothing", "found", "tokens of the scratch", "vocabulary of the scratch"],
)
def test_logits_that_do_not_fit_are_refused(logits, found, scratch, named):
    with pytest.raises(KernelInputError, match=named):
        argmax(logits, found, argmax_scratch(*scratch, CPU))


def test_an_unknown_implementation_names_the_known_ones():
    with pytest.raises(KernelInputError, match="gpu, reference"):
        argmax(torch.zeros(1, 4), greatest(1), argmax_scratch(1, 4, CPU), implementation="fpga")
