"""Output norm and head of a prompt on an emulated GPU: rows leave it a few at a time."""

import pytest
import torch

from hybrid.runtime.crossing import Place
from hybrid.runtime.gpu.head import GpuHead
from hybrid.runtime.gpu.step import Head
from hybrid.runtime.stats import Meter
from kernels.formats import BY_NAME
from kernels.planar import PlanarTensor
from placement.memory.gpu_scratch import HEAD_ROWS

WIDTH, VOCABULARY, EPSILON = 32, 40, 1e-6


@pytest.mark.parametrize("rows", [1, 9, HEAD_ROWS, HEAD_ROWS + 1, 2 * HEAD_ROWS + 13])
def test_the_logits_of_a_prompts_last_rows_are_the_products_of_its_norm(rows):
    numbers = torch.Generator().manual_seed(rows)
    weight = torch.randn(VOCABULARY, WIDTH, generator=numbers)
    norm = torch.rand(WIDTH, generator=numbers)
    planes = PlanarTensor(
        weight.view(torch.uint8).view(-1), BY_NAME["F32"], (VOCABULARY, WIDTH), VOCABULARY
    )
    home = Place("CUDA0", torch.device("cpu"))
    head = GpuHead(Head(norm, EPSILON, planes), home, Meter())
    h = torch.randn(2 * HEAD_ROWS + 20, WIDTH, generator=numbers)
    x = h[len(h) - rows :].double()
    normed = x / (x.square().mean(-1, keepdim=True) + EPSILON).sqrt() * norm
    expected = normed @ weight.double().t()
    torch.testing.assert_close(head(h, rows), expected.float(), atol=1e-5, rtol=1e-5)
    assert head.greatest() is None
