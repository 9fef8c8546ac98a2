"""Blocks on a GPU: graphs of decode steps, passes of prompts, experts called in RAM or streamed.

Must not know: the command line, where weights are read from, the arithmetic of an op (kernels).
Start reading at `blocks.py`, then `step.py` for up to 8 tokens and `prompt.py` for more.
Called by `hybrid.runtime.load`, and `engine` through `GpuBlocks`.
"""
