"""The bench of decode's products, as far as it goes without a GPU."""

import pytest
import torch

from kernels.dequantize.cases import like_weights
from kernels.formats import BY_NAME
from kernels.planar import to_planar
from tools.bench import gpu_matvec


@pytest.fixture
def timed(monkeypatch):
    """Layers of each call of each_us, which runs the first and says 3 us."""
    calls = []

    def three_us(launch, layers):
        launch(layers[0])
        calls.append(layers)
        return 3.0

    monkeypatch.setattr(gpu_matvec, "DEVICE", torch.device("cpu"))
    monkeypatch.setattr(gpu_matvec, "CACHE_BYTES", 40_000)
    monkeypatch.setattr(gpu_matvec, "each_us", three_us)
    gpu_matvec._copy_us.cache_clear()
    yield calls
    gpu_matvec._copy_us.cache_clear()


def test_a_copy_moves_a_matrixs_bytes_through_more_memory_than_the_cache(timed):
    assert gpu_matvec._copy_us(1000) == 3.0
    (layers,) = timed
    moved = {id(pair): sum(part.nbytes for part in pair) for pair in layers}
    assert set(moved.values()) == {1000}
    assert sum(moved.values()) >= 40_000
    places = {part.data_ptr() for pair in layers for part in pair}
    assert len(places) == 2 * len(moved)


def test_a_copy_writes_what_it_reads(timed):
    gpu_matvec._copy_us(64)
    source, target = timed[0][0]
    assert source.unique().numel() > 1
    assert torch.equal(target, -source)


def test_only_small_matrices_stand_beside_a_copy_of_their_size(timed, monkeypatch):
    weight = to_planar(like_weights(BY_NAME["Q8_0"], (4, 64)))
    assert gpu_matvec._beside_copy(weight, 6.0) == (3.0, 0.5)
    monkeypatch.setattr(gpu_matvec, "COPIED_BELOW", weight.nbytes)
    assert gpu_matvec._beside_copy(weight, 6.0) == ("-", "-")
    assert len(timed) == 1


def test_a_row_has_a_cell_for_every_column(timed, monkeypatch):
    monkeypatch.setattr(gpu_matvec.decoding, "decode_into", lambda weight, out: None)
    monkeypatch.setattr(gpu_matvec, "_error", lambda *_, **__: 0.0)
    weight = to_planar(like_weights(BY_NAME["Q8_0"], (4, 64)))
    arguments = gpu_matvec._arguments(["--tokens", "1,2", "--no-triton"])
    rows = gpu_matvec._of_matrix(weight, arguments, copied=2.0)
    assert len(rows) == 3
    for row in rows:
        cells = dict(zip(gpu_matvec.COLUMNS, row, strict=True))
        assert cells["time us"] == 3.0
        assert cells["of that copy"] == ("-" if cells["kernel"] == "decode bf16" else 1.0)
