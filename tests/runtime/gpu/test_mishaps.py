"""A step that fails is one error; the engine goes on from where it was. On emulated GPUs."""

import pytest
import torch

import hybrid
from hybrid.errors import MachineError
from tests.runtime.gpu.mishaps import BEFORE, aftermath
from tools.make_model import make_model

SOON_S = 20  # of a GPU's limit of 30
# class, class of its cause, words
RAISED = {
    "thrown worker": ("MachineError", "WorkerFailed", "a thread of the CPU failed"),
    "stalled worker": ("MachineError", "WorkerFailed", "start the program again"),
    "silent GPU": ("MachineError", "GpuSilent", "crossing 2 of 2"),
    "failed kernel": ("MachineError", "EmulationFailed", "a GPU kernel made a mistake"),
    "stopped process": ("MachineError", "GpuSilent", "waited 0.3 s for the CPU"),
    "interrupt": ("KeyboardInterrupt", "NoneType", ""),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model") / "f32.gguf", type="F32")


@pytest.mark.parametrize("name", RAISED)
def test_a_step_that_fails_is_one_error_and_the_next_generation_is_right(name, model, interpreter):
    found = interpreter.submit(aftermath, model, name).result()
    error, cause, words = RAISED[name]
    assert (found.error, found.cause) == (error, cause)
    assert words in found.message
    assert found.seconds < SOON_S, "the GPU was left to wait for its own limit"
    assert not found.advanced
    assert found.before == found.expected[:BEFORE]
    assert found.after == found.expected
    assert found.from_nothing == found.expected
    assert set(found.again) <= {"MachineError"}


def test_a_gpu_that_fails_while_loading_is_one_error_with_options_of_load(model, monkeypatch):
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("hybrid.runtime.load.read_weights", fail)
    with pytest.raises(MachineError, match="a GPU's memory ran out") as raised:
        hybrid.load(model, simulate={"CUDA0": 1 << 30})
    assert isinstance(raised.value.__cause__, torch.OutOfMemoryError)
    assert "budgets for --vram" in str(raised.value)
