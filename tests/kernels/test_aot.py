import pytest

from tests.kernels.aot import CAPABILITIES, triton_resources

triton = pytest.importorskip("triton")
tl = triton.language


@triton.jit
def row_sums(x, out, columns, WIDTH: tl.constexpr, DTYPE: tl.constexpr):  # noqa: N803
    row = tl.program_id(0)
    at = tl.arange(0, WIDTH)
    values = tl.load(x + row * columns + at, mask=at < columns, other=0.0)
    tl.store(out + row, tl.sum(values.to(DTYPE), 0))


def test_a_triton_kernel_compiles_for_every_gpu_without_one(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    needs = triton_resources(
        "tests.kernels.test_aot:row_sums",
        {"x": "*fp16", "out": "*fp32", "columns": "i32"},
        {"WIDTH": 1024, "DTYPE": "tl.float32"},
        num_warps=4,
    )
    assert tuple(needs) == CAPABILITIES
    for found in needs.values():
        assert 0 < found.registers < 64
        assert found.spill_bytes == 0
        assert found.static_shared_bytes > 0


def test_a_fault_in_a_triton_kernel_comes_with_its_log():
    with pytest.raises(AssertionError, match="(?s)row_sums does not compile.*tl.load"):
        triton_resources(
            "tests.kernels.test_aot:row_sums",
            {"x": "fp16", "out": "*fp32", "columns": "i32"},
            {"WIDTH": 32, "DTYPE": "tl.float32"},
            [(9, 0)],
        )
