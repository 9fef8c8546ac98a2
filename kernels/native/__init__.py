"""The compiled library: C++17 behind a small C border (`library.h`), loaded by `library.py`.

Must not know: torch in C++, Python in C++, models.
Start reading at `library.h`.
Called by the ops' `__init__.py` for CPU tensors.
"""
