"""What a crossing is made of comes part by part: a thread holds one back."""

import threading
import time
from dataclasses import replace

import pytest
import torch

from kernels.mailbox import cases, publish
from kernels.native import pool
from tests.kernels.mailbox_machine import Machine, check_answers, new_mailbox

ONE = cases.SMALL[0]


@pytest.fixture(autouse=True)
def three_workers():
    pool.start([-1, -1, -1], [0, 0, 0])
    yield
    pool.stop()


@pytest.mark.parametrize("late", ["posted", "expert", "share"])
def test_nothing_is_answered_before_the_last_part_has_come(late):
    case = replace(ONE, layers=1, width=300)
    machine = Machine(case)
    mailbox, crossing = machine.mailboxes[0], machine.step()[0]
    gpu_is_late = threading.Event()
    publish(mailbox, crossing.x, crossing.chosen, crossing.share)
    part = {
        "posted": mailbox.posted[1:],
        "expert": mailbox.choice[0, 1, :2],
        "share": mailbox.choice[0, 0, 2:],
    }[late]
    there = part.clone()
    mailbox.x[:, 256:] = torch.nan if late == "posted" else crossing.x[:, 256:]
    part.copy_(torch.tensor([0] if late == "posted" else [3, 0]))

    def come() -> None:
        time.sleep(0.3)
        assert mailbox.from_cpu[:, 0].tolist() == [0] * 8
        mailbox.x.copy_(crossing.x.expand_as(mailbox.x))
        part.copy_(there)
        gpu_is_late.set()

    thread = threading.Thread(target=come)
    thread.start()
    machine.service.serve(1, machine.workspace)
    thread.join()
    assert gpu_is_late.is_set()
    assert mailbox.from_cpu[:, 0].tolist() == [1] * 8
    crossing.y = mailbox.y[:1]
    check_answers(machine, [crossing])


def test_a_service_without_the_chosen_experts_answers_zeros():
    machine = Machine(replace(ONE, first=ONE.experts))
    machine.mailboxes[0].y.fill_(torch.nan)
    step = machine.step()
    machine.serve(step)
    assert all(torch.equal(crossing.y, torch.zeros_like(crossing.y)) for crossing in step)


def test_parts_of_a_mailbox_share_no_pair_of_cache_lines():
    mailbox = new_mailbox(replace(ONE, width=33, used=3))
    parts = (
        mailbox.from_gpu,
        *mailbox.from_cpu,
        mailbox.posted,
        mailbox.x,
        mailbox.choice,
        mailbox.y,
    )
    lines = [
        set(range(part.data_ptr() // 128, (part.data_ptr() + part.nbytes - 1) // 128 + 1))
        for part in parts
    ]
    assert sum(map(len, lines)) == len(set.union(*lines))
