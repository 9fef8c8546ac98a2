"""What is found out about a GPU before anything is read, on machines that pretend to have one."""

import importlib
import warnings
from types import SimpleNamespace

import pytest
import torch

from hybrid.errors import MachineError
from hybrid.runtime.gpu import check
from hybrid.runtime.gpu import facts as gpu_facts
from hybrid.runtime.gpu.check import check_gpu
from kernels.cuda import driver_library, nvrtc
from kernels.errors import CudaCallFailed, CudaCompilerMissing, CudaDriverMissing
from placement.machines.machine import Device, DeviceKind

GIB = 1 << 30


def gpu(capability="9.0", name="CUDA0", kind=DeviceKind.GPU):
    return Device(
        name, kind, GIB, GIB, "A card", compute_capability=capability, driver="580.1", uuid="GPU-a"
    )


def refuses(error):
    def refuse(*_, **__):
        raise error

    return refuse


@pytest.fixture
def sound(monkeypatch):
    """A machine where every check passes; returns what was asked."""
    asked = []

    def answer(name, value=None):
        def ask(*given):
            asked.append(name)
            return value

        return ask

    compiler = nvrtc.Compiler(None, "13.0", (80, 90))
    card = SimpleNamespace(uuid="a")
    monkeypatch.setattr(driver_library, "library", answer("driver"))
    monkeypatch.setattr(torch.cuda, "init", answer("torch"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    on_cpu = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: asked.append("code") or on_cpu(1))
    monkeypatch.setattr(nvrtc, "find", answer("nvrtc", compiler))
    found = importlib.import_module

    def bring(name, *rest):
        return asked.append(name) if name == "triton" else found(name, *rest)

    monkeypatch.setattr(importlib, "import_module", bring)
    return asked


def test_a_sound_gpu_passes_every_check(sound):
    check_gpu(gpu())
    assert sound == ["driver", "torch", "code", "nvrtc", "triton"]


def test_exact_kernels_need_no_compiler(sound):
    check_gpu(gpu(), exact=True)
    assert sound == ["driver", "torch", "code"]


@pytest.mark.parametrize("kind", [DeviceKind.CPU, DeviceKind.SIMULATED_GPU])
def test_what_is_no_real_gpu_is_not_asked(sound, kind):
    check_gpu(gpu(kind=kind))
    assert sound == []


@pytest.mark.parametrize(
    ("place", "name", "value", "words"),
    [
        (driver_library, "library", refuses(CudaDriverMissing("not here; install")), "driver"),
        (driver_library, "library", refuses(CudaCallFailed("cuInit failed: x (1)")), "cuInit"),
        (torch.cuda, "init", refuses(RuntimeError("Found no NVIDIA driver on your")), "no GPU"),
        (torch.cuda, "init", refuses(AssertionError("Torch not compiled with CUDA")), "without"),
        (torch.cuda, "get_device_capability", lambda _: (7, 5), "capability 7.5"),
        (torch, "zeros", refuses(RuntimeError("CUDA error: no kernel image is available")), "code"),
        (nvrtc, "find", refuses(CudaCompilerMissing("libnvrtc.so is not here; pip")), "libnvrtc"),
        (nvrtc, "find", lambda: nvrtc.Compiler(None, "13.0", (100, 120)), "sm_100"),
        (check.importlib, "import_module", refuses(ImportError("no", name="triton")), "Triton"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.usefixtures("sound")
def test_each_fault_is_one_error_that_names_the_gpu(monkeypatch, place, name, value, words):
    monkeypatch.setattr(place, name, value)
    with pytest.raises(MachineError) as caught:
        check_gpu(gpu())
    text = str(caught.value)
    assert text.startswith("CUDA0 (A card) cannot be used: ")
    assert words in text
    assert "driver 580.1, torch " in text
    assert "--device none" in text


def test_an_old_gpu_is_told_before_cuda_is_opened(sound):
    with pytest.raises(MachineError, match="compute capability 7.0"):
        check_gpu(gpu("7.0"))
    assert sound == []


@pytest.mark.usefixtures("sound")
def test_a_mistake_of_ours_stays_one(monkeypatch):
    monkeypatch.setattr(torch, "zeros", refuses(RuntimeError("a shape is wrong")))
    with pytest.raises(RuntimeError, match="a shape is wrong"):
        check_gpu(gpu())


def test_facts_name_every_part_and_what_is_wrong_with_it(monkeypatch):
    monkeypatch.setattr(driver_library, "library", refuses(CudaDriverMissing("no driver here")))
    monkeypatch.setattr(nvrtc, "find", refuses(CudaCompilerMissing("no libnvrtc here")))

    def too_old():
        warnings.warn("The NVIDIA driver on your system is too old\nand more", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", too_old)
    simulated = Device("CUDA2", DeviceKind.SIMULATED_GPU, GIB, GIB)
    facts = gpu_facts.gpu_facts([gpu(), gpu("7.5", "CUDA1"), simulated])
    assert (
        facts["compute_capability"] == "CUDA0 9.0, CUDA1 7.5 (too old: 8.0 is needed), CUDA2 none"
    )
    assert facts["cuda_driver"] == "no driver here"
    assert facts["nvrtc"] == "no libnvrtc here"
    assert facts["torch_sees"].endswith(": The NVIDIA driver on your system is too old")


@pytest.mark.usefixtures("sound")
def test_facts_give_versions_of_what_is_there(monkeypatch):
    class Library:
        def cuDriverGetVersion(self, at):  # noqa: N802
            at._obj.value = 12080
            return 0

    monkeypatch.setattr(driver_library, "library", Library)
    facts = gpu_facts.gpu_facts([])
    assert facts["compute_capability"] == "no GPU"
    assert facts["cuda_driver"] == "libcuda.so.1, for CUDA 12.8"
    assert facts["nvrtc"] == "13.0, sm_80 to sm_90"
    assert facts["torch_sees"].startswith("1 GPUs, built for ")


@pytest.mark.gpu
def test_the_gpu_here_passes():
    properties = torch.cuda.get_device_properties(0)
    capability = f"{properties.major}.{properties.minor}"
    device = Device(
        "CUDA0",
        DeviceKind.GPU,
        GIB,
        GIB,
        properties.name,
        compute_capability=capability,
        uuid=f"GPU-{properties.uuid}",
    )
    check_gpu(device)
    facts = gpu_facts.gpu_facts([device])
    assert facts["compute_capability"] == f"CUDA0 {capability}"
    assert facts["cuda_driver"].startswith("libcuda.so.1, for CUDA 1")
