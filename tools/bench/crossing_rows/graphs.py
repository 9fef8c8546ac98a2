"""Chains of empty kernels, and what this torch and this processor can do."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from kernels.native.library import library
from kernels.native.tiers import NAMES
from tools.bench.crossing_rows.measure import Row, launch_empty, or_reason
from tools.bench.gpu_time import each_us, queued_us

CHAIN = 200
SDPA_HEADS, SDPA_TOKENS = 16, 4096
AMX_FLAGS = ("amx_tile", "amx_int8", "amx_bf16")


def empty_chain() -> Iterator[Row]:
    for name, overlap in (("", False), (", programmatic launch", True)):
        us = each_us(launch_empty, [overlap] * CHAIN)
        yield f"empty kernel in a graph of {CHAIN}{name}", us, "us"


def attention_probe() -> Row:
    """Causal attention of prompts in expanded form, as a library may do it."""

    def run() -> float:
        shape = (1, SDPA_HEADS, SDPA_TOKENS)
        q, k = (torch.randn(*shape, 192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        v = torch.randn(*shape, 128, device="cuda", dtype=torch.bfloat16)
        flop = SDPA_HEADS * SDPA_TOKENS**2 * (192 + 128)  # half of all pairs, 2 a pair and column
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            us = queued_us(lambda: scaled_dot_product_attention(q, k, v, is_causal=True))
        return flop / us / 1e6

    return or_reason(f"cuDNN attention, 192/128 columns, {SDPA_TOKENS} tokens", "TFLOP/s", run)


def matrix_units() -> Row:
    info = Path("/proc/cpuinfo")
    flags = info.read_text(encoding="utf-8").split() if info.is_file() else []
    listed = [flag for flag in AMX_FLAGS if flag in flags]
    permitted = library().hybrid_has_tier(NAMES.index("amx"))
    said = f"{', '.join(listed) or 'none'}; {'permitted' if permitted else 'not permitted'}"
    return "AMX", said, ""
