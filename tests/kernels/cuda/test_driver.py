"""The border to the driver, against a library that has its names and keeps what it is told."""

import ctypes
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kernels.cuda import Kernel, Program, cache, driver, driver_library, host_memory
from kernels.errors import (
    CudaCallFailed,
    CudaDriverMissing,
    DeviceTooOld,
    KernelInputError,
)
from tests.kernels.cuda.samples import FILE, FOLDER, SampleRecord

STREAM = 0x5000
CACHED = ("device_handle", "device_attribute", "_primary_context")


@pytest.fixture(scope="module")
def library_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    source = FOLDER / "fake_driver.c"
    subprocess.run(["gcc", "-w", "-shared", "-fPIC", "-o", path, source], check=True)
    return path


@pytest.fixture
def fake(library_path, tmp_path, monkeypatch):
    opened = driver_library.open_driver(str(library_path))
    number(opened, "fake_capability").value = 90
    number(opened, "fake_status").value = 0
    for name in CACHED:
        getattr(driver_library, name).cache_clear()
    for module in (driver, driver_library):
        monkeypatch.setattr(module, "library", lambda: opened)
    monkeypatch.setattr(cache, "usual_folder", lambda: tmp_path)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=STREAM))
    yield opened
    assert number(opened, "fake_depth").value == 0, "a context was left current"
    for name in CACHED:
        getattr(driver_library, name).cache_clear()


def number(opened: ctypes.CDLL, name: str) -> ctypes.c_int:
    return ctypes.c_int.in_dll(opened, name)


def kernel() -> Kernel:
    return Program(FILE, FOLDER).kernel("largest", "cuda:0")


@pytest.mark.parametrize(
    ("capability", "overlap", "attributes"), [(90, True, 1), (90, False, 0), (86, True, 0)]
)
def test_a_launch_tells_the_driver_sizes_stream_record_and_overlap(
    fake, capability, overlap, attributes
):
    number(fake, "fake_capability").value = capability
    kernel().launch((3, 4, 5), 96, SampleRecord(n=77), shared_bytes=2000, overlap=overlap)
    told = driver_library.LaunchConfig.in_dll(fake, "fake_launch")
    assert [*told.grid, *told.block, told.shared_bytes] == [3, 4, 5, 96, 1, 1, 2000]
    assert told.stream == STREAM
    assert told.attribute_count == attributes
    assert list((ctypes.c_int * 2).in_dll(fake, "fake_attribute")) == [6, 1]
    assert ctypes.c_int64.in_dll(fake, "fake_record").value == 77


def test_a_kernel_may_have_all_the_shared_memory_that_its_own_leaves(fake):
    launched = kernel()
    assert number(fake, "fake_allowed_shared").value == 232448 - 1000
    launched.launch((1, 1, 1), 32, SampleRecord(), shared_bytes=232448 - 1000)
    with pytest.raises(KernelInputError, match="231449 bytes .* cuda:0 has 231448"):
        launched.launch((1, 1, 1), 32, SampleRecord(), shared_bytes=232448 - 999)


def test_a_record_of_another_size_is_refused(fake):
    class Longer(SampleRecord):
        _fields_ = (("more", ctypes.c_int64),)

    with pytest.raises(KernelInputError, match="takes a record of 32 bytes and was given 40"):
        kernel().launch((1, 1, 1), 32, Longer())


def test_a_refused_launch_names_the_call_the_kernel_the_error_and_the_remedy(fake):
    launched = kernel()
    number(fake, "fake_status").value = 2
    with pytest.raises(
        CudaCallFailed,
        match=r"cuLaunchKernelEx of largest, grid \(1, 2, 1\), 64 threads, 0 bytes shared failed:"
        r" CUDA_ERROR_OUT_OF_MEMORY \(2\), out of memory; nvidia-smi",
    ):
        launched.launch((1, 2, 1), 64, SampleRecord())


def test_a_gpu_that_is_not_there_is_named(fake):
    with pytest.raises(CudaCallFailed, match="cuDeviceGet of cuda:3 failed"):
        Program(FILE, FOLDER).kernel("largest", "cuda:3")


def test_an_old_gpu_is_refused_with_its_capability(fake):
    number(fake, "fake_capability").value = 75
    with pytest.raises(DeviceTooOld, match=r"cuda:0 has compute capability 7.5, .* 8.0 .*--device"):
        kernel()


def test_memory_is_pinned_found_and_let_go(fake):
    host_memory.register(4096, 8192)
    assert host_memory.device_pointer(4096) == 4097
    host_memory.unregister(4096)
    with pytest.raises(CudaCallFailed, match="of 1 bytes of CPU memory .*; the memory is pinned"):
        host_memory.register(4096, 1)


def test_a_stream_waits_for_a_number_and_writes_one(fake):
    host_memory.wait_value(4096, 7, 0)
    host_memory.write_value(4096, 8, torch.device("cuda:0"))
    with pytest.raises(CudaCallFailed):
        host_memory.write_value(4096, 9, 0)


def test_a_machine_without_a_driver_is_told_what_to_install():
    with pytest.raises(
        CudaDriverMissing, match="not here .* install NVIDIA's driver .*--device none"
    ):
        driver_library.open_driver("libcuda-that-is-not-there.so.1")


def test_a_driver_without_a_function_is_too_old(tmp_path, library_path):
    source = (FOLDER / "fake_driver.c").read_text().replace("cuLaunchKernelEx", "cuLaunchKernel")
    (tmp_path / "old.c").write_text(source)
    command = ["gcc", "-w", "-shared", "-fPIC", "-o", tmp_path / "old.so", tmp_path / "old.c"]
    subprocess.run(command, check=True)
    with pytest.raises(CudaDriverMissing, match="lacks cuLaunchKernelEx; install NVIDIA's driver"):
        driver_library.open_driver(str(tmp_path / "old.so"))
