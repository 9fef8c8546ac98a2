"""How GPU benches time: launches captured once, the graph replayed, CUDA events around replays."""

from collections.abc import Callable

import torch

DEVICE = torch.device("cuda")
REPLAYS, ROUNDS = 10, 5
COPIED_BYTES = 2 << 30


def microseconds(launch: Callable[[], None]) -> float:
    """Of one `launch` (kernels only) in a replayed graph: the median of ROUNDS."""
    launch()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launch()
    graph.replay()
    rounds = []
    for _ in range(ROUNDS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(REPLAYS):
            graph.replay()
        end.record()
        end.synchronize()
        rounds.append(begin.elapsed_time(end) * 1e3 / REPLAYS)
    return sorted(rounds)[ROUNDS // 2]


def copy_gb_s() -> float:
    """Bytes read and written by a copy inside the device's memory, per second."""
    source = torch.empty(COPIED_BYTES, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)

    return 2 * COPIED_BYTES / microseconds(copy) / 1e3
