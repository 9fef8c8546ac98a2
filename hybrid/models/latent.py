"""Multi-head latent attention (MLA): one cached row a token, of which all keys and values unfold.

    x ─ query ─────────────────► q_nope [H, nope], q_rope [H, rope] rotated
    x ─ attn_kv_a_mqa ─┬ norm ─► latent c [latent]          } the cache row
                       └────────► k_rope [rope] rotated     }

    expanded   k = [W_k c, k_rope], v = W_v c for every cached row, then ordinary attention
    absorbed   q' = W_kᵀ q_nope, attention against the cached rows themselves, then W_v

Both are the same sum. Expanded unfolds the whole cache at each step but has short rows; absorbed
unfolds only the new tokens but multiplies rows of `latent` values: it is cheaper for few tokens.

Shapes: T new tokens, S = start + T seen rows, H heads.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hybrid.models.config import KeyValueForm, ModelConfig
from hybrid.models.parts import HeadLinear, LayerCache, Linear, Norm, Parts, Step
from kernels.attention import absorbed_attention, expanded_attention
from kernels.rope import Yarn, frequencies, rope

FLOAT32_BYTES = 4
SCORE_COPIES = 2  # attention holds a query's scores before and after the softmax


@dataclass(frozen=True, slots=True)
class KeyValue:
    """The matrices that unfold a latent into each head's key and value.

    Files hold the key's matrix as [nope, latent] (attn_kv_b) or transposed (attn_k_b); both are
    used as they stand, because transposing quantised blocks would mean quantising them anew.
    """

    key_weight: HeadLinear
    key_is_transposed: bool
    value_weight: HeadLinear

    def key(self, latent: Tensor, heads: slice) -> Tensor:
        """latent [S, 1, latent] -> [S, h, nope]: W_k c."""
        return self.key_weight(latent, heads, transposed=self.key_is_transposed)

    def absorb(self, q_nope: Tensor) -> Tensor:
        """q_nope [T, H, nope] -> [T, H, latent]: W_kᵀ q."""
        return self.key_weight(q_nope, slice(None), transposed=not self.key_is_transposed)

    def value(self, latent: Tensor, heads: slice) -> Tensor:
        """latent [S, 1 or h, latent] -> [S, h, value]: W_v c."""
        return self.value_weight(latent, heads)


@dataclass(frozen=True, slots=True)
class LowRankQuery:
    """x [T, D] -> [T, H * (nope + rope)] through the query's own latent."""

    down: Linear
    norm: Norm
    up: Linear

    def __call__(self, x: Tensor) -> Tensor:
        return self.up(self.norm(self.down(x)))


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Attention of one block, x [T, D] -> [T, D].

    query         x -> [T, H * (nope + rope)], through the query's own latent where there is one
    compress      x -> [T, latent + rope]
    absorb_up_to  new tokens for which the absorbed form is taken
    work_bytes    bound on keys, values and scores at once, unless one head or query needs more
    """

    config: ModelConfig
    query: Callable[[Tensor], Tensor]
    compress: Linear
    latent_norm: Norm
    key_value: KeyValue
    output: Linear
    frequency: Tensor
    absorb_up_to: int
    work_bytes: int

    def __call__(self, x: Tensor, step: Step, cache: LayerCache) -> Tensor:
        cache.write(step.start, self._cache_rows(x, step))
        rows = cache.read(step.end)
        q = self.query(x).view(len(x), self.config.heads, self.config.key_length)
        q_nope, q_rope = torch.split(q, [self.config.nope, self.config.rope.length], dim=-1)
        q_rope = self._rotated(q_rope, step)
        if step.tokens <= self.absorb_up_to:
            head_values = self._absorbed(q_nope, q_rope, rows, step)
        else:
            head_values = self._expanded(torch.cat((q_nope, q_rope), dim=-1), rows, step)
        return self.output(head_values.flatten(-2))

    def _cache_rows(self, x: Tensor, step: Step) -> Tensor:
        """[T, latent + rope]: only the latent part is normalised, only the key part is rotated."""
        latent, k_rope = torch.split(self.compress(x), self._row_parts, dim=-1)
        return torch.cat((self.latent_norm(latent), self._rotated(k_rope, step)), dim=-1)

    def _rotated(self, x: Tensor, step: Step) -> Tensor:
        positions = step.positions(x.device)
        return rope(x, positions, self.frequency, self.config.rope.amplitude)

    def _absorbed(self, q_nope: Tensor, q_rope: Tensor, rows: Tensor, step: Step) -> Tensor:
        """Queries move into the latent's space, attend there, and come back as [T, H, value]."""
        scale = self.config.rope.attention_scale
        q_latent = self.key_value.absorb(q_nope)
        score_bytes = SCORE_COPIES * FLOAT32_BYTES * self.config.heads * step.end
        found = [
            absorbed_attention(
                q_latent[part], q_rope[part], rows[: step.start + part.stop], scale, first
            )
            for part, first in _queries(step, self.work_bytes // score_bytes)
        ]
        return self.key_value.value(torch.cat(found), slice(None))

    def _expanded(self, q: Tensor, rows: Tensor, step: Step) -> Tensor:
        """Keys and values of as many heads as half the work buffer holds at a time -> [T, H,
        value].
        """
        latent, k_rope = torch.split(rows, self._row_parts, dim=-1)
        head_bytes = FLOAT32_BYTES * step.end * (self.config.nope + self.config.value)
        group = max(1, self.work_bytes // 2 // head_bytes)
        found = []
        for first in range(0, self.config.heads, group):
            heads = slice(first, min(first + group, self.config.heads))
            k_nope = self.key_value.key(latent[:, None], heads)
            value = self.key_value.value(latent[:, None], heads)
            found.append(self._attend(q[:, heads], k_nope, k_rope, value, step))
        return torch.cat(found, dim=1)

    def _attend(
        self, q: Tensor, k_nope: Tensor, k_rope: Tensor, value: Tensor, step: Step
    ) -> Tensor:
        """Expanded attention of one group of heads, its scores within the other half of the work
        buffer.
        """
        scale = self.config.rope.attention_scale
        score_bytes = SCORE_COPIES * FLOAT32_BYTES * q.shape[1] * step.end
        found = []
        for part, first in _queries(step, self.work_bytes // 2 // score_bytes):
            seen = step.start + part.stop
            keys = (k_nope[:seen], k_rope[:seen], value[:seen])
            found.append(expanded_attention(q[part], *keys, scale, first))
        return torch.cat(found)

    @property
    def _row_parts(self) -> list[int]:
        return [self.config.latent, self.config.rope.length]


def build_attention(
    config: ModelConfig, parts: Parts, layer: int, absorb_up_to: int | None, work_bytes: int
) -> LatentAttention:
    """absorb_up_to None: up to the number of tokens at which both forms cost the same."""
    block, width = f"blk.{layer}.", config.embedding_length
    crossover = _crossover_tokens(config) if absorb_up_to is None else absorb_up_to
    return LatentAttention(
        config=config,
        query=_query(config, parts, block),
        compress=parts.linear(f"{block}attn_kv_a_mqa.weight", config.cache_row_length, width),
        latent_norm=parts.norm(f"{block}attn_kv_a_norm.weight", config.latent, config.norm_epsilon),
        key_value=_key_value(config, parts, block),
        output=parts.linear(f"{block}attn_output.weight", width, config.heads * config.value),
        frequency=rope_frequencies(config),
        absorb_up_to=crossover,
        work_bytes=work_bytes,
    )


def rope_frequencies(config: ModelConfig) -> Tensor:
    """[rope / 2] float64."""
    stated = config.rope
    if not stated.yarn_factor:
        return frequencies(stated.length, stated.base, linear_factor=stated.linear_factor)
    betas = (stated.beta_fast, stated.beta_slow)
    yarn = Yarn(stated.yarn_factor, stated.original_context, *betas)
    return frequencies(stated.length, stated.base, yarn=yarn)


def _query(config: ModelConfig, parts: Parts, block: str) -> Callable[[Tensor], Tensor]:
    width, rank = config.embedding_length, config.query_latent
    rows = config.heads * config.key_length
    if not rank:
        return parts.linear(f"{block}attn_q.weight", rows, width)
    return LowRankQuery(
        down=parts.linear(f"{block}attn_q_a.weight", rank, width),
        norm=parts.norm(f"{block}attn_q_a_norm.weight", rank, config.norm_epsilon),
        up=parts.linear(f"{block}attn_q_b.weight", rows, rank),
    )


def _key_value(config: ModelConfig, parts: Parts, block: str) -> KeyValue:
    heads, nope, value, latent = config.heads, config.nope, config.value, config.latent
    if config.key_value_form is KeyValueForm.JOINED:
        joined, shape = f"{block}attn_kv_b.weight", (heads, nope + value, latent)
        return KeyValue(
            key_weight=parts.head_linear(joined, shape, rows=slice(0, nope)),
            key_is_transposed=False,
            value_weight=parts.head_linear(joined, shape, rows=slice(nope, nope + value)),
        )
    return KeyValue(
        key_weight=parts.head_linear(f"{block}attn_k_b.weight", (heads, latent, nope)),
        key_is_transposed=True,
        value_weight=parts.head_linear(f"{block}attn_v_b.weight", (heads, value, latent)),
    )


def _crossover_tokens(config: ModelConfig) -> int:
    """Tokens at which absorbed and expanded attention multiply as much, whatever is cached: 171
    for DeepSeek's lengths.

    Per head and cached row, expanded spends latent · (nope + value) to unfold it and nope + value
    + rope a token; absorbed spends 2 · latent + rope a token.
    """
    unfolded = config.nope + config.value
    saved = 2 * config.latent - unfolded
    return config.latent * unfolded // saved if saved > 0 else config.context_tokens


def _queries(step: Step, at_once: int) -> Iterator[tuple[slice, int]]:
    """The step's tokens in runs of at most at_once (at least 1), each with the position of its
    first token.
    """
    at_once = max(1, at_once)
    for first in range(0, step.tokens, at_once):
        yield slice(first, min(first + at_once, step.tokens)), step.start + first
