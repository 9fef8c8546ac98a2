"""From plan to tokens: loader, devices' memory, crossings, experts, cache, engine, sampling,
statistics.

Must not know: the command line, terminals, the arithmetic of an op (kernels).
Start reading at `load.py`, then `engine.py`.
Called by `hybrid.load` and the commands.
"""
