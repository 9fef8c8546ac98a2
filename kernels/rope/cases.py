"""Shapes and allowed error of `rope`, one truth for test and bench."""

RELATIVE_ERROR = 1e-6
SMALL = [(1, 2), (3, 16), (5, 4, 64), (2, 3, 2, 6), (0, 4, 8)]  # [tokens, ..., length]
REAL = [(1, 128, 64), (512, 128, 64), (512, 64)]
FAR = 1_000_003  # a first position where float32 angles fail
