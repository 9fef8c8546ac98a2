"""Contract: multi-head latent attention over the cached rows, absorbed (decode) and expanded (prompts)."""

from torch import Tensor


def absorbed_attention(
    q_latent: Tensor, q_rope: Tensor, rows: Tensor, scale: float, start: int
) -> Tensor:
    """Causal attention with one shared key row per token, values being the first latent_length of it.

    q_latent  [tokens, heads, latent] float32   queries multiplied by W_UK
    q_rope    [tokens, heads, rope] float32     rotated
    rows      [start + tokens, latent + rope] float32   cache rows, oldest first
    scale     multiplies the scores before the softmax
    start     position of the first query: query i sees rows 0 .. start + i
    returns   [tokens, heads, latent] float32, still to be multiplied by W_UV
    """
    raise AssertionError("written by the model's author")


def expanded_attention(
    q: Tensor, k_nope: Tensor, k_rope: Tensor, v: Tensor, scale: float, start: int
) -> Tensor:
    """Causal attention with per-head keys and values, all heads sharing the rotated key part.

    q        [tokens, heads, nope + rope] float32
    k_nope   [start + tokens, heads, nope] float32
    k_rope   [start + tokens, rope] float32
    v        [start + tokens, heads, value] float32
    returns  [tokens, heads, value] float32
    """
    raise AssertionError("written by the model's author")
