"""Tokens per second that a plan will reach, what the time goes into, and what binds it. Plain data:
`cost/predict.py` computes it, `report/text.py` shows it, `report/audit.py` holds it against a run.
"""

from collections.abc import Mapping
from dataclasses import dataclass

# What the time of a token or a prompt goes into, in the order of reports.
PARTS = (
    "GPU attention",
    "GPU products",
    "CPU attention",
    "CPU experts",
    "CPU products",
    "disc",
    "PCIe",
    "crossing",
    "launch",
    "host",
)

# Ends the source of a prediction whose formulas read RAM where caches may do.
IN_CACHES = "; a model so small may lie in caches, which no formula counts"


@dataclass(frozen=True, slots=True)
class Pace:
    """Speed at one depth.

    depth          tokens in the cache before: of the token that is decoded, or of the prompt
    tokens         of the prompt; 1 for decoding
    tokens_per_s   of them
    seconds        per token, by part of PARTS; what overlaps is left out, so that they add up
    """

    depth: int
    tokens: int
    tokens_per_s: float
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Prediction:
    """Of a whole plan.

    decode   one token at depths 0, 4096, 16384, 65536 and the last of the context, as far as it
             reaches
    prompt   a prompt of one micro-batch at least, at the same depths
    error    share by which the figures may be wrong, to both sides
    limit    what binds decoding, in words: "RAM read on CPU: 7.6 of 9.2 ms a token"
    source   of the speeds it comes from
    """

    decode: tuple[Pace, ...]
    prompt: tuple[Pace, ...]
    error: float
    limit: str
    source: str
