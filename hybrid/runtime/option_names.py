"""Errors speak of flags, as most readers type them; callers from Python hear which options of
`hybrid.load` these are.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from hybrid.errors import HybridError

OPTION_OF_FLAG = {
    "-ot": "rules",
    "--cpu-moe": "rules",
    "--n-cpu-moe": "rules",
    "-c": "context",
    "-ub": "ubatch",
    "-ctk": "cache_format",
    "-nkvo": "cache_in_ram",
    "-kvo": "cache_in_ram",
    "-amb": "attention_work_bytes",
    "-ngl": "gpu_layers",
    "-sm": "split",
    "-mg": "main_gpu",
    "-ts": "shares",
    "-np": "sequences",
    "--margin": "margins",
    "-t": "threads",
    "--optimize": "optimize",
    "--expert-stats": "expert_stats",
    "--vram": "budgets",
    "--ram": "budgets",
    "--simulate": "simulate",
    "--device": "devices",
    "--machine": "machine",
    "--plan": "plan",
    "--numa": "numa",
    "--mmap": "mmap",
    "--kernels": "kernels",
    "--tier": "tier",
    "--conventions": "conventions",
}


@contextmanager
def options_named() -> Iterator[None]:
    """A HybridError that leaves this block says the option beside each flag it speaks of."""
    try:
        yield
    except HybridError as error:
        words = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", str(error)))
        named = [f"{name} for {flag}" for flag, name in OPTION_OF_FLAG.items() if flag in words]
        if named:
            error.remedies += (f"as options of hybrid.load: {', '.join(named)}",)
        raise
