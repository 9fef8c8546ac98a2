"""GPU attention: decode steps in a replayed graph beside the memory's floor, and prompts.

    python -m tools.bench.gpu_attention [--heads 16,128] [--rows 1024,4096] [--batch 1]
        [--formats bf16,f16,q8_0] [--no-prompts] [--sweep] [--sweep-prompts]

split us     of one layer's split kernel; every layer of the graph has a cache of its own, in all
             more than the L2 cache holds
step us      split and merge; the launches of a step overlap as they do in a decode graph
floor us     the cache rows over what a copy reads and writes a second, measured just before
of floor     floor over step; 1 is the limit
FlashMLA us  its step with its own merge, where the package flash_mla with its legacy kernels is
             installed (bf16 only); NaN where not
error        relative, against float32 products over the same rows

--sweep tries tiles and splits and prints the fastest of every length; --sweep-prompts tiles of
prompts.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.attention import gpu
from kernels.attention.gpu_plan import Splits, Tiles, split_buffers, splits_of
from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize
from kernels.quantize import Q8_0, quantize_q8_0
from kernels.testing import compare
from tools.bench.flags import counts, positive
from tools.bench.gpu_attention_prompts import prompt_rows, sweep_prompts
from tools.bench.gpu_time import DEVICE, copy_gb_s, each_us, need_gpu
from tools.bench.table import Cell, show

LATENT, ROPE, SCALE = 512, 64, 192**-0.5
FORMATS = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32, "q8_0": torch.uint8}
COLD_BYTES = 160 << 20  # of all layers' caches: more than twice an H200's L2
MOST_LAYERS = 64
PAGE = 64  # rows, as FlashMLA's kernels want it
COLUMNS = ("format", "heads", "batch", "rows", "split us", "step us", "floor us", "of floor")
COLUMNS += ("FlashMLA us", "error")
SWEPT = (
    *(Tiles(heads, 64, stages, 8, True) for heads in (16, 32, 64) for stages in (1, 2)),
    *(Tiles(16, 64, stages, 4, True) for stages in (1, 2)),
    Tiles(16, 32, 3, 4),
    Tiles(16, 32, 4, 4),
    Tiles(16, 64, 2, 4),
    Tiles(16, 64, 3, 8),
    Tiles(32, 32, 3, 8),
)


@dataclass(frozen=True)
class Steps:
    """The attention of every layer of a decode step, `layers` of them with a cache each."""

    q: Tensor
    caches: list[Tensor]
    seen: Tensor
    splits: Splits
    tiles: Tiles | None = None

    def launches(self, merge: bool = True) -> tuple[Callable[[Tensor], None], Tensor]:
        """What a graph captures of a layer, given its cache, and where its attention lands."""
        tokens, heads, _ = self.q.shape
        cache = self.caches[0].dtype
        buffers = split_buffers(tokens, heads, LATENT, self.splits, DEVICE, cache)
        out = torch.empty(tokens, heads, LATENT, device=DEVICE)

        def launch(cache: Tensor) -> None:
            gpu.absorbed_split(
                *(self.q, cache, self.seen, *buffers, SCALE), splits=self.splits, tiles=self.tiles
            )
            if merge:
                gpu.merge_splits(*buffers, self.seen, self.splits, out)

        return launch, out

    def step_us(self, merge: bool = True) -> float:
        return each_us(self.launches(merge)[0], self.caches)


def make_steps(heads: int, batch: int, rows: int, name: str) -> Steps:
    dtype = FORMATS[name]
    row_bytes = Q8_0.row_bytes(LATENT + ROPE) if name == "q8_0" else 576 * dtype.itemsize
    layers = min(MOST_LAYERS, math.ceil(COLD_BYTES / (rows * row_bytes)) + 1)
    caches = []
    for _ in range(layers):
        values = torch.randn(rows, LATENT + ROPE, device=DEVICE)
        caches.append(quantize_q8_0(values).blocks if name == "q8_0" else values.to(dtype))
    q = torch.randn(batch, heads, LATENT + ROPE, device=DEVICE)
    seen = torch.full((batch,), rows, dtype=torch.int32, device=DEVICE)
    return Steps(q, caches, seen, splits_of(DEVICE, heads, batch))


def error_of(steps: Steps) -> float:
    launch, out = steps.launches()
    rows = steps.caches[-1]
    launch(rows)
    if rows.dtype == torch.uint8:
        rows = dequantize(BlockTensor(rows, Q8_0, LATENT + ROPE))
    rows = rows.float()
    weights = (SCALE * steps.q @ rows.T).softmax(-1)
    return compare(out, weights @ rows[:, :LATENT]).relative_error


def flash_mla_us(steps: Steps) -> float:
    """FlashMLA's dense decode over the same rows; NaN where it is not installed."""
    try:
        from flash_mla import (  # noqa: PLC0415
            flash_mla_with_kvcache,
            get_mla_metadata,
            has_legacy,
        )
    except (ImportError, OSError, RuntimeError):
        return math.nan
    batch, heads, width = steps.q.shape
    rows = len(steps.caches[0])
    if steps.caches[0].dtype != torch.bfloat16 or not has_legacy() or rows % PAGE:
        return math.nan
    q = steps.q.bfloat16().view(batch, 1, heads, width)
    table = torch.arange(rows // PAGE, dtype=torch.int32, device=DEVICE).repeat(batch, 1)
    plan, _ = get_mla_metadata()

    def launch(cache: Tensor) -> None:
        pages = cache.view(-1, PAGE, 1, width)
        lengths = (table, steps.seen, LATENT, plan)
        flash_mla_with_kvcache(q, pages, *lengths, softmax_scale=SCALE, use_legacy=True)

    return each_us(launch, steps.caches)


def decode_rows(options: argparse.Namespace, gb_s: float) -> list[list[Cell]]:
    cells: list[list[Cell]] = []
    for name in options.formats:
        for heads in options.heads:
            for rows in options.rows:
                steps = make_steps(heads, options.batch, rows, name)
                step_us = steps.step_us()
                floor_us = steps.caches[0].nbytes / gb_s / 1e3
                cells.append(
                    [
                        *(name, heads, options.batch, rows, steps.step_us(merge=False), step_us),
                        *(floor_us, floor_us / step_us, flash_mla_us(steps), error_of(steps)),
                    ]
                )
    return cells


def sweep(options: argparse.Namespace) -> list[list[Cell]]:
    """Every length's fastest tiles and splits, five a length."""
    cells: list[list[Cell]] = []
    for name in options.formats:
        for heads in options.heads:
            for rows in options.rows:
                steps = make_steps(heads, options.batch, rows, name)
                timed = sorted(_variants(steps, heads), key=lambda each: each[0])
                cells += [[name, heads, rows, *each] for each in timed[:5]]
    return cells


def _variants(steps: Steps, heads: int) -> list[list[Cell]]:
    processors = torch.cuda.get_device_properties(DEVICE).multi_processor_count
    batch = len(steps.q)
    half = steps.caches[0].dtype in (torch.float16, torch.bfloat16)
    found: list[list[Cell]] = []
    for tiles in SWEPT:
        if tiles.heads >= 2 * max(16, heads) or (tiles.bulk and not half):
            continue
        groups = -(-heads // tiles.heads) * batch
        caps = {max(1, times * processors // groups) for times in (1, 2)}
        for splits in (Splits(cap, least) for cap in caps for least in (64, 128, 256)):
            variant = Steps(steps.q, steps.caches, steps.seen, splits, tiles)
            found.append([_time_or_nan(variant), splits.cap, splits.min_tokens, str(tiles)])
    return [each for each in found if not math.isnan(float(each[0]))]


def _time_or_nan(steps: Steps) -> float:
    """NaN where the tiles do not fit into the device's shared memory or registers."""
    try:
        steps.launches()[0](steps.caches[0])
    except Exception as error:  # noqa: BLE001  Triton has a class of its own for every limit
        print(f"left out {steps.tiles}: {type(error).__name__}")
        return math.nan
    return steps.step_us()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heads", type=counts, default=[16, 128])
    parser.add_argument("--rows", type=counts, default=[1024, 4096, 16384, 65536, 131072])
    parser.add_argument("--batch", type=positive, default=1)
    parser.add_argument("--formats", type=lambda text: text.split(","), default=["bf16", "q8_0"])
    parser.add_argument("--no-prompts", action="store_true")
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--sweep-prompts", action="store_true")
    options = parser.parse_args()
    need_gpu("attention")
    torch.manual_seed(1)
    gb_s = copy_gb_s()
    print(f"copy bandwidth {gb_s:.0f} GB/s, bytes read and written")
    show("gpu attention, decode", COLUMNS, decode_rows(options, gb_s))
    if options.sweep:
        columns = ("format", "heads", "rows", "step us", "cap", "min tokens", "tiles")
        show("gpu attention, sweep", columns, sweep(options))
    if not options.no_prompts:
        show(*prompt_rows(options.heads))
    if options.sweep_prompts:
        show(*sweep_prompts(options.heads))


if __name__ == "__main__":
    main()
