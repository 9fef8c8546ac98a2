"""What the driver and the emulator are told of rows that the copy engine shall read.

The split kernel of attention reads through such a map, emulated and on a GPU.
"""

import ctypes
import subprocess
from pathlib import Path

import pytest
import torch

from kernels.cuda import driver_library, tensor_map
from kernels.errors import KernelInputError
from tests.kernels.cuda.samples import FOLDER


@pytest.fixture
def _fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "libcuda.so.1"
    source = FOLDER / "fake_driver.c"
    subprocess.run(["gcc", "-w", "-shared", "-fPIC", "-o", path, source], check=True)
    opened = driver_library.open_driver(str(path))
    monkeypatch.setattr(driver_library, "library", lambda: opened)


@pytest.mark.usefixtures("_fake")
@pytest.mark.parametrize(("dtype", "number"), [(torch.float16, 6), (torch.bfloat16, 9)])
def test_rows_are_boxes_of_64_columns_swizzled_by_128_bytes(
    dtype: torch.dtype, number: int
) -> None:
    told = tensor_map.encoded(4096, dtype, (100, 576), 1280, 32).words
    assert list(told)[:8] == [number, 3, 4096, 64, 100, 9, 1280, 128]
    assert list(told)[8:] == [64, 32, 9, 1, 1, 1, 3, 3]
    assert ctypes.sizeof(tensor_map.TensorMap) == 128


def test_the_emulator_is_told_where_rows_lie() -> None:
    rows = torch.zeros(100, 640).half()[:, 64:]
    told = tensor_map.row_boxes(rows, 32).words
    assert list(told)[:5] == [rows.data_ptr(), 100, 1280, 9, 32]


@pytest.mark.parametrize(
    "rows",
    [
        torch.zeros(4, 576),
        torch.zeros(4, 577).half(),
        torch.zeros(4, 1152).half()[:, ::2],
        torch.zeros(4, 640).half()[:, 1:577],
        torch.zeros(4, 584).half(),
    ],
    ids=["32 bits", "pitch", "columns apart", "begin", "columns"],
)
def test_rows_that_the_engine_cannot_read_are_refused(rows: torch.Tensor) -> None:
    with pytest.raises(KernelInputError, match="the copy engine"):
        tensor_map.row_boxes(rows, 32)
