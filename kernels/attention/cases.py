"""Shapes and allowed error of both attention forms, one truth for test and bench."""

from dataclasses import dataclass

RELATIVE_ERROR = 2e-6


@dataclass(frozen=True, slots=True)
class Case:
    """`tokens` queries after `start` cached rows; lengths in values."""

    tokens: int
    start: int
    heads: int
    nope: int = 10
    rope: int = 6
    value: int = 9
    latent: int = 24


SMALL = [
    Case(tokens=1, start=0, heads=1),
    Case(tokens=1, start=36, heads=3),
    Case(tokens=7, start=0, heads=2),
    Case(tokens=5, start=12, heads=4, nope=32, rope=16, value=64, latent=64),
]
V2_LITE = {"heads": 16, "nope": 128, "rope": 64, "value": 128, "latent": 512}
V3 = V2_LITE | {"heads": 128}
REAL = [
    Case(tokens=tokens, start=start, **shape)
    for shape in (V2_LITE, V3)
    for tokens, start in ((1, 1023), (1, 16383), (512, 0), (512, 4096))
]
