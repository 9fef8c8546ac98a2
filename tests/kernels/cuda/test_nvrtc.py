import os

import pytest

from kernels.cuda import nvrtc
from kernels.cuda.sources import KERNELS, Source
from kernels.errors import CudaCompilerMissing, KernelCompileFailed
from tests.kernels.aot import CAPABILITIES, MOST_SHARED_BYTES, cuda_resources
from tests.kernels.cuda.samples import FILE, FOLDER

SOURCE = Source(FILE, (FOLDER, KERNELS))
NAMES = ("total<1>", "largest", "reverse", "shuffles", "early_return", "floats", "bytes")


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_kernels_compile_for_every_gpu_without_one(capability):
    needs = cuda_resources(FILE, NAMES, capability, FOLDER)
    assert set(needs) == set(NAMES)
    for found in needs.values():
        assert found.spill_bytes == found.stack_bytes == 0
        assert 0 < found.registers < 64
        assert found.static_shared_bytes < MOST_SHARED_BYTES[capability]
    assert needs["largest"].static_shared_bytes >= 32 * 4
    assert needs["floats"].static_shared_bytes < 32 * 4


def test_a_binary_is_for_the_gpu_that_was_asked_for_and_holds_its_symbols():
    binary = nvrtc.build(SOURCE, ["total<1>", "largest"], (8, 6))
    assert binary.cubin[:4] == b"\x7fELF"
    assert "for 'sm_86'" in binary.log
    assert all(symbol.encode() in binary.cubin for symbol in binary.symbols.values())
    assert "total" in binary.symbols["total<1>"]


def test_the_second_time_a_binary_comes_from_the_cache(tmp_path, monkeypatch):
    first = nvrtc.build(SOURCE, ["largest"], (9, 0), tmp_path)
    monkeypatch.setattr(nvrtc, "_compile", None)
    assert nvrtc.build(SOURCE, ["largest"], (9, 0), tmp_path) == first
    with pytest.raises(TypeError):
        nvrtc.build(SOURCE, ["largest"], (8, 9), tmp_path)
    assert len(os.listdir(tmp_path)) == 1


def test_a_damaged_file_of_the_cache_is_compiled_anew(tmp_path):
    first = nvrtc.build(SOURCE, ["largest"], (9, 0), tmp_path)
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", b"not json\nrest", whole[:-1]):
        kept.write_bytes(damaged)
        again = nvrtc.build(SOURCE, ["largest"], (9, 0), tmp_path)
        assert (again.cubin, again.symbols) == (first.cubin, first.symbols)
        assert kept.read_bytes().endswith(b"\n" + first.cubin)


def test_a_fault_in_the_source_comes_with_the_compilers_log():
    with pytest.raises(KernelCompileFailed, match=r"(?s)samples.cu .* sm_90a .*missing_kernel"):
        nvrtc.build(SOURCE, ["missing_kernel<3>"], (9, 0))


def test_a_gpu_newer_than_the_compiler_runs_what_its_generation_has():
    compiler = nvrtc.Compiler(nvrtc.find().library, "12.4", (80, 86, 90))
    assert compiler.architecture((8, 9)) == "sm_86"
    assert compiler.architecture((9, 0)) == "sm_90a"
    with pytest.raises(CudaCompilerMissing, match=r"sm_80 to sm_90, and this GPU is sm_120; pip"):
        compiler.architecture((12, 0))


def test_without_nvrtc_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(nvrtc, "_candidates", lambda _: ["/nowhere/libnvrtc.so.13"])
    nvrtc.find.cache_clear()
    try:
        with pytest.raises(
            CudaCompilerMissing, match="looked at 1 places.*pip install nvidia-cuda"
        ):
            nvrtc.find()
    finally:
        nvrtc.find.cache_clear()


def test_the_compiler_of_torchs_own_cuda_is_tried_first():
    for cuda, other in (("12.8", "13"), ("13.0", "12")):
        names = list(nvrtc._candidates(cuda))
        own = names.index(f"libnvrtc.so.{cuda[:2]}")
        assert own < names.index(f"libnvrtc.so.{other}")
