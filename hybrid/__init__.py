"""The program: GGUF file in, tokens out. Glues `placement` and `kernels` together.

    engine = hybrid.load("model.gguf", rules=["exps=CPU"], context=8192)
    for token in engine.generate("Once upon a time", max_tokens=64): print(token.text, end="")

Must not know: block formats' insides (kernels), how a plan is found (placement).
Start reading at docs/tour.md, then `runtime/engine.py`. Called by users and by `hybrid.cli`.
Importing it imports no torch.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid.errors import HybridError

if TYPE_CHECKING:
    from hybrid.runtime.engine import Engine

__all__ = ["HybridError", "load"]
__version__ = "0.1.0"


def load(path: str | Path, **options: Any) -> "Engine":
    """See `hybrid.runtime.load.load`, imported here on first call because torch takes 1.5 s."""
    from hybrid.runtime.load import load as load_model  # noqa: PLC0415

    return load_model(path, **options)
