"""Shapes and allowed error of `rms_norm`, one truth for test and bench."""

RELATIVE_ERROR = 1e-6
SMALL = [(1, 64), (3, 33), (7, 1), (2, 3, 96), (0, 32)]  # [..., width]
REAL = [(1, 7168), (512, 7168), (512, 1536), (512, 512)]
