"""PyTorch's build for CPUs brings no Triton, and macOS has none: nothing but GPUs may need it."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
sys.modules["triton"] = None  # an import of it fails
import hybrid
engine = hybrid.load("demo", context=64, {options})
assert len(list(engine.generate("Once", max_tokens=3, temperature=0, ignore_stop=True))) == 3
"""


@pytest.mark.parametrize(
    "options",
    ['devices=("none",)', 'simulate={"CUDA0": 64 << 20}, rules=["exps=CPU"]'],
    ids=["on the CPU", "on a simulated GPU"],
)
def test_three_tokens_come_without_triton(options):
    command = [sys.executable, "-c", SCRIPT.format(options=options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
