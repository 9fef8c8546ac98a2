"""Shapes, shared by test and bench."""

INPUTS = [(1, 1), (1, 64), (3, 65), (8, 513)]  # tokens, width
LOGITS = [(1, 1), (2, 31), (3, 4096), (8, 4097), (2, 10_007)]  # tokens, vocabulary
REAL = [(1, 102_400), (1, 129_280), (8, 129_280)]
