"""What a machine with a GPU gives a hybrid decode: RAM, links, launches, crossings.

    python -m tools.bench.gpu_crossing [--threads 16] [--only ram,beside,waking,...]

ram        RAM read by threads
beside     the CPU's reads while the GPU copies or reads pinned memory, and the GPU's
crossing   GPU -> CPU -> GPU in a replayed graph of 26: spinning kernels, stream memory operations,
           host functions between kernels
waking     a job of the pool after idle time
chain      200 empty kernels in a graph, with and without programmatic launch
attention  whether this torch's cuDNN does attention with 192 key and 128 value columns
amx        whether the processor has matrix units and the system permits them
pinning    cuMemHostRegister
"""

import argparse
from collections.abc import Callable, Iterable

import torch

from kernels.native import pool
from placement.machines.cpus import choose_cpus
from tools.bench.crossing_rows import crossings, graphs, memory
from tools.bench.crossing_rows.measure import Row
from tools.bench.flags import positive
from tools.bench.table import show

WITHOUT_GPU = ("ram", "waking", "amx")


def main() -> None:
    args = _arguments()
    chosen = choose_cpus(args.threads)
    pool.start(chosen.cpus, chosen.nodes)
    threads = pool.threads()
    groups: dict[str, Callable[[], Iterable[Row]]] = {
        "ram": lambda: memory.by_threads(threads),
        "beside": lambda: memory.beside_copies(threads),
        "crossing": lambda: crossings.crossings(threads),
        "waking": lambda: crossings.waking(threads),
        "chain": graphs.empty_chain,
        "attention": lambda: [graphs.attention_probe()],
        "amx": lambda: [graphs.matrix_units()],
        "pinning": memory.pinning,
    }
    wanted = args.only.split(",") if args.only else list(groups)
    if not torch.cuda.is_available():
        wanted = [name for name in wanted if name in WITHOUT_GPU]
    rows: list[Row] = []
    for name in wanted:
        for row in groups[name]():
            print(*row, flush=True)
            rows.append(row)
    show("gpu_crossing", ("what", "value", "unit"), rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=positive, default=None)
    parser.add_argument("--only", default="")
    return parser.parse_args()


if __name__ == "__main__":
    main()
