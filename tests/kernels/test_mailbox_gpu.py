"""The mailbox's kernels on hardware, in a captured graph, and compiled ahead of time."""

import time

import pytest
import torch

from kernels.errors import GpuSilent
from kernels.expert_ffn import expert_ffn
from kernels.mailbox import cases, publish, receive
from kernels.native import pool
from tests.kernels.aot import CAPABILITIES, cuda_resources
from tests.kernels.mailbox_machine import Crossing, Machine

ONE = cases.SMALL[0]


@pytest.fixture
def three_workers():
    pool.start([-1, -1, -1], [0, 0, 0])
    yield
    pool.stop()


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_kernels_compile_without_spills(capability):
    names = ["post<256>", "receive<256>"]
    for needs in cuda_resources("mailbox/gpu.cu", names, capability).values():
        assert needs.spill_bytes == needs.stack_bytes == 0
        assert needs.registers <= 64


class Captured:
    """A case's step as one graph; a layer's y is added to zeros of its own."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.inputs = [on_gpu(crossing) for crossing in machine.step()]
        machine.service.abandon()  # nothing waits while the kernels are compiled
        self.play()
        torch.cuda.synchronize()
        machine.service.reset()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.play()

    def play(self) -> None:
        for number, crossing in enumerate(self.inputs):
            mailbox = self.machine.mailbox_of(number)
            publish(mailbox, crossing.x, crossing.chosen, crossing.share)
            crossing.y.zero_()
            receive(mailbox, crossing.y)

    def serve(self) -> None:
        self.graph.replay()
        try:
            self.machine.service.serve(self.machine.case.tokens, self.machine.workspace)
        finally:
            torch.cuda.synchronize()


def on_gpu(crossing: Crossing) -> Crossing:
    x, chosen, share = (it.cuda() for it in (crossing.x, crossing.chosen, crossing.share))
    return Crossing(x, chosen, share, torch.zeros_like(x))


@pytest.mark.gpu
@pytest.mark.parametrize("case", cases.SMALL)
def test_a_graph_is_replayed_and_each_layer_gets_its_experts_answer(case, three_workers):
    machine = Machine(case, device="cuda")
    captured = Captured(machine)
    for mailbox in machine.mailboxes:
        mailbox.reset((1 << 32) - 40)
    for _ in range(20):
        step = machine.step()
        for there, here in zip(captured.inputs, step, strict=True):
            there.x.copy_(here.x)
            there.chosen.copy_(here.chosen)
            there.share.copy_(here.share)
            there.y.fill_(torch.nan)
        captured.serve()
        for layer, there, here in zip(machine.layers, captured.inputs, step, strict=True):
            routing = here.chosen.long(), here.share, layer.first_expert
            expected = expert_ffn(here.x, *layer.parts[0], *routing, implementation="native")
            assert torch.equal(there.y.cpu(), expected)


@pytest.mark.gpu
def test_a_graph_that_nobody_answers_ends_by_its_own_limit(three_workers):
    machine = Machine(ONE, gpu_limit_s=0.3, device="cuda")
    captured = Captured(machine)
    began = time.monotonic()
    captured.graph.replay()
    torch.cuda.synchronize()
    assert 0.25 < time.monotonic() - began < 0.9
    assert machine.mailboxes[0].failed == "the GPU gave up"
    machine.service.reset()
    captured.serve()


@pytest.mark.gpu
def test_an_abandoned_graph_ends_at_once_and_the_next_one_is_good(three_workers):
    machine = Machine(ONE, limit_s=0.3, device="cuda")
    captured = Captured(machine)
    machine.mailboxes[0].served.number = 7
    began = time.monotonic()
    with pytest.raises(GpuSilent):
        captured.serve()
    assert time.monotonic() - began < 2
    machine.service.reset()
    captured.serve()
