"""What a run asks for beside weights: context, micro-batch, cache format; and the bytes that follow.

Formulas give bytes of the reference kernels (float32 arithmetic); other kernels will bring their own terms.
"""

from dataclasses import dataclass

CACHE_BYTES_PER_32_VALUES = {"f32": 128, "f16": 64, "bf16": 64, "q8_0": 34}


@dataclass(frozen=True, slots=True)
class Workload:
    """What the user wants to run.

    context_tokens         cache rows reserved per layer
    ubatch_tokens          prompt tokens computed at once
    cache_format           one of CACHE_BYTES_PER_32_VALUES
    attention_work_bytes   upper bound of the expanded attention's work buffer (-amb)
    """

    context_tokens: int
    ubatch_tokens: int = 512
    cache_format: str = "f16"
    attention_work_bytes: int = 256 << 20
