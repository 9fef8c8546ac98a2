"""Ways from a GPU to the CPU and back: what is sent, by which kernel, and who answers."""

import statistics

import torch

from kernels.blocks import BlockTensor
from kernels.formats import BY_NAME
from kernels.mailbox import Mailbox, publish, receive
from kernels.mailbox.serve import Layer, Part, Service
from kernels.planar import to_planar
from kernels.router import RouterRules
from kernels.router.gpu import route
from tools.bench.gpu_time import Span, captured

CROSSINGS = 26
ALL = 1 + CROSSINGS
ROUNDS = 50
EXPERTS, USED, TINY = 8, 2, 32


class Route:
    """A mailbox, what is sent through it, and the CPU's service of CROSSINGS layers and of one in
    front of them, which is not timed: until the CPU's answer to it, Python starts the service."""

    def __init__(self, width: int, first_expert: int, threads: int, used: int = USED) -> None:
        nbytes = Mailbox.nbytes(1, width, used)
        memory = torch.zeros(nbytes, dtype=torch.uint8, pin_memory=True)
        state = torch.zeros(2, dtype=torch.int32, device="cuda")
        self.mailbox = Mailbox(memory, state, tokens=1, width=width, used=used, limit_s=5)
        self.service = Service(
            [Layer(self.mailbox, [_tiny_experts(width)], first_expert)] * ALL, limit_s=2
        )
        self.threads = threads
        self.workspace = torch.empty(self.service.needs(1, threads), dtype=torch.uint8)
        self.x, self.h = torch.randn(2, 1, width, device="cuda")
        self.chosen = torch.tensor([[0, 1]], dtype=torch.int32, device="cuda")
        self.share = torch.full((1, USED), 0.5, device="cuda")
        self.service.abandon()  # nothing waits while the kernels are compiled
        self._cross()
        self._first = captured(self._cross)
        torch.cuda.synchronize()
        self.service.reset()

    def _cross(self) -> None:
        self.send()
        self.fetch()

    def send(self) -> None:
        publish(self.mailbox, self.x, self.chosen, self.share)

    def fetch(self) -> None:
        receive(self.mailbox, self.h)

    def serve(self) -> None:
        self.service.serve(1, self.workspace, self.threads)

    def us(self, graph: torch.cuda.CUDAGraph, *, serve: bool = True) -> float:
        """Of the GPU for one crossing; every replay begins at number 0."""
        times = []
        for _ in range(ROUNDS):
            self.service.reset()
            if not serve:
                self.service.abandon()
            self._first.replay()
            with Span() as span:
                graph.replay()
            try:
                if serve:
                    self.serve()
            finally:
                self.mailbox.from_cpu[:, 0] = ALL  # a memory operation has no limit of its own
                times.append(span.us() / CROSSINGS)
        return statistics.median(times[3:])

    def computed_us(self) -> float:
        return 1e6 * statistics.median(self.service.computed_s)


class RouterRoute(Route):
    """The same from a router's kernel; the CPU has none of its experts."""

    def __init__(self, width: int, rules: RouterRules) -> None:
        weights = torch.randn(rules.experts, width) * 0.02
        blocks = BlockTensor(weights.view(torch.uint8).cuda(), BY_NAME["F32"], width)
        self.gate, self.rules = to_planar(blocks), rules
        self.norm, self.bias = torch.ones(width, device="cuda"), None
        self.logits = torch.empty(1, rules.experts, device="cuda")
        self.counter = torch.zeros(1, dtype=torch.int32, device="cuda")
        self.routed = torch.empty(1, rules.used, dtype=torch.int32, device="cuda")
        self.shares = torch.empty(1, rules.used, device="cuda")
        self.posts = True
        super().__init__(width, rules.experts, 1, rules.used)

    def send(self) -> None:
        route(
            self.h,
            self.norm,
            1e-6,
            self.gate,
            self.bias,
            self.rules,
            self.logits,
            self.counter,
            self.routed,
            self.shares,
            1,
            self.mailbox if self.posts else None,
        )


def _tiny_experts(width: int) -> Part:
    def blocks(rows: int, columns: int) -> BlockTensor:
        kind = BY_NAME["Q8_0"]
        count = kind.row_bytes(columns)
        return BlockTensor(torch.zeros(EXPERTS, rows, count, dtype=torch.uint8), kind, columns)

    return blocks(TINY, width), blocks(TINY, width), blocks(width, TINY)
