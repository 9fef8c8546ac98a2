"""What a run asks for beside weights: context, micro-batch, cache format; and the bytes that
follow.

Formulas give bytes of the reference kernels (float32 arithmetic); other kernels will bring their
own terms. Each is an upper bound: buffers that may live at the same time are added, those that
follow each other are the larger one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from placement.errors import PlacementError
from placement.inventory import ModelShape
from placement.machines.machine import CPU

CACHE_BYTES_PER_32_VALUES = {"f32": 128, "f16": 64, "bf16": 64, "q8_0": 34}
NUMA_POLICIES = ("interleave", "shard", "local", "off")
MAX_TOKENS = 1 << 32
MAX_SEQUENCES = 1 << 10
FLOAT_BYTES = 4
# Kernels decode at most this many values of a matrix at once, their decoders' own copies included.
DECODED_VALUES = 1 << 24
# A CPU of F FLOP/s takes 2 / F a weight and token, PCIe 4.5 bits / 55 GB/s a weight: F = 6e12.
STREAM_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Workload:
    """What the user wants to run.

    context_tokens         cache rows reserved per layer
    ubatch_tokens          prompt tokens computed at once
    cache_format           one of CACHE_BYTES_PER_32_VALUES
    attention_work_bytes   upper bound of attention's work buffer (-amb), but for the CPU's native
                           blocks: these take one head a thread (memory/native_scratch.py)
    threads                CPU threads; each has scratch of its own
    cache_in_ram           every layer's cache is in RAM (-nkvo); a GPU reads it over its bus
    kernels                "fast" or "exact": what GPUs compute with (memory/gpu_scratch.py)
    stream_tokens          that each expert must have on average for prompts to bring experts in RAM
                           to the GPU; with fewer the CPU computes them (cost/streaming.py)
    sequences              caches of context_tokens rows each (-np)
    numa_policy            page policy of weights in RAM (--numa, cost/node_reads.py)
    mapped                 weights in RAM stay in the file's map (--mmap, memory/file_map.py)
    """

    context_tokens: int
    ubatch_tokens: int = 512
    cache_format: str = "f16"
    attention_work_bytes: int = 256 << 20
    threads: int = 1
    cache_in_ram: bool = False
    kernels: str = "exact"
    stream_tokens: int = STREAM_TOKENS
    sequences: int = 1
    numa_policy: str = NUMA_POLICIES[0]
    mapped: bool = False


@dataclass(frozen=True, slots=True)
class Hosted:
    """What one device computes.

    layers              trunk blocks whose attention runs here
    routed_experts      whether experts of any layer run here
    head                whether the output head runs here
    embedding           whether token rows are looked up here
    matrix_values       values of the largest weight matrix here (one expert counts as one matrix)
    homes               trunk blocks at home here
    away_experts        most routed experts of such a block that are in RAM
    away_expert_bytes   of the largest of these, its matrices together
    plain               all of those blocks is here but for experts in RAM, and nothing of others
    """

    layers: int = 0
    routed_experts: bool = False
    head: bool = False
    embedding: bool = False
    matrix_values: int = 0
    homes: int = 0
    away_experts: int = 0
    away_expert_bytes: int = 0
    plain: bool = True


def check_workload(workload: Workload) -> None:
    """Raises PlacementError for counts that are not positive and unknown cache formats."""
    counts = {
        "context (-c)": (workload.context_tokens, MAX_TOKENS),
        "micro-batch (-ub)": (workload.ubatch_tokens, MAX_TOKENS),
        "attention work buffer (-amb)": (workload.attention_work_bytes, 1 << 60),
        "number of threads (-t)": (workload.threads, MAX_TOKENS),
        "number of tokens from which experts are streamed": (workload.stream_tokens, MAX_TOKENS),
        "number of sequences (-np)": (workload.sequences, MAX_SEQUENCES),
    }
    for name, (count, most) in counts.items():
        if not 0 < count <= most:
            raise PlacementError(
                f"the {name} is {count}; it must be between 1 and {most}",
                remedy="-c 4096 -ub 512 -amb 256 are good for a start",
            )
    if workload.kernels not in ("fast", "exact"):
        raise PlacementError(
            f"unknown kernels {workload.kernels!r}", remedy="--kernels takes fast or exact"
        )
    if workload.numa_policy not in NUMA_POLICIES:
        raise PlacementError(
            f"unknown NUMA policy {workload.numa_policy!r}",
            remedy=f"--numa takes one of {', '.join(NUMA_POLICIES)}",
        )
    if workload.cache_format not in CACHE_BYTES_PER_32_VALUES:
        raise PlacementError(
            f"unknown cache format {workload.cache_format!r}",
            remedy=f"-ctk takes one of {', '.join(CACHE_BYTES_PER_32_VALUES)}",
        )


def cache_homes(layers: Sequence[str], workload: Workload) -> tuple[str, ...]:
    """The device that holds each layer's cache.

    layers   home of each block
    """
    return (CPU,) * len(layers) if workload.cache_in_ram else tuple(layers)


def cache_bytes(shape: ModelShape, workload: Workload, layers: int) -> int:
    """layers · sequences · context · row bytes; a q8_0 row is padded to whole blocks of 32."""
    values = shape.cache_row_length
    if workload.cache_format == "q8_0":
        values = -(-values // 32) * 32
    row_bytes = values * CACHE_BYTES_PER_32_VALUES[workload.cache_format] // 32
    return layers * workload.sequences * workload.context_tokens * row_bytes


def compute_bytes(shape: ModelShape, workload: Workload, hosted: Hosted) -> int:
    """Scratch of one device: what stands through a block, plus the widest step inside it, plus the
    decoded part of a matrix.
    """
    if hosted == Hosted():
        return 0
    tokens = workload.ubatch_tokens
    # residual stream, its norm, the block's output and the arriving or leaving copy of a crossing
    hidden = 4 * tokens * shape.embedding_length
    steps = [0]
    if hosted.layers:
        steps.append(_attention_values(shape, workload))
        steps.append(_dense_values(shape, tokens))
    if hosted.routed_experts:
        steps.append(_expert_values(shape, tokens))
    if hosted.head:
        steps.append(tokens * shape.vocabulary)  # logits of every token of the micro-batch
    decoded = min(hosted.matrix_values, DECODED_VALUES)
    return FLOAT_BYTES * (hidden + max(steps) + decoded)


def _attention_values(shape: ModelShape, workload: Workload) -> int:
    tokens, heads = workload.ubatch_tokens, shape.head_count
    # queries as projected and as rotated, and the heads' outputs before attn_output
    queries = tokens * heads * (2 * shape.key_length + shape.value_length)
    # absorbed form: queries and results in the latent space
    latent = tokens * heads * (shape.cache_row_length + shape.latent_length)
    # the cache decoded to float32 once for all heads, and its latent part copied by matrix products
    # that take no rows with gaps
    rows = workload.context_tokens * (shape.cache_row_length + shape.latent_length)
    return queries + latent + rows + _attention_work_values(shape, workload)


def _attention_work_values(shape: ModelShape, workload: Workload) -> int:
    """Keys, values, scores and their softmax of as many heads as the bound allows, at least one."""
    context, tokens = workload.context_tokens, workload.ubatch_tokens
    one_head = context * (shape.key_length + shape.value_length) + 2 * tokens * context
    bound = workload.attention_work_bytes // FLOAT_BYTES
    return min(shape.head_count * one_head, max(one_head, bound))


def _dense_values(shape: ModelShape, tokens: int) -> int:
    """Gate, up and their product of the dense or the shared feed-forward; logits, scores and biased
    scores of the router.
    """
    widest = max(shape.feed_forward_length, shape.shared_feed_forward_length)
    return 3 * tokens * widest + 3 * tokens * shape.expert_count


def _expert_values(shape: ModelShape, tokens: int) -> int:
    """One expert at a time, at worst with all tokens: gathered input, gate, up, product, output;
    and the running sum.
    """
    return tokens * (3 * shape.embedding_length + 3 * shape.expert_feed_forward_length)
