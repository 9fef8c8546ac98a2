"""Buffers on their way to a GPU, with streams and events that only write down what happens."""

from contextlib import contextmanager

import pytest
import torch

from hybrid.runtime import uploading
from hybrid.runtime.uploading import PlaneRows, Uploads, staging_bytes
from kernels.dequantize.cases import any_bits
from kernels.formats import BY_NAME
from kernels.planar import PlanarTensor, to_planar

CPU = torch.device("cpu")


class Told:
    """What became of streams and events, in order: (what, number)."""

    def __init__(self):
        self.said = []
        self.made = 0
        self.current = "caller"

    def number(self):
        self.made += 1
        return self.made

    def count(self, what):
        return [number for said, number in self.said if said == what]


@pytest.fixture
def told(monkeypatch):
    told = Told()

    class Event:
        def __init__(self, blocking):
            assert blocking
            self.number = told.number()

        def record(self, stream):
            told.said.append((f"recorded on {stream}", self.number))

        def synchronize(self):
            told.said.append(("waited for", self.number))

    class Stream:
        def __init__(self, device):
            self.device = device
            self.number = told.number()

        def __repr__(self):
            return f"stream {self.number}"

        def wait_event(self, event):
            told.said.append((f"{self} waits for", event.number))

        def synchronize(self):
            told.said.append(("synchronized", self.number))

    @contextmanager
    def on(stream):
        before, told.current = told.current, stream
        yield
        told.current = before

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: told.current)
    monkeypatch.setattr(uploading, "UPLOAD_BYTES", 64)
    return told


def filled_with(value):
    return lambda buffer: buffer.fill_(value)


def test_bytes_get_to_their_place_and_a_buffer_waits_until_it_was_left(told):
    targets = [torch.zeros(64, dtype=torch.uint8) for _ in range(5)]
    uploads = Uploads([CPU], [], readers=1)
    for value, target in enumerate(targets):
        uploads.upload(filled_with(value), target, None)
    assert [int(target.sum()) for target in targets] == [0, 64, 128, 192, 256]
    left = told.count("recorded on stream 2")
    assert len(left) == 5
    assert told.count("waited for") == left[:3], "each of two buffers, before it is filled again"


def test_uploads_come_after_what_the_caller_has_queued(told):
    uploads = Uploads([CPU], [], readers=1)
    before = told.count("recorded on caller")
    uploads.upload(filled_with(1), torch.zeros(8, dtype=torch.uint8), None)
    assert told.said.index(("stream 2 waits for", before[0])) < len(told.said) - 1


def test_uploads_come_after_what_fills_their_staging(told, monkeypatch):
    def filled(nbytes, device):
        told.said.append(("filled", nbytes))
        return torch.empty(nbytes, dtype=torch.uint8, device=device)

    monkeypatch.setattr(uploading, "_on_gpu", filled)
    Uploads([CPU], [CPU], readers=1)
    assert [what for what, _ in told.said] == ["filled", "recorded on caller"]


def test_the_end_waits_for_every_stream(told):
    uploads = Uploads([CPU], [], readers=1)
    uploads.finish()
    assert told.count("synchronized") == []
    uploads.upload(filled_with(1), torch.zeros(8, dtype=torch.uint8), None)
    uploads.finish()
    assert told.count("synchronized") == [2]


@pytest.mark.parametrize("columns", [32, 128], ids=["rows", "a row longer than the buffer"])
@pytest.mark.usefixtures("told")
def test_rows_go_through_staging_into_planes(columns):
    known = BY_NAME["Q8_0"]
    weight = any_bits(known, (4, columns))
    planar = PlanarTensor(torch.zeros(weight.nbytes, dtype=torch.uint8), known, weight.shape, 4)
    uploads = Uploads([CPU], [CPU], readers=1)
    for row in range(4):
        target = planar.data[row * weight.blocks.shape[1] :][: weight.blocks.shape[1]]
        uploads.upload(
            lambda buffer, row=row: buffer.copy_(weight.blocks[row]),
            target,
            PlaneRows(planar, row),
        )
    assert torch.equal(planar.data, to_planar(weight).data)


@pytest.mark.gpu
def test_staging_that_is_filled_late_does_not_reach_planes(monkeypatch):
    """Fresh memory is filled with NaN in tests; on a GPU that others use that takes its time."""
    gpu, known = torch.device("cuda", 0), BY_NAME["Q8_0"]
    weight = any_bits(known, (4, 128))
    rows, place = weight.blocks.flatten(), uploading.place_rows

    def filled_late(nbytes, device):
        found = torch.zeros(nbytes, dtype=torch.uint8, device=device)
        torch.cuda._sleep(500_000_000)
        return found.fill_(255)

    def placed_later(*given):
        torch.cuda._sleep(1_500_000_000)  # on the reader's stream, between copy and place
        place(*given)

    # Beforehand, since all of these wait for the filling: first launches, streams, pinned memory.
    torch.zeros(8, dtype=torch.uint8, device=gpu).fill_(255)
    torch.cuda._sleep(1)
    torch.cuda.Stream(gpu)
    uploading.prepare_place_rows(gpu)
    pinned = [uploading._pinned(uploading.UPLOAD_BYTES) for _ in range(uploading.UPLOAD_BUFFERS)]
    monkeypatch.setattr(uploading, "_pinned", lambda nbytes: pinned.pop())
    monkeypatch.setattr(uploading, "_on_gpu", filled_late)
    monkeypatch.setattr(uploading, "place_rows", placed_later)
    data = torch.zeros(weight.nbytes, dtype=torch.uint8, device=gpu)
    uploads = Uploads([gpu], [gpu], readers=1)
    planes = PlaneRows(PlanarTensor(data, known, weight.shape, 4), 0)
    uploads.upload(lambda buffer: buffer.copy_(rows), data[: rows.numel()], planes)
    uploads.finish()
    assert torch.equal(data.cpu(), to_planar(weight).data)


def test_a_fill_that_fails_is_the_callers_error(told):
    uploads = Uploads([CPU], [], readers=1)
    with pytest.raises(ZeroDivisionError):
        uploads.upload(lambda _: 1 // 0, torch.zeros(8, dtype=torch.uint8), None)
    uploads.finish()


def test_staging_is_a_buffer_for_each_reader():
    assert staging_bytes(3) == 3 * uploading.UPLOAD_BYTES
