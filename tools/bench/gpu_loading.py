"""Weights from a warm file to a GPU, as the loader takes them: in the file's blocks, or in planes.

    python -m tools.bench.gpu_loading [--gib 4] [--formats Q4_K,Q8_0] [--readers 1,2,4,8]

The limit is what the bus copies out of pinned memory in one piece. `pinning` is the host arena made
known to the driver, of pages that are there already.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import torch

from hybrid.gguf.reader import GgufFile
from hybrid.runtime.arena import HostArena
from hybrid.runtime.pinning import GpuRegistrar, Pinning
from hybrid.runtime.reading import ReadHow, read_weights
from hybrid.runtime.shards import Piece
from kernels.formats import BY_NAME, BlockFormat
from kernels.planar import PlanarTensor
from placement.memory.overheads import UPLOAD_BYTES
from tools.bench.table import Cell, show

COLUMNS = 7168
ROUNDS = 3
SHARED_MEMORY = Path("/dev/shm")  # the file is in RAM: what is measured is not a disk


def main() -> None:
    args = _arguments()
    device = torch.device(args.device)
    nbytes = int(args.gib * (1 << 30))
    bus = _bus_gb_s(nbytes, device)
    rows: list[list[Cell]] = [["bus, pinned memory", 1, bus, 100.0]]
    for name in args.formats.split(","):
        with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
            path = _file(Path(folder) / "weights.gguf", BY_NAME[name], nbytes)
            with GgufFile.open(path) as file:
                for readers in map(int, args.readers.split(",")):
                    for planar in (False, True):
                        rate = _loading_gb_s(file, device, readers, planar=planar)
                        how = "planes" if planar else "blocks"
                        rows.append([f"{name} {how}", readers, rate, 100 * rate / bus])
    if device.type == "cuda":
        rate = _pinning_gb_s(nbytes, device)
        rows.append(["pinning", 1, rate, 100 * rate / bus])
    show("gpu_loading", ("what", "readers", "GB/s", "% of the bus"), rows)


def _file(path: Path, known: BlockFormat, nbytes: int) -> Path:
    row_bytes = known.row_bytes(COLUMNS)
    rows = nbytes // row_bytes
    blocks = np.random.default_rng(0).integers(0, 256, (rows, row_bytes), dtype=np.uint8)
    writer = gguf.GGUFWriter(path, "deepseek2")
    writer.add_tensor(known.name, blocks, raw_dtype=gguf.GGMLQuantizationType(known.ggml_id))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _loading_gb_s(file: GgufFile, device: torch.device, readers: int, *, planar: bool) -> float:
    (tensor,) = file.tensors.values()
    room = torch.zeros(tensor.nbytes, dtype=torch.uint8, device=device)
    row_bytes = tensor.format.row_bytes(COLUMNS)
    step = UPLOAD_BYTES // row_bytes * row_bytes
    pieces = [Piece(tensor, at, (room[at : at + step],)) for at in range(0, tensor.nbytes, step)]
    planes = PlanarTensor(room, tensor.format, tensor.shape, tensor.shape[0])

    def load() -> None:
        wanted = {room.data_ptr(): planes} if planar else None
        read_weights(file, pieces, lambda done, total: None, ReadHow(readers), wanted)

    return tensor.nbytes / _seconds(load) / 1e9


def _bus_gb_s(nbytes: int, device: torch.device) -> float:
    pinned = torch.ones(nbytes, dtype=torch.uint8, pin_memory=device.type == "cuda")
    room = torch.zeros(nbytes, dtype=torch.uint8, device=device)

    def copy() -> None:
        room.copy_(pinned)

    return nbytes / _seconds(copy) / 1e9


def _pinning_gb_s(nbytes: int, device: torch.device) -> float:
    rates = []
    for _ in range(ROUNDS):
        arena = HostArena(nbytes)
        arena.take(arena.nbytes).fill_(1)
        started = time.perf_counter()
        Pinning([arena], GpuRegistrar(device)).finish(rest=True)
        rates.append(nbytes / (time.perf_counter() - started) / 1e9)
    return statistics.median(rates)


def _seconds(load: Callable[[], None]) -> float:
    """The median of ROUNDS, after one that is not counted."""
    taken = []
    for _ in range(1 + ROUNDS):
        started = time.perf_counter()
        load()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gib", type=float, default=4.0, help="size of the file")
    parser.add_argument("--formats", default="Q4_K,IQ4_NL,Q8_0")
    parser.add_argument("--readers", default="1,2,4,8")
    parser.add_argument("--device", default="cuda", help="cpu tries the script, not a bus")
    return parser.parse_args()


if __name__ == "__main__":
    main()
