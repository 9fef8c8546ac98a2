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


# As llama-cpp-python and short flags call them.
ELSEWHERE = {
    "n_ctx": "context",
    "n_gpu_layers": "gpu_layers",
    "n_threads": "threads",
    "n_batch": "ubatch",
    "n_ubatch": "ubatch",
    "tensor_split": "shares",
    "type_k": "cache_format",
    "use_mmap": "mmap",
    "cmoe": "rules",
    "ncmoe": "rules",
}

EXAMPLES = {"--ram": 'budgets={"CPU": 64 << 30}', "--vram": 'budgets={"CUDA0": 22 << 30}'}


def option_of(name: str) -> str | None:
    """What to write in place of a flag's name that was given as an option: "ngl", "ram"."""
    words = name.replace("_", "-")
    flag = next((flag for flag in (f"--{words}", f"-{words}") if flag in OPTION_OF_FLAG), None)
    if flag is None:
        return f"{name} is called {ELSEWHERE[name]} in Python" if name in ELSEWHERE else None
    example = f": {EXAMPLES[flag]}, in bytes" if flag in EXAMPLES else ""
    return f"{name[:60]} is called {OPTION_OF_FLAG[flag]} in Python{example}"


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
