"""Scratch of the CPU's native kernels: what a pass over one block takes at most.

Workers share the activations of a pass; each worker has memory of its own beside it. The exact
bytes depend on the weights' formats and are known when a model is built (`kernels.latent_block`);
these bounds hold for all of them and both kinds of kernels.
"""

from placement.inventory import ModelShape
from placement.workload import FLOAT_BYTES, Workload

# A value as products take it: float32 and its share of a token tile's scales and padding.
PACKED_BYTES = 4.5
TILE_TOKENS = 16  # lists of tokens are padded to whole tiles
# Longer contexts are never unfolded: keys and values of one head would fill a worker's memory.
EXPANDED_ROWS = 16384
OWN_BYTES = 4 << 20  # of a worker: slabs of weights, tiles of attention


def native_bytes(shape: ModelShape, workload: Workload, *, attention: bool) -> int:
    """Of all workers together.

    attention   of whole blocks; else routed experts alone are computed here
    """
    feed_forward = _feed_forward_bytes(shape, workload.ubatch_tokens)
    if not attention:
        return feed_forward + workload.threads * OWN_BYTES
    own = workload.threads * _worker_bytes(shape, workload)
    return _attention_bytes(shape, workload) + feed_forward + own


def _attention_bytes(shape: ModelShape, workload: Workload) -> int:
    """Queries, the heads' outputs and both as inputs of products; then the cache as floats and as
    an input, or queries and partial results in the latent's space, whichever is more.
    """
    tokens, heads = workload.ubatch_tokens, shape.head_count
    width, row = shape.embedding_length, shape.cache_row_length
    queries = tokens * (heads * shape.key_length + 4 * width + row)
    results = tokens * heads * shape.value_length
    packed = tokens * (4 * width + heads * shape.value_length)
    expanded = min(workload.context_tokens, EXPANDED_ROWS) * (row + 2 * 2 * shape.latent_length)
    partials = max(2 * tokens, 6 * workload.threads) * heads * (shape.latent_length + 18)
    absorbed = tokens * heads * row + partials
    floats = queries + results + max(int(1.5 * expanded), absorbed)
    return int(FLOAT_BYTES * floats + PACKED_BYTES * packed)


def _feed_forward_bytes(shape: ModelShape, tokens: int) -> int:
    """Dense or shared, and routed: inputs of gate, up and down, and the hidden values."""
    width = shape.embedding_length
    widest = max(shape.feed_forward_length, shape.shared_feed_forward_length)
    passes = tokens + TILE_TOKENS
    dense = passes * (2 * PACKED_BYTES * width + (PACKED_BYTES + FLOAT_BYTES) * widest)
    if not shape.expert_count:
        return int(dense)
    pairs = tokens * shape.expert_used_count
    padded = pairs + TILE_TOKENS * min(pairs, shape.expert_count)
    hidden = shape.expert_feed_forward_length
    routed = padded * (2 * PACKED_BYTES * width + (PACKED_BYTES + FLOAT_BYTES) * hidden)
    router = FLOAT_BYTES * tokens * (shape.expert_count + 2 * shape.expert_used_count)
    return int(dense + routed + router)


def _worker_bytes(shape: ModelShape, workload: Workload) -> int:
    """One head's keys and values, its queries, and what a unit of work needs."""
    tokens = workload.ubatch_tokens
    rows = min(workload.context_tokens, EXPANDED_ROWS)
    head = shape.key_length + shape.value_length
    values = rows * head + 2 * tokens * (head + shape.latent_length)
    return OWN_BYTES + FLOAT_BYTES * values
