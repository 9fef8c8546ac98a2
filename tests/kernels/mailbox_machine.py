"""Threads that play the GPUs of a mailbox test, and the steps that they play."""

import threading
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.expert_ffn import expert_ffn
from kernels.formats import BY_NAME
from kernels.mailbox import Mailbox, publish, receive
from kernels.mailbox.cases import Case
from kernels.mailbox.serve import Layer, Part, Service


def new_mailbox(case: Case, limit_s: float = 20.0, device: str = "cpu") -> Mailbox:
    nbytes = Mailbox.nbytes(8, case.width, case.used) + 128
    memory = torch.zeros(nbytes, dtype=torch.uint8, pin_memory=device != "cpu")
    memory = memory[-memory.data_ptr() % 128 :]
    state = torch.zeros(2, dtype=torch.int32, device=device)
    return Mailbox(memory, state, tokens=8, width=case.width, used=case.used, limit_s=limit_s)


def float_blocks(numbers: torch.Generator, *shape: int) -> BlockTensor:
    values = torch.randn(shape, generator=numbers) * 0.2
    return BlockTensor(values.view(torch.uint8), BY_NAME["F32"], shape[-1])


def experts(case: Case, numbers: torch.Generator) -> Part:
    count = case.count or case.experts
    gate, up = (float_blocks(numbers, count, case.feed_forward, case.width) for _ in range(2))
    return gate, up, float_blocks(numbers, count, case.width, case.feed_forward)


@dataclass
class Crossing:
    """What a layer's router has chosen, and what came back for it."""

    x: Tensor
    chosen: Tensor
    share: Tensor
    y: Tensor | None = None


class Machine:
    """A case's layers and mailboxes, the CPU's service, and threads for the GPUs."""

    def __init__(
        self, case: Case, limit_s: float = 20.0, gpu_limit_s: float = 20.0, device: str = "cpu"
    ) -> None:
        self.case = case
        self.numbers = torch.Generator().manual_seed(case.layers)
        self.mailboxes = [new_mailbox(case, gpu_limit_s, device) for _ in range(case.mailboxes)]
        self.layers = [
            Layer(self.mailbox_of(i), [experts(case, self.numbers)], case.first)
            for i in range(case.layers)
        ]
        self.service = Service(self.layers, exact=True, limit_s=limit_s)
        self.workspace = torch.empty(self.service.needs(8, 0) + 64, dtype=torch.uint8)
        self.workspace = self.workspace[-self.workspace.data_ptr() % 64 :]

    def mailbox_of(self, layer: int) -> Mailbox:
        return self.mailboxes[layer * self.case.mailboxes // self.case.layers]

    def step(self) -> list[Crossing]:
        case, tokens = self.case, self.case.tokens
        return [
            Crossing(
                torch.randn(tokens, case.width, generator=self.numbers),
                torch.randint(
                    case.experts, (tokens, case.used), generator=self.numbers, dtype=torch.int32
                ),
                torch.rand(tokens, case.used, generator=self.numbers),
            )
            for _ in range(case.layers)
        ]

    def start_gpu(
        self, step: list[Crossing], implementation: str = "reference"
    ) -> threading.Thread:
        """One thread for all: a layer follows the one before it, on whichever GPU."""

        def play() -> None:
            for number, crossing in enumerate(step):
                mailbox = self.mailbox_of(number)
                publish(
                    mailbox,
                    crossing.x,
                    crossing.chosen,
                    crossing.share,
                    implementation=implementation,
                )
                crossing.y = torch.zeros_like(crossing.x)
                receive(mailbox, crossing.y, implementation=implementation)

        thread = threading.Thread(target=play)
        thread.start()
        return thread

    def serve(self, step: list[Crossing], implementation: str = "reference") -> None:
        gpu = self.start_gpu(step, implementation)
        try:
            self.service.serve(len(step[0].x), self.workspace)
        finally:
            gpu.join(timeout=30)
            assert not gpu.is_alive()


def check_answers(machine: Machine, step: list[Crossing]) -> None:
    for layer, crossing in zip(machine.layers, step, strict=True):
        expected = expert_ffn(
            crossing.x,
            *layer.parts[0],
            crossing.chosen.long(),
            crossing.share,
            layer.first_expert,
            implementation="native",
        )
        assert torch.equal(crossing.y, expected)
