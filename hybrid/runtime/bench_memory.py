"""Memory between two engines of one process: what the first held is free before the second one's
plan asks what is free.
"""

import gc
import sys


def free_engines() -> None:
    """Give back what engines held that nothing refers to any more. Blocks, graphs and caches refer
    to each other in rings, which Python finds at a time of its own; torch keeps a GPU's memory for
    itself.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
