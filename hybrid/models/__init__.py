"""Architectures: one readable file each, written once, never naming a device.

Must not know: plans, devices, files' bytes.
Start reading at `deepseek.py`; what it is built from is in `parts.py`.
Called by `hybrid.runtime.load` through `registry.py`; `hybrid.runtime.prepare` reads `config.py`.
"""
