"""Shapes and allowed error, shared by test and bench."""

RELATIVE_ERROR = 4e-6  # a single result, whose products may cancel, is the worst
# tokens, rows, columns in blocks: one token, odd counts, few and many
SMALL = [(1, 1, 1), (1, 7, 5), (2, 33, 3), (7, 5, 2), (8, 5, 2), (19, 3, 9)]
# rows, columns: DeepSeek-V2-Lite attention and expert, DeepSeek-V3 expert
REAL = [(3072, 2048), (1408, 2048), (2048, 7168), (7168, 2048)]
REAL_TOKENS = [1, 4, 32]
