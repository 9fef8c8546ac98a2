"""Seconds of what the CPU computes, by part: experts for a GPU, and blocks at home in RAM.

a token      bytes / (RAM · share), or the cores' arithmetic where a format needs more
a prompt     products / matmul, or bytes / RAM where few tokens share an expert
"""

from placement.cost.work import LayerWork, Matrices
from placement.inventory import ModelShape
from placement.machines.speeds import HostSpeeds

FLOATS = 4  # bytes of a float32
# A block's jobs: 11 barriers between its phases where a layer's experts have 3, and matrices so
# small that the RAM idles at each. 16 cores lost 127 us a block beside 21 of an experts' job.
JOBS_OF_A_BLOCK = 5
# Of what a large matrix reaches with many tokens: 1.1 to 1.2 TFLOP/s on 2 Zen 5 cores by the slabs
# of docs/log.md. Whole prompts of 512 keep three quarters: experts get uneven shares of tokens,
# which are gathered and rounded; attention's float32 reaches 130 GFLOP/s a core, absorbed and
# expanded (`tools.bench.kernels --ops attention`).
PROMPT_SHARE, ATTENTION_SHARE = 0.75, 0.23
# Taking a weight out of its block costs as much as products with so many tokens: docs/log.md, slabs
# of IQ4_NL, 262 us at 16 tokens and 10.9 more for each one.
UNPACKED_TOKENS = 8


def read_s(weights: Matrices, host: HostSpeeds, threads: int, gain: float = 1.0) -> float:
    """One token times these: the RAM's time or the arithmetic's.

    gain   `host.shard_gain` for routed experts
    """
    reading = weights.nbytes / (host.read_gb_s * 1e9 * host.product_share * gain)
    return max(reading, weights.core_s / threads)


def token_on_host(
    work: LayerWork, depth: int, shape: ModelShape, host: HostSpeeds, threads: int
) -> dict[str, float]:
    """A whole block in RAM; its cache's rows are few bytes beside their arithmetic."""
    absorbed = 2 * shape.head_count * (shape.cache_row_length + shape.latent_length)
    seconds = {
        "CPU products": read_s(work.attention + work.beside, host, threads),
        "CPU attention": absorbed * (depth + 1) / _attention_flops(host),
        "launch": JOBS_OF_A_BLOCK * host.job_us * 1e-6,
    }
    if work.experts:
        seconds["CPU experts"] = read_s(work.chosen, host, threads, host.shard_gain)
    return seconds


def prompt_on_host(
    work: LayerWork, tokens: int, scores: float, shape: ModelShape, host: HostSpeeds, threads: int
) -> dict[str, float]:
    """A micro-batch of so many tokens, of which `scores` pairs see each other."""
    expanded = 2 * shape.head_count * (shape.key_length + shape.value_length) * scores
    seconds = {
        "CPU products": _products_s(work.attention + work.beside, tokens, host, threads),
        "CPU attention": expanded / _attention_flops(host),
        "launch": JOBS_OF_A_BLOCK * host.job_us * 1e-6,
    }
    if work.experts:
        seconds["CPU experts"] = experts_of_a_prompt_s(work, 1.0, tokens, host, threads)
    return seconds


def experts_of_a_prompt_s(
    work: LayerWork, share: float, tokens: int, host: HostSpeeds, threads: int
) -> float:
    """Of a layer's routed experts; share   of their choices."""
    each = tokens * work.used / work.experts
    job = host.job_us * 1e-6
    weights, touched = work.routed.part(share), work.touched(tokens)
    reading = read_s(weights.part(touched), host, threads, host.shard_gain)
    return job + max(_arithmetic_s(weights, each, host, touched), reading)


def _products_s(weights: Matrices, tokens: int, host: HostSpeeds, threads: int) -> float:
    return max(_arithmetic_s(weights, tokens, host), read_s(weights, host, threads))


def _arithmetic_s(
    weights: Matrices, tokens: float, host: HostSpeeds, touched: float = 1.0
) -> float:
    """touched   share of the weights that any of the tokens needs"""
    unpacked = UNPACKED_TOKENS * touched * weights.weights
    return 2 * (tokens * weights.weights + unpacked) / (host.matmul_tflops * 1e12 * PROMPT_SHARE)


def _attention_flops(host: HostSpeeds) -> float:
    return host.matmul_tflops * 1e12 * ATTENTION_SHARE
