"""Choices shared by tests: shape of `chosen`, experts."""

CHOICES = [((1, 1), 1), ((1, 8), 256), ((3, 6), 7), ((129, 6), 64)]
