"""GGUF files: metadata, tensor table, bytes; split files as one, header-only files too.

Must not know: models, devices, tokenisation, torch, numpy.
Start reading at `reader.py`.
Called by the commands (inspect, plan), `hybrid.tokenizer`, `hybrid.models.config` and the loader.
"""

from hybrid.gguf.reader import GgufFile, GgufTensor

__all__ = ["GgufFile", "GgufTensor"]
