"""Scratch of a GPU's own kernels: buffers of decode steps, and what a prompt takes beside weights,
cache and the residual stream (`hybrid.runtime.gpu.prompt`).

    steps       `gpu_step_scratch.py`
    decoded     one buffer for pieces of decoded weights, for as long as the model is loaded
    streamed    buffers for experts that come from RAM, likewise
    passing     activations, keys and values of one block, at their widest

Each is an upper bound: what may live at the same time is added, what follows each other is the
larger one. Where a length is not in `ModelShape` (the query's latent) the embedding's is taken.
"""

from placement.inventory import ModelShape
from placement.memory.gpu_step_scratch import STEP_TOKENS, step_bytes
from placement.workload import FLOAT_BYTES, Hosted, Workload, compute_bytes

PRODUCT_BYTES = 2  # a value of bfloat16
# Weights decoded at once: enough experts to fill a large GPU, a fraction of a small one's memory.
DECODED_VALUES = 1 << 27
# Blocks of experts in one of the three buffers through which they come from RAM.
STAGED_BYTES = 128 << 20
STAGED_ALIGNMENT = 256  # bytes, of a matrix in a buffer
HEAD_ROWS = 64  # of logits on the GPU at once: as many as keep a copy to RAM fast
CACHE_ROWS_AT_ONCE = 4096  # of a q8_0 cache decoded at once
CACHE_DECODER_FLOATS = 12  # copies that its decoder has of a value
SORT_BYTES = 96  # of a pair of token and expert: keys, order and the sort's own copies
ROUTER_FLOATS = 12  # copies of an expert's score while a token's experts are chosen


def gpu_bytes(shape: ModelShape, workload: Workload, hosted: Hosted) -> int:
    """Scratch of a GPU: the sum of `gpu_parts`."""
    return sum(nbytes for _, nbytes in gpu_parts(shape, workload, hosted))


def gpu_parts(shape: ModelShape, workload: Workload, hosted: Hosted) -> tuple[tuple[str, int], ...]:
    """Scratch of a GPU by what it is for, in bytes."""
    reference = compute_bytes(shape, workload, hosted)
    if workload.kernels == "exact" or not hosted.homes:
        return (("the reference's scratch", reference),)
    streamed = 0
    used, experts = shape.expert_used_count, shape.expert_count
    if hosted.away_experts and streams_experts(
        workload.ubatch_tokens, used, experts, workload.stream_tokens
    ):
        streamed = stream_bytes(hosted.away_expert_bytes, hosted.away_experts)
    tokens = workload.ubatch_tokens
    hidden = FLOAT_BYTES * 2 * tokens * shape.embedding_length  # with the copy that arrives
    what, passing = "activations of a prompt's block", passing_bytes(shape, workload, PRODUCT_BYTES)
    rows = min(tokens, HEAD_ROWS)
    if hosted.head and FLOAT_BYTES * rows * shape.vocabulary > passing:
        what, passing = "logits", FLOAT_BYTES * rows * shape.vocabulary
    if not hosted.plain and reference > passing:
        what, passing = "the reference's scratch", reference
    return (
        ("buffers of decode steps", step_bytes(shape, head=hosted.head)),
        ("residual stream", hidden),
        ("decoded weights", PRODUCT_BYTES * decoded_values(shape)),
        ("slots of streamed experts", streamed),
        (what, passing),
    )


def streams_experts(tokens: int, used: int, experts: int, each: int) -> bool:
    """Whether a pass of so many tokens brings experts in RAM to the GPU.

    each   `Workload.stream_tokens`: with so many tokens an expert, its bytes come sooner over PCIe
           than the CPU multiplies them
    """
    return tokens * used >= each * experts


def computed_tokens(shape: ModelShape, workload: Workload) -> int:
    """Of the largest pass whose experts in RAM the CPU computes for plain blocks on GPUs: those of
    longer ones are streamed.
    """
    tokens, used, experts = workload.ubatch_tokens, shape.expert_used_count, shape.expert_count
    if workload.kernels == "exact" or not used:
        return tokens
    if not streams_experts(tokens, used, experts, workload.stream_tokens):
        return tokens
    computed = (workload.stream_tokens * experts - 1) // used
    return min(max(computed, STEP_TOKENS[-1]), tokens)


def prompt_bytes(
    shape: ModelShape,
    workload: Workload,
    *,
    streamed_bytes: int = 0,
    product_bytes: int = PRODUCT_BYTES,
) -> int:
    """All of a GPU's blocks together; they follow one another.

    streamed_bytes   `stream_bytes` of the experts in RAM, 0: none are streamed
    product_bytes    of a value in products
    """
    decoded = product_bytes * decoded_values(shape)
    passing = passing_bytes(shape, workload, product_bytes)
    return decoded + streamed_bytes + passing


def decoded_values(shape: ModelShape) -> int:
    """Weights that are decoded at once: of the largest matrices, but no more than DECODED_VALUES
    unless gate and up of one expert, or one row or head of a matrix, need it.
    """
    width, heads = shape.embedding_length, shape.head_count
    head = max(shape.key_length, shape.key_length - shape.rope_length + shape.value_length)
    expert = 2 * shape.expert_feed_forward_length * width + 64
    columns = max(width, shape.feed_forward_length, heads * shape.value_length)
    least = max(expert, columns, head * shape.latent_length)
    most = max(
        shape.expert_count * expert,
        width * max(shape.feed_forward_length, shape.shared_feed_forward_length),
        width * heads * max(shape.key_length, shape.value_length),
        heads * head * shape.latent_length,
    )
    return max(least, min(most, DECODED_VALUES))


def stream_bytes(expert_bytes: int, experts: int) -> int:
    """Of the three buffers through which experts come from RAM.

    expert_bytes   of the largest expert's gate, up and down together
    experts        most that a layer has in RAM
    """
    alignment = 3 * STAGED_ALIGNMENT
    one = min(max(STAGED_BYTES, expert_bytes + alignment), experts * expert_bytes + alignment)
    return 3 * -(-one // STAGED_ALIGNMENT) * STAGED_ALIGNMENT


def passing_bytes(shape: ModelShape, workload: Workload, product_bytes: int) -> int:
    """The widest moment of a block: before attention, in it, in the feed-forward."""
    tokens = workload.ubatch_tokens
    angles = tokens * shape.rope_length * 40  # in float64, then kept as complex numbers
    return angles + max(
        _entry_bytes(shape, tokens, product_bytes),
        _attention_bytes(shape, workload, product_bytes),
        _feed_forward_bytes(shape, tokens, product_bytes),
    )


def _entry_bytes(shape: ModelShape, tokens: int, product_bytes: int) -> int:
    """Norms with their copies, the cache row and its rotation, queries and theirs."""
    normed = shape.embedding_length * (4 * FLOAT_BYTES + 3 * product_bytes)
    row = shape.cache_row_length * (8 * FLOAT_BYTES + product_bytes)
    query = product_bytes * shape.key_length + 3 * FLOAT_BYTES * shape.rope_length
    return tokens * (normed + row + shape.head_count * query)


def _attention_bytes(shape: ModelShape, workload: Workload, product_bytes: int) -> int:
    """Queries and the heads' values; all cache rows; keys and values of some heads, the matrices
    that unfold them turned over. Then the heads' values and the block's output.
    """
    tokens, context, heads = workload.ubatch_tokens, workload.context_tokens, shape.head_count
    nope = shape.key_length - shape.rope_length
    queries = tokens * heads * (shape.key_length + shape.value_length)
    rows = context * shape.cache_row_length
    one_head = context * (nope + shape.value_length)
    work = min(heads * one_head, max(one_head, workload.attention_work_bytes // product_bytes))
    turned = heads * shape.latent_length * max(nope, shape.value_length)
    decoder = 0
    if workload.cache_format == "q8_0":
        at_once = min(context, CACHE_ROWS_AT_ONCE) * (shape.cache_row_length + 32)
        decoder = CACHE_DECODER_FLOATS * FLOAT_BYTES * at_once
    output = tokens * shape.embedding_length
    return product_bytes * (queries + rows) + max(
        decoder, product_bytes * max(work + turned, output)
    )


def _feed_forward_bytes(shape: ModelShape, tokens: int, product_bytes: int) -> int:
    """The norm's result as floats and for products; beside it the routed experts, their output
    from RAM, or the dense feed-forward.
    """
    width = shape.embedding_length
    widest = max(shape.feed_forward_length, shape.shared_feed_forward_length)
    dense = product_bytes * (2 * widest + width)
    pair = product_bytes * (width + shape.expert_feed_forward_length) + SORT_BYTES
    routed = shape.expert_used_count * pair + FLOAT_BYTES * width
    router = FLOAT_BYTES * shape.expert_count * (ROUTER_FLOATS * tokens + width)
    normed = width * (2 * FLOAT_BYTES + product_bytes)
    return tokens * (normed + max(dense, routed)) + router
