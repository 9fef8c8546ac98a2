"""Seconds of one block at home on a GPU, by part: one token, or a micro-batch of a prompt.

    a token      block_us + weights / (copy · share) + cache rows / (copy · share)
                 experts in RAM: crossing + what the CPU takes longer than the GPU meanwhile
    a prompt     the longest of: the GPU's arithmetic and decoding of weights; the launches, which
                 run ahead of it; experts on their way over PCIe

`docs/planner.md` has the formulas with their sources. Parts that overlap are counted once, so that
they add up.
"""

from dataclasses import dataclass

from placement.cost.host import FLOATS, experts_of_a_prompt_s, read_s
from placement.cost.work import LayerWork, Matrices
from placement.inventory import ModelShape
from placement.machines.speeds import GpuSpeeds, HostSpeeds
from placement.memory.gpu_scratch import streams_experts
from placement.workload import Workload, cache_bytes

# docs/log.md: 128 heads, 16k to 64k rows: 268 TFLOP/s absorbed where prompts reach 422 to 482.
ABSORBED_SHARE = 0.6
# docs/log.md, 16 heads, 16k to 64k rows: q8_0 rows are read at 0.48 TB/s, 16-bit ones at 2.6.
QUANTISED_CACHE_SHARE = 0.18
# docs/log.md: with a q8_0 cache V2-Lite's blocks take 1.5, 5.2 and 12 us longer at depth 32 than
# with an f16 one in the same run.
QUANTISED_BLOCK_US = 5.0
# A large GPU cuts the cache into as many splits as it has multiprocessors, of 64 rows at least;
# each writes a float32 latent per head, and the merge reads it.
MOST_SPLITS, SPLIT_ROWS = 128, 64
# docs/log.md: weights are decoded to bfloat16 at 0.85 to 0.94 of the copy for all formats.
DECODER_SHARE = 0.9
BFLOAT16 = 2  # bytes
# Of what large square matrices reach: V2-Lite's block, 4096 tokens, 3.3 ms, of which attention and
# decoding take 0.9. Experts get uneven numbers of tokens, which are gathered, and added up again.
PROMPT_SHARE = 0.33


@dataclass(frozen=True, slots=True)
class Setting:
    """What all blocks of a run share."""

    shape: ModelShape
    workload: Workload
    host: HostSpeeds

    def row_bytes(self, rows: int) -> float:
        """Of so many cache rows of one layer and one sequence."""
        planned = self.workload.context_tokens * self.workload.sequences
        return rows * cache_bytes(self.shape, self.workload, 1) / planned


@dataclass(frozen=True, slots=True)
class Moment:
    """tokens that are computed at once, with `depth` before them in the cache."""

    depth: int
    tokens: int = 1

    @property
    def rows(self) -> int:
        return self.depth + self.tokens

    @property
    def scores(self) -> float:
        """Pairs of a token and a row it sees."""
        return self.tokens * (self.depth + (self.tokens + 1) / 2)


def product_s(weights: Matrices, gpu: GpuSpeeds) -> float:
    """One token times these: the memory's time, or the arithmetic's of formats that need more."""
    rate = gpu.copy_gb_s * 1e9 * gpu.product_share
    slow = max(weights.slow_bytes / rate, weights.slow_s)
    return (weights.nbytes - weights.slow_bytes) / rate + slow


def token_on_gpu(
    work: LayerWork, in_ram: float, depth: int, gpu: GpuSpeeds, setting: Setting
) -> dict[str, float]:
    """in_ram   share of the experts' choices that the CPU computes"""
    seconds = _cache_of_a_token(depth, gpu, setting)
    beside = product_s(work.beside, gpu)
    resident = product_s(work.chosen.part(1 - in_ram), gpu)
    seconds["GPU products"] = product_s(work.attention, gpu) + beside + resident
    quantised = setting.workload.cache_format == "q8_0"
    seconds["launch"] = (gpu.block_us + QUANTISED_BLOCK_US * quantised) * 1e-6
    if in_ram and work.experts:
        host = setting.host
        cpu = read_s(work.chosen.part(in_ram), host, setting.workload.threads, host.shard_gain)
        cpu += host.job_us * 1e-6
        seconds["crossing"] = gpu.crossing_us * 1e-6
        seconds["CPU experts"] = max(cpu - beside - resident, 0.0)
    return seconds


def _cache_of_a_token(depth: int, gpu: GpuSpeeds, setting: Setting) -> dict[str, float]:
    shape, workload = setting.shape, setting.workload
    rows = depth + 1
    copy = gpu.copy_gb_s * 1e9
    absorbed = 2 * shape.head_count * (shape.cache_row_length + shape.latent_length) * rows
    arithmetic = absorbed / (gpu.attention_tflops * 1e12 * ABSORBED_SHARE)
    splits = min(-(-rows // SPLIT_ROWS), MOST_SPLITS)
    merged = 2 * FLOATS * splits * shape.head_count * shape.latent_length / copy
    if workload.cache_in_ram:
        over_bus = setting.row_bytes(rows) / (gpu.to_gpu_gb_s * 1e9)
        return {
            "PCIe": over_bus,
            "GPU attention": max(arithmetic - over_bus, 0.0) + merged,
        }
    share = gpu.cache_share * (QUANTISED_CACHE_SHARE if workload.cache_format == "q8_0" else 1.0)
    reading = setting.row_bytes(rows) / (copy * share)
    return {"GPU attention": max(reading, arithmetic) + merged}


def prompt_on_gpu(
    work: LayerWork, in_ram: float, moment: Moment, gpu: GpuSpeeds, setting: Setting
) -> dict[str, float]:
    """Of a whole micro-batch; in_ram as above."""
    tokens = moment.tokens
    each = setting.workload.stream_tokens
    streams = streams_experts(tokens, work.used, max(work.experts, 1), each)
    streamed = in_ram if streams else 0.0
    computed = in_ram - streamed if work.experts else 0.0
    seconds = _attention_of_a_prompt(moment, gpu, setting)
    products = prompt_products_s(work.attention + work.beside, tokens, gpu)
    seconds["GPU products"] = products + _experts_s(work, 1 - computed, tokens, gpu)
    busy = seconds["GPU attention"] + seconds["GPU products"]
    seconds["launch"] = max(gpu.prompt_block_us * 1e-6 - busy, 0.0)
    arriving = streamed * work.routed.nbytes / (gpu.to_gpu_gb_s * 1e9)
    seconds["PCIe"] = seconds.get("PCIe", 0.0) + max(arriving - busy - seconds["launch"], 0.0)
    if computed:
        seconds["CPU experts"] = experts_of_a_prompt_s(
            work, computed, tokens, setting.host, setting.workload.threads
        )
        residual = FLOATS * tokens * setting.shape.embedding_length
        there, back = residual / gpu.to_host_gb_s, residual / gpu.to_gpu_gb_s
        seconds["crossing"] = gpu.crossing_us * 1e-6 + (there + back) * 1e-9
    return seconds


def _attention_of_a_prompt(moment: Moment, gpu: GpuSpeeds, setting: Setting) -> dict[str, float]:
    """Keys and values of every row unfolded for all heads, then causal attention over them."""
    shape = setting.shape
    expanded = 2 * shape.head_count * (shape.key_length + shape.value_length) * moment.scores
    wide = shape.head_count * (shape.key_length - shape.rope_length + shape.value_length)
    unfolding = 2 * moment.rows * shape.latent_length * wide / (gpu.matmul_tflops * 1e12)
    attention = expanded / (gpu.attention_tflops * 1e12) + unfolding
    if not setting.workload.cache_in_ram:
        return {"GPU attention": attention}
    over_bus = setting.row_bytes(moment.rows) / (gpu.to_gpu_gb_s * 1e9)
    return {"GPU attention": attention, "PCIe": over_bus}


def prompt_products_s(weights: Matrices, tokens: float, gpu: GpuSpeeds, read: float = 1.0) -> float:
    """Decoding the weights to bfloat16, and the products with so many tokens.

    tokens   that multiply each weight, on average where it is one of the experts
    read     share of the weights that any token needs
    """
    decoded = BFLOAT16 * weights.weights * read
    decoding = (weights.nbytes * read + decoded) / (gpu.copy_gb_s * 1e9 * DECODER_SHARE)
    arithmetic = 2 * tokens * weights.weights / (gpu.matmul_tflops * 1e12 * PROMPT_SHARE)
    return decoding + max(arithmetic, decoded / (gpu.copy_gb_s * 1e9))


def _experts_s(work: LayerWork, share: float, tokens: int, gpu: GpuSpeeds) -> float:
    if not work.experts or not share:
        return 0.0
    each = tokens * work.used / work.experts
    return prompt_products_s(work.routed.part(share), each, gpu, work.touched(tokens))
