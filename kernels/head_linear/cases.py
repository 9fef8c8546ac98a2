"""Shapes and allowed error, shared by test and bench."""

RELATIVE_ERROR = 4e-6  # a single result, whose products may cancel, is the worst
# tokens, heads, rows, columns in blocks
SMALL = [(1, 1, 1, 1), (1, 4, 7, 2), (3, 5, 9, 1), (17, 3, 4, 3)]
# heads, rows, columns: W_UK of DeepSeek-V2-Lite and DeepSeek-V3
REAL = [(16, 128, 512), (128, 128, 512)]
