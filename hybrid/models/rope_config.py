"""Rotary embedding and attention scale as a file and the conventions settle them. No torch."""

import math
from dataclasses import dataclass

from hybrid.models.keys import Keys

LLAMA_CPP_BETAS = (32.0, 1.0)


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary embedding of the last `length` values of each head's key.

    linear_factor    divides every frequency; 1 with YaRN
    yarn_factor      0 without YaRN; original_context and the betas are YaRN's, see
                     `kernels.rope.Yarn`
    amplitude        multiplies rotated queries and keys
    attention_scale  multiplies the scores before the softmax: m² / sqrt(key length), m YaRN's
                     correction
    """

    length: int
    base: float
    attention_scale: float
    linear_factor: float = 1.0
    amplitude: float = 1.0
    yarn_factor: float = 0.0
    original_context: int = 0
    beta_fast: float = LLAMA_CPP_BETAS[0]
    beta_slow: float = LLAMA_CPP_BETAS[1]


def read_rope(keys: Keys, key_length: int, context_tokens: int, trained: bool) -> RopeConfig:
    """key_length: values of one head's key; context_tokens: the trained context, YaRN's when the
    file names no other.

    Raises UnsupportedModel for a scaling or a number that cannot be computed with.
    """
    length = keys.count("rope.dimension_count", key_length)
    if length % 2 or length >= key_length:
        raise keys.fault(
            "rope.dimension_count",
            f"is {length}: not an even part of a key of {key_length} values",
        )
    base = keys.number("rope.freq_base", 10000.0)
    if base <= 1:
        raise keys.fault("rope.freq_base", f"is {base}, not above 1")
    kind = keys.text("rope.scaling.type", "linear")
    if kind not in ("none", "linear", "yarn"):
        raise keys.fault(
            "rope.scaling.type", f"is {kind!r}", "known for this architecture: none, linear, yarn"
        )
    factor = keys.number("rope.scaling.factor", keys.number("rope.scale_linear", 0.0)) or 1.0
    plain_scale = 1.0 / math.sqrt(key_length)
    if kind == "yarn":
        rope = RopeConfig(length, base, plain_scale, yarn_factor=factor)
        return _with_yarn(keys, rope, context_tokens, trained)
    return RopeConfig(length, base, plain_scale, linear_factor=factor if kind == "linear" else 1.0)


def _with_yarn(keys: Keys, rope: RopeConfig, context_tokens: int, trained: bool) -> RopeConfig:
    """A file's log multiplier is a tenth of Hugging Face's mscale_all_dim: m = 1 + multiplier · ln
    factor.

    Without one, Hugging Face enlarges only the amplitude, llama.cpp the attention scale as well.
    """
    log_factor = math.log(rope.yarn_factor)
    multiplier = keys.number("rope.scaling.yarn_log_multiplier", 0.0)
    correction, amplitude = 1.0 + multiplier * log_factor, 1.0
    if multiplier == 0:
        amplitude = 1.0 + 0.1 * log_factor
        correction = 1.0 if trained else amplitude
    betas = LLAMA_CPP_BETAS
    if trained:
        betas = (
            keys.number("rope.scaling.yarn_beta_fast", betas[0], positive=True),
            keys.number("rope.scaling.yarn_beta_slow", betas[1], positive=True),
        )
    return RopeConfig(
        length=rope.length,
        base=rope.base,
        attention_scale=correction**2 * rope.attention_scale,
        amplitude=amplitude * keys.number("rope.scaling.attn_factor", 1.0, positive=True),
        yarn_factor=rope.yarn_factor,
        original_context=keys.count("rope.scaling.original_context_length", context_tokens),
        beta_fast=betas[0],
        beta_slow=betas[1],
    )
