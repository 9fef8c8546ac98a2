"""What decode steps keep of a GPU's memory: the buffers of the graphs for 1, 2, 4 and 8 tokens.

`hybrid.runtime.gpu.step` has the buffers; here their lengths are added up. Each graph has its own.
"""

from placement.inventory import ModelShape

FLOAT_BYTES = 4
STEP_TOKENS = (1, 2, 4, 8)
MOST_PROCESSORS = 192  # multiprocessors of the largest GPUs; splits of attention fill them once
MOST_GROUP = 64  # heads of one split at most
STAMP_BYTES, STAMPS_OF_BLOCK, OTHER_STAMPS = 8, 4, 12
COUNT_BYTES = 4  # how often an expert was chosen
PART_COLUMNS = 32  # latent values that a block of `unfold` merges at least


def step_bytes(shape: ModelShape, *, head: bool) -> int:
    """Of all graphs of one GPU.

    head   whether the model's head is in them
    """
    token = _token_values(shape) + (shape.vocabulary if head else 0)
    values = sum(tokens * token + _split_values(shape, tokens) for tokens in STEP_TOKENS)
    return (
        FLOAT_BYTES * values + stamp_bytes(shape) + COUNT_BYTES * shape.layers * shape.expert_count
    )


def stamp_bytes(shape: ModelShape) -> int:
    """Of the one-token graph with stamps (`hybrid.runtime.gpu.stamps`): four a block, those at both
    ends.
    """
    return STAMP_BYTES * (STAMPS_OF_BLOCK * shape.layers + OTHER_STAMPS)


def _token_values(shape: ModelShape) -> int:
    """Activations of a token: the residual stream and its norm; attention's; the feed-forward's."""
    width, heads, row = shape.embedding_length, shape.head_count, shape.cache_row_length
    query_latent = width  # `ModelShape` does not have it; it is less
    attention = query_latent + heads * (shape.key_length + shape.value_length + row) + row
    merged = heads * (-(-shape.latent_length // PART_COLUMNS) * shape.value_length + 1)
    widest = max(shape.feed_forward_length, shape.shared_feed_forward_length)
    routed = shape.expert_count + shape.expert_used_count * (2 + shape.expert_feed_forward_length)
    return 2 * width + attention + merged + routed + widest


def _split_values(shape: ModelShape, tokens: int) -> int:
    """Each split's sum of rows, its largest score and its sum of weights."""
    heads = shape.head_count
    splits = max(MOST_PROCESSORS * min(heads, MOST_GROUP), tokens * heads)
    return splits * (shape.latent_length + 2)
