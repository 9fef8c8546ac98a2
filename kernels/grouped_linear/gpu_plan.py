"""Tiles of the grouped products, chosen by plain arithmetic: nothing is tuned at run time."""

from dataclasses import dataclass

import torch

HOPPER = (9, 0)
INTERPRETED_AS = (8, 0)
FEW_ROWS = 96  # pairs of an expert up to which tiles of 64 rows waste less than those of 128


@dataclass(frozen=True, slots=True)
class Tiles:
    """How a program computes.

    rows      pairs of a tile
    columns   of the result; a gated product holds two such tiles
    depth     of one step along the sum
    stages    depth of the load pipeline
    warps     warps of a program
    """

    rows: int
    columns: int
    depth: int
    stages: int
    warps: int


def tiles_of(
    device: torch.device, dtype: torch.dtype, pairs_of_expert: float, gated: bool
) -> Tiles:
    """Tiles for a device and the mean number of an expert's pairs."""
    capability = INTERPRETED_AS
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
    return tiles_for(capability, dtype, pairs_of_expert, gated)


def tiles_for(
    capability: tuple[int, int], dtype: torch.dtype, pairs_of_expert: float, gated: bool
) -> Tiles:
    """Two tiles of weights and one of rows, `stages` times, fit into 99 KiB of shared memory, on
    Hopper into 227 KiB; sums take at most 128 registers of a thread.
    """
    if dtype == torch.float32:
        return Tiles(rows=16, columns=32, depth=32, stages=1, warps=4)
    few = pairs_of_expert <= FEW_ROWS
    rows = 64 if few else 128
    if capability == HOPPER:
        return Tiles(rows, columns=128, depth=64, stages=3 if gated else 4, warps=4 if few else 8)
    return Tiles(rows, columns=64 if gated else 128, depth=32, stages=4, warps=4 if few else 8)
