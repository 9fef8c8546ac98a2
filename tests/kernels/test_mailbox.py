"""The crossing GPU -> CPU -> GPU: a thread plays the GPU, in plain torch and by the emulated
kernels, and the CPU's side is the real one."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kernels.errors import GpuSilent, KernelInputError, WorkerFailed
from kernels.mailbox import Mailbox, cases, publish, receive
from kernels.mailbox.serve import Layer, Service
from kernels.native import pool
from tests.kernels.mailbox_machine import Machine, check_answers, experts, new_mailbox

ROOT = Path(__file__).resolve().parents[2]
ONE = cases.SMALL[0]
SOON_S = 30.0  # of limits of 60, on a machine that is busy elsewhere too


@pytest.fixture(autouse=True)
def three_workers():
    pool.start([-1, -1, -1], [0, 0, 0])
    yield
    pool.set_timeout(60)
    pool.stop()


@pytest.fixture(scope="module")
def compiled():
    """The emulated kernels, so that no test's clock runs while they are compiled."""
    pool.start([-1, -1, -1], [0, 0, 0])
    machine = Machine(ONE, limit_s=60, gpu_limit_s=60)
    machine.serve(machine.step(), "gpu")
    pool.stop()


@pytest.mark.parametrize("tokens", [1, 2, 8])
@pytest.mark.parametrize("case", cases.SMALL)
def test_every_layer_of_many_steps_gets_its_own_experts_answer(case, tokens):
    machine = Machine(replace(case, tokens=tokens))
    for _ in range(10):
        step = machine.step()
        machine.serve(step)
        check_answers(machine, step)
    assert machine.service.mailboxes == tuple(machine.mailboxes)


@pytest.mark.parametrize("case", cases.SMALL)
def test_the_kernels_keep_the_protocol(case):
    machine = Machine(case)
    for _ in range(3):
        step = machine.step()
        machine.serve(step, "gpu")
        check_answers(machine, step)


def test_a_small_step_leaves_rows_of_a_larger_one_alone():
    machine = Machine(replace(ONE, tokens=8))
    machine.serve(machine.step())
    before = machine.mailboxes[0].y[1:].clone()
    machine.case = ONE
    machine.serve(machine.step())
    assert torch.equal(machine.mailboxes[0].y[1:], before)


def test_numbers_wrap_around():
    machine = Machine(ONE)
    for mailbox in machine.mailboxes:
        mailbox.reset((1 << 32) - 2)
    for implementation in ("reference", "gpu"):
        step = machine.step()
        machine.serve(step, implementation)
        check_answers(machine, step)
    assert machine.mailboxes[0].served.number == 2 * ONE.layers - 2


def test_seconds_are_counted_layer_by_layer():
    machine = Machine(ONE)
    gpu = threading.Timer(1.0, lambda: machine.start_gpu(machine.step()).join())
    gpu.start()
    began = time.monotonic()
    machine.service.serve(1, machine.workspace)
    took_s = time.monotonic() - began
    gpu.join()
    waited, computed = machine.service.waited_s, machine.service.computed_s
    assert waited[0] > 0.2, "the first wait is not counted"
    assert max(waited[1:]) < waited[0], "the first wait is counted for other layers"
    assert min(computed) > 0
    assert sum(waited) + sum(computed) <= took_s, "seconds are counted twice"


def test_a_gpu_that_stays_silent_is_an_error_and_after_a_reset_a_step_is_good_again():
    machine = Machine(ONE, limit_s=0.3, gpu_limit_s=60)
    step = machine.step()
    gpu = machine.start_gpu(step[:1])
    began = time.monotonic()
    with pytest.raises(GpuSilent, match=r"GPU 0 \(cpu\) did not come to crossing 2 of 3 within"):
        machine.service.serve(1, machine.workspace)
    assert time.monotonic() - began < SOON_S, "the CPU waits for the GPU's limit, not its own"
    gpu.join()
    assert machine.mailboxes[0].failed == "the CPU abandoned the step"
    with pytest.raises(KernelInputError, match="abandoned the step: reset the mailboxes first"):
        machine.service.serve(1, machine.workspace)
    machine.service.reset()
    machine.serve(step)
    check_answers(machine, step)


@pytest.mark.parametrize("implementation", ["reference", "gpu"])
def test_a_failed_step_lets_a_waiting_gpu_go_at_once(implementation, compiled):
    machine = Machine(cases.SMALL[1], limit_s=0.3, gpu_limit_s=60)
    for mailbox in machine.mailboxes:
        mailbox.served.number = 7  # waits for numbers that do not come, while the GPU has posted
    gpu = machine.start_gpu(machine.step(), implementation)
    began = time.monotonic()
    with pytest.raises(GpuSilent):
        machine.service.serve(8, machine.workspace)
    gpu.join(timeout=SOON_S)
    assert not gpu.is_alive(), "the GPU waits for its own limit"
    assert time.monotonic() - began < SOON_S


@pytest.mark.parametrize("implementation", ["reference", "gpu"])
def test_a_gpu_that_nobody_answers_gives_up_once_and_tells(implementation, compiled):
    waits, limit_s = 60, 0.5
    machine = Machine(replace(ONE, layers=waits), gpu_limit_s=limit_s)
    began = time.monotonic()
    gpu = machine.start_gpu(machine.step(), implementation)
    gpu.join(timeout=waits * limit_s)
    took_s = time.monotonic() - began
    assert took_s >= limit_s, "it gave up before its limit"
    assert took_s < 20, "after the first wait others lasted for the limit too"
    assert machine.mailboxes[0].failed == "the GPU gave up"
    machine.mailboxes[0].served.number = 7
    with pytest.raises(KernelInputError, match="the GPU gave up: reset"):
        machine.service.serve(1, machine.workspace)


def test_a_service_that_waits_hears_that_the_gpu_has_given_up():
    machine = Machine(ONE, limit_s=60)
    raised = threading.Timer(0.2, lambda: machine.mailboxes[0].from_gpu.fill_(1))
    raised.start()
    with pytest.raises(GpuSilent, match=r"GPU 0 \(cpu\) waited 20 s for the CPU before crossing 1"):
        machine.service.serve(1, machine.workspace)
    raised.join()


def test_a_worker_that_throws_fails_the_step_within_seconds_and_the_next_one_is_good(
    monkeypatch,
):
    machine = Machine(ONE, gpu_limit_s=60)
    monkeypatch.setattr(Service, "needs", lambda *_: 0)
    step = machine.step()
    gpu = machine.start_gpu(step)
    with pytest.raises(WorkerFailed, match="a job's memory is too small"):
        machine.service.serve(1, machine.workspace[:64])
    monkeypatch.undo()
    gpu.join(timeout=SOON_S)
    assert not gpu.is_alive(), "the GPU waits for its own limit"
    machine.service.reset()
    machine.serve(step)
    check_answers(machine, step)


STALL = """
import threading, time
from kernels.errors import WorkerFailed
from kernels.mailbox import cases
from kernels.native import pool
from kernels.native.library import library
from tests.kernels.mailbox_machine import Machine

pool.start([-1, -1, -1], [0, 0, 0])
pool.set_timeout(0.5)
machine = Machine(cases.SMALL[0], gpu_limit_s=60)
try:
    pool.check(library().hybrid_pool_try_fault(4, 1, 3, 3.0))
except WorkerFailed:
    pass
gpu = machine.start_gpu(machine.step())
began = time.monotonic()
try:
    machine.service.serve(1, machine.workspace)
except WorkerFailed as error:
    gpu.join()
    print("lost" if "worker 1" in str(error) else error, time.monotonic() - began < 30)
"""

INTERRUPT = """
import threading, time
from kernels.mailbox import cases
from kernels.native import pool
from tests.kernels.mailbox_machine import Machine

pool.start([-1, -1], [0, 0])
machine = Machine(cases.SMALL[0], limit_s=60)

def tell():
    while machine.service._step.silent_s == 0:
        time.sleep(0.01)
    print("waiting", flush=True)

threading.Thread(target=tell).start()
try:
    machine.service.serve(1, machine.workspace)
except KeyboardInterrupt:
    print(machine.mailboxes[0].failed, flush=True)
"""


def in_python(code):
    """The code in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_pool_whose_worker_stalls_lets_the_gpu_go():
    assert in_python(STALL).communicate(timeout=90)[0] == "lost True\n"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_is_heard_within_a_wait_and_abandons_the_step():
    with in_python(INTERRUPT) as program:
        assert program.stdout.readline() == "waiting\n"
        began = time.monotonic()
        os.kill(program.pid, signal.SIGINT)
        assert program.stdout.readline() == "the CPU abandoned the step\n"
        assert time.monotonic() - began < 10, "the wait went on to its limit of 60 s"
        assert program.wait(timeout=30) == 0


def test_a_step_that_does_not_fit_is_refused():
    machine = Machine(ONE)
    with pytest.raises(KernelInputError, match="9 tokens does not fit"):
        machine.service.serve(9, machine.workspace)
    with pytest.raises(KernelInputError, match="the step needs .* bytes, not 64"):
        machine.service.serve(1, machine.workspace[:64])


def test_layers_that_do_not_fit_their_mailbox_are_refused():
    mailbox, numbers = new_mailbox(ONE), torch.Generator()
    other = experts(replace(ONE, width=32), numbers)
    with pytest.raises(KernelInputError, match="a mailbox of width 64"):
        Service([Layer(mailbox, [other])])
    gate, up, down = experts(ONE, numbers)
    with pytest.raises(KernelInputError, match="do not fit"):
        Service([Layer(mailbox, [(gate, down, up)])])
    with pytest.raises(KernelInputError, match="a service has layers"):
        Service([])


@pytest.mark.parametrize("wrong", ["dtype", "width", "rows", "share"])
def test_what_does_not_fit_a_mailbox_is_refused(wrong):
    mailbox = new_mailbox(ONE)
    x, chosen = torch.zeros(2, 64), torch.zeros(2, 2, dtype=torch.int32)
    share = torch.zeros(2, 3 if wrong == "share" else 2)
    if wrong == "dtype":
        x = x.double()
    if wrong == "width":
        x = x[:, :32]
    if wrong == "rows":
        x = torch.zeros(9, 64)
    with pytest.raises(KernelInputError):
        publish(mailbox, x, chosen, share)
    if wrong != "share":
        with pytest.raises(KernelInputError):
            receive(mailbox, x)


def test_memory_for_a_mailbox_must_be_large_and_aligned():
    state = torch.zeros(2, dtype=torch.int32)
    sizes = {"tokens": 2, "width": 64, "used": 2, "limit_s": 1}
    with pytest.raises(KernelInputError, match="does not fit"):
        Mailbox(torch.zeros(600, dtype=torch.uint8), state, **sizes)
    memory = torch.zeros(4096, dtype=torch.uint8)[1:]
    with pytest.raises(KernelInputError, match="multiple of 128"):
        Mailbox(memory[(128 - memory.data_ptr()) % 128 + 4 :], state, **sizes)
