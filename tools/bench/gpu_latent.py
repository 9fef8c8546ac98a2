"""What stands around decode attention in a step, launch by launch in a replayed graph:
`prepare`, `unfold` (kernels/latent_block) and both ends of a step (kernels/step).

    python -m tools.bench.gpu_latent [--sweep]

First every shape is checked against float64; a wrong one ends the bench. Then a graph holds the
launch once for each of many layers, whose weights together are larger than the GPU's second cache;
what attention leaves is the same memory for all, as in a step. Launches overlap as they do there.
--sweep also tries other tiles and parts than the kernels choose by themselves.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from kernels.dequantize import dequantize
from kernels.latent_block import gpu_cases as cases
from kernels.latent_block.gpu import (
    Angles,
    HeadRows,
    NewRows,
    Queries,
    SplitResults,
    UnfoldScratch,
    prepare,
    unfold,
    unfold_scratch,
)
from kernels.latent_block.gpu_cases import Case
from kernels.planar import PlanarTensor, to_blocks
from kernels.step import ArgmaxScratch, Greatest, argmax, argmax_scratch, begin_step, step_input
from tools.bench.gpu_time import DEVICE, each_us, need_gpu
from tools.bench.table import Cell, show

COLUMNS = ("work", "weights", "heads", "tokens", "choice", "us", "weights GB/s", "error")
MODELS = (cases.LITE, cases.V3)
FORMATS = ("Q8_0", "BF16")
TOKENS = (1, 4, 8)
SPLITS = {16: 132, 128: 66}  # of one token, by heads: attention fills the GPU once
SEEN = 16_384
PAST_CACHE_BYTES = 160 << 20
STEPS = 20  # launches of a graph whose work has no weights
ALLOWED = {"F32": 1e-5, "BF16": 1e-5, "Q8_0": 2e-2}
CACHES = ("BF16", "Q8_0")


@dataclass(frozen=True, slots=True)
class Layers:
    """Weights of as many layers as pass the cache; one layer's in `nbytes`."""

    key: list[HeadRows]
    value: list[HeadRows]

    @property
    def nbytes(self) -> int:
        return self.key[0].weight.nbytes


def main(words: Sequence[str] | None = None) -> None:
    arguments = _arguments(words)
    need_gpu("launches")
    rows: list[list[Cell]] = []
    for model in MODELS:
        for name in FORMATS:
            layers = _layers(replace(model, format=name), DEVICE)
            for tokens in TOKENS:
                case = replace(model, format=name, tokens=tokens)
                rows += _prepare_rows(case, layers, arguments, DEVICE)
                rows += _unfold_rows(case, layers, arguments, DEVICE)
    rows += _step_rows(DEVICE)
    show("latent", COLUMNS, rows)


def _layers(case: Case, device: torch.device) -> Layers:
    """The first is random, the others are copies in memory of their own."""
    first = cases.head_rows_of(case, cases.matrices_of(case), device)
    count = -(-PAST_CACHE_BYTES // first[0].weight.nbytes)
    key, value = ([one, *(_copy(one) for _ in range(count - 1))] for one in first)
    return Layers(key, value)


def _copy(rows: HeadRows) -> HeadRows:
    weight = rows.weight
    copied = PlanarTensor(weight.data.clone(), weight.format, weight.shape, weight.total_rows)
    return HeadRows(copied, rows.first, rows.count)


def _prepare_rows(
    case: Case, layers: Layers, arguments: argparse.Namespace, device: torch.device
) -> Iterator[list[Cell]]:
    queries = cases.queries_of(case, layers.key[0], device)
    angles = cases.angles_of(case, device)
    for cache_format in CACHES:
        fresh = cases.new_rows_of(case, cache_format, device)
        error = _prepare_error(case, queries, fresh, angles)
        for tile in (None, 64, 128, 256, 512) if arguments.sweep else (None,):
            us = each_us(partial(_prepare, queries, fresh, angles, tile), layers.key)
            choice = f"{cache_format} cache, tile {tile or 'own'}"
            yield _row(f"prepare {choice}", case, layers.nbytes, us, error)


def _prepare(
    queries: Queries, fresh: NewRows, angles: Angles, tile: int | None, key: HeadRows
) -> None:
    prepare(replace(queries, key=key), fresh, angles, tile_values=tile)


def _unfold_rows(
    case: Case, layers: Layers, arguments: argparse.Namespace, device: torch.device
) -> Iterator[list[Cell]]:
    cap = max(1, SPLITS[case.heads] // case.tokens)
    seen = torch.full((case.tokens,), SEEN)
    results = cases.results_of(case, cap, (64, 64), seen, device)
    out = torch.empty(case.tokens, case.heads, case.value, device=device)
    for columns in (None, 32, 64, 128, 256) if arguments.sweep else (None,):
        scratch = unfold_scratch(case.tokens, layers.value[0], part_columns=columns)
        error = _unfold_error(results, layers.value[0], out, scratch)
        us = each_us(partial(_unfold, results, out, scratch), layers.value)
        choice = f"{cap} splits, part {scratch.part_columns}{'' if columns else ' own'}"
        yield _row(f"unfold {choice}", case, layers.nbytes, us, error)


def _unfold(results: SplitResults, out: Tensor, scratch: UnfoldScratch, value: HeadRows) -> None:
    unfold(results, value, out, scratch)


def _step_rows(device: torch.device) -> Iterator[list[Cell]]:
    for tokens in (1, 8):
        source = step_input(tokens, 7168, torch.device("cpu"), pinned=True)
        target = step_input(tokens, 7168, device)
        us = each_us(partial(begin_step, source), [target] * STEPS)
        yield ["begin_step", "", 0, tokens, "width 7168", us, 0, 0.0]
        logits = torch.randn(tokens, 129_280, device=device)
        found = Greatest(
            torch.empty(tokens, dtype=torch.int32, device=device),
            torch.empty(tokens, device=device),
        )
        host = Greatest(
            torch.empty(tokens, dtype=torch.int32).pin_memory(), torch.empty(tokens).pin_memory()
        )
        scratch = argmax_scratch(tokens, 129_280, device)
        us = each_us(partial(_argmax, found, scratch, host), [logits] * STEPS)
        wrong = int((host.index != logits.argmax(-1).cpu()).sum())
        if wrong:
            raise SystemExit(f"error: argmax is wrong for {wrong} of {tokens} tokens")
        yield ["argmax", "", 0, tokens, "vocabulary 129280", us, 0, 0.0]


def _argmax(found: Greatest, scratch: ArgmaxScratch, host: Greatest, logits: Tensor) -> None:
    argmax(logits, found, scratch, host)


def _row(work: str, case: Case, nbytes: int, us: float, error: float) -> list[Cell]:
    name, _, choice = work.partition(" ")
    if not error < ALLOWED[case.format]:
        raise SystemExit(f"error: {work} of {case} is off by {error:.1e}, nothing was measured")
    return [name, case.format, case.heads, case.tokens, choice, us, nbytes / us / 1e3, error]


def _prepare_error(case: Case, queries: Queries, fresh: NewRows, angles: Angles) -> float:
    """Of the absorbed part, against float64 and inputs that are not rounded."""
    queries.absorbed.fill_(torch.nan)
    prepare(queries, fresh, angles)
    q = queries.q[..., : case.nope].double()
    key = dequantize(to_blocks(queries.key.weight)).double()
    return _distance(queries.absorbed[..., : case.latent], torch.einsum("thn,hln->thl", q, key))


def _unfold_error(
    results: SplitResults, value: HeadRows, out: Tensor, scratch: UnfoldScratch
) -> float:
    out.fill_(torch.nan)
    unfold(results, value, out, scratch)
    count = cases.split_count(results, 0)
    most, sums = results.statistics[:, :, :count].double().unbind(-1)
    weight = torch.exp2(most - most.amax(-1, keepdim=True))
    merged = torch.einsum("ths,thsl->thl", weight, results.partial[:, :, :count].double())
    merged /= (weight * sums).sum(-1)[..., None]
    matrices = dequantize(to_blocks(value.weight)).double()
    return _distance(out, torch.einsum("thl,hvl->thv", merged, matrices))


def _distance(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected).norm() / expected.norm())


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="launches around decode attention")
    parser.add_argument("--sweep", action="store_true", help="try other tiles and parts too")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
