"""Tensors in, tensors out: a room per op, with its contract, reference, cases, implementations.

Must not know: model names, files, plans, `hybrid`, `placement`.
Start reading at any `<op>/__init__.py`: the contract; then `<op>/reference.py`: the meaning.
Called by `hybrid.runtime` (ops of a loaded model) and `hybrid.models` (attention, rope).
"""
