"""GGUF files: header, metadata, tensor table, memory map; split files as one, header-only files too. No torch, no numpy.

Must not know: models, devices, tokenisation.
Start reading at `reader.py`.
Called by the command line (inspect, plan), `hybrid.tokenizer`, `hybrid.models.config` and `hybrid.runtime.loader`.
"""
