"""DeepSeek V2, V2-Lite, V3, R1 and Kimi-K2 (GGUF architecture deepseek2).

    h = embedding(ids)
    for each block:   h += attention(norm(h));   h += feed_forward(norm(h))
    logits = head(norm(h))

Attention is `latent.py`, the feed-forward `moe.py`. Blocks of next-token prediction at a file's
end are not run. Sources: DeepSeek-V2 (arXiv 2405.04434) and DeepSeek-V3 (arXiv 2412.19437) reports.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from hybrid.models.config import ModelConfig
from hybrid.models.latent import LatentAttention, build_attention
from hybrid.models.moe import build_feed_forward
from hybrid.models.parts import Block, Embedding, Ending, LayerCache, Norm, Parts, Step

ATTENTION_WORK_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class DeepseekBlock:
    """h [T, D] -> [T, D]."""

    attention_norm: Norm
    attention: LatentAttention
    feed_forward_norm: Norm
    feed_forward: Callable[[Tensor], Tensor]

    def __call__(self, h: Tensor, step: Step, cache: LayerCache) -> Tensor:
        h = h + self.attention(self.attention_norm(h), step, cache)
        return h + self.feed_forward(self.feed_forward_norm(h))


@dataclass(frozen=True, slots=True)
class Model:
    """Embedding, blocks, and the way from the last block to logits."""

    config: ModelConfig
    embedding: Embedding
    blocks: tuple[Block, ...]
    ending: Ending

    def logits(self, ids: Tensor, step: Step, caches: Sequence[LayerCache], rows: int) -> Tensor:
        """Run `step`, whose tokens are `ids`, after what the caches hold, and add its rows to them.

        ids      [T] int64
        caches   one per layer, rows 0 .. step.start-1 filled
        rows     how many logits are wanted: those of the last `rows` tokens
        returns  [rows, vocabulary] float32
        """
        h = self.embedding(ids)
        for block, cache in zip(self.blocks, caches, strict=True):
            h = block(h, step, cache)
        return self.ending(h, rows)


def build(
    config: ModelConfig,
    parts: Parts,
    *,
    absorb_up_to: int | None = None,
    attention_work_bytes: int = ATTENTION_WORK_BYTES,
) -> Model:
    """The model of one file.

    absorb_up_to          new tokens for which attention is computed in its absorbed form, None:
                          where it costs less
    attention_work_bytes  bound on the keys, values and scores that attention holds at once

    Raises UnsupportedModel when a tensor is missing or has another shape.
    """
    width, epsilon = config.embedding_length, config.norm_epsilon
    head = "token_embd.weight" if config.tied_head else "output.weight"

    def block(layer: int) -> Block:
        made = DeepseekBlock(
            parts.norm(f"blk.{layer}.attn_norm.weight", width, epsilon),
            build_attention(config, parts, layer, absorb_up_to, attention_work_bytes),
            parts.norm(f"blk.{layer}.ffn_norm.weight", width, epsilon),
            build_feed_forward(config, parts, layer),
        )
        return parts.place(layer, made)

    return Model(
        config,
        parts.embedding("token_embd.weight", config.vocabulary, width),
        tuple(block(layer) for layer in range(config.layers)),
        parts.ending(
            parts.norm("output_norm.weight", width, epsilon),
            parts.linear(head, config.vocabulary, width),
        ),
    )
