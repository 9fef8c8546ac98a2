"""Where the demo model is put on real GPUs, and what those tests share."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from hybrid.runtime.options import CpuMoe

# torch's own products warn where fresh memory is poisoned.
ignored_warnings = pytest.mark.filterwarnings("ignore:Deterministic behavior was enabled")

ONE, TWO, FOUR = ("CUDA0",), ("CUDA0", "CUDA1"), ("CUDA0", "CUDA1", "CUDA2", "CUDA3")
SPLIT = [r"blk\.[0-2]\..*=CUDA0", r"blk\.[34]\..*=CUDA1", "output=CUDA1"]

PLACEMENTS: dict[str, dict[str, Any]] = {
    "all on one GPU": {"devices": ONE, "rules": [".*=CUDA0"]},
    "experts in RAM": {"devices": ONE, "rules": ["exps=CPU"]},
    "experts in RAM, mapped": {"devices": ONE, "rules": ["exps=CPU"], "mmap": True},
    "experts of two blocks in RAM": {"devices": ONE, "rules": [CpuMoe(layers=2)]},
    "an expert range on the GPU": {"devices": ONE, "rules": ["exps#0-6=CUDA0,exps=CPU"]},
    "experts in RAM on both sides": {"devices": ONE, "rules": ["exps#4-11=CUDA0,exps=CPU"]},
    "gate and up apart": {"devices": ONE, "rules": ["gate_exps=CUDA0,exps=CPU"]},
    "ops away": {
        "devices": ONE,
        "rules": [
            "attn_(q_b|k_b|norm)=CPU,ffn_gate_inp=CPU,exp_probs=CUDA0,shexp=CPU",
        ],
    },
    "two layers offloaded": {"devices": ONE, "gpu_layers": 2},
    "blocks out of turn": {"devices": ONE, "rules": [r"blk\.(1|3)\..*=CUDA0", ".*=CPU"]},
    "blocks out of turn, experts of one in RAM": {
        "devices": ONE,
        "rules": [r"blk\.3\..*_exps=CPU", r"blk\.(1|3)\..*=CUDA0", ".*=CPU"],
    },
    "the head in RAM": {"devices": ONE, "rules": ["^token_embd=CUDA0", "^output=CPU"]},
    "the cache in RAM": {"devices": ONE, "rules": ["exps=CPU"], "cache_in_ram": True},
    "the cache in RAM, all else on the GPU": {
        "devices": ONE,
        "rules": [".*=CUDA0"],
        "cache_in_ram": True,
    },
    "layers over two GPUs": {"devices": TWO, "rules": SPLIT},
    "two GPUs and the CPU": {"devices": TWO, "rules": ["exps=CPU", *SPLIT]},
    "two GPUs, the cache in RAM": {"devices": TWO, "rules": SPLIT, "cache_in_ram": True},
    "experts on another GPU": {"devices": TWO, "rules": [r"blk\.1.*exps=CUDA1"]},
    "every second op on another GPU": {
        "devices": TWO,
        "rules": ["attn_(q_b|k_b|output|norm)=CUDA1", "ffn_gate_inp=CPU", "shexp=CUDA1"],
    },
    "a block on each of four GPUs": {
        "devices": FOUR,
        "rules": [
            *(rf"blk\.{layer}\..*=CUDA{layer}" for layer in range(4)),
            r"blk\.4\..*=CUDA3",
            "output=CUDA3",
        ],
    },
}


def need_gpus(options: Mapping[str, Any]) -> None:
    """Skips the test where GPUs of the placement are missing, by name."""
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if missing := [name for name in options["devices"] if int(name[-1]) >= found]:
        pytest.skip(f"{missing[0]} is not here")
