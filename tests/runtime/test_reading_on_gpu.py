"""Weights read to a real GPU: every byte, in planes or as it was, and the memory that takes."""

import os

import pytest
import torch

from hybrid.gguf.reader import GgufFile
from hybrid.runtime import loader, uploading
from hybrid.runtime.reading import ReadHow, read_weights
from kernels.blocks import BlockTensor
from kernels.formats import BY_NAME, FORMATS
from kernels.planar import PlanarTensor, to_planar
from tests.runtime.tensor_files import ROWS, tensor_file

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def every_format(tmp_path_factory):
    path = tensor_file(tmp_path_factory.mktemp("formats") / "formats.gguf", FORMATS)
    with GgufFile.open(path) as opened:
        yield opened


@pytest.fixture
def small_uploads(monkeypatch):
    """So small that each buffer is used again and again."""
    monkeypatch.setattr(uploading, "UPLOAD_BYTES", 3000)
    monkeypatch.setattr(loader, "UPLOAD_BYTES", 3000)


def room_for(file, device="cuda"):
    """A tensor's memory by name, freshly written by the current stream."""
    return {
        tensor.name: torch.full((tensor.nbytes,), 0xA5, dtype=torch.uint8, device=device)
        for tensor in file.tensors.values()
    }


def pieces_of(file, room):
    return [
        piece
        for name, memory in room.items()
        for piece in loader._cut(file.tensors[name], 0, memory)
    ]


def blocks_of(file, name):
    tensor = file.tensors[name]
    row_bytes = tensor.format.row_bytes(tensor.shape[-1])
    blocks = torch.frombuffer(bytearray(file.data(tensor)), dtype=torch.uint8)
    return BlockTensor(blocks.view(*tensor.shape[:-1], row_bytes), tensor.format, tensor.shape[-1])


def planes_in(file, room):
    return {
        memory.data_ptr(): PlanarTensor(
            memory, file.tensors[name].format, file.tensors[name].shape, ROWS
        )
        for name, memory in room.items()
    }


def silent(done, total):
    pass


@pytest.mark.usefixtures("small_uploads")
@pytest.mark.parametrize("readers", [1, 8])
def test_every_format_arrives_in_planes(every_format, readers):
    room = room_for(every_format)
    pieces, planes = pieces_of(every_format, room), planes_in(every_format, room)
    read_weights(every_format, pieces, silent, ReadHow(readers), planes)
    for name, memory in room.items():
        expected = to_planar(blocks_of(every_format, name)).data
        assert torch.equal(memory.cpu(), expected), name


@pytest.mark.usefixtures("small_uploads")
def test_without_planes_every_byte_arrives_as_it_was(every_format):
    room = room_for(every_format)
    read_weights(every_format, pieces_of(every_format, room), silent, ReadHow(4))
    for name, memory in room.items():
        assert torch.equal(memory.cpu(), blocks_of(every_format, name).blocks.view(-1)), name


@pytest.mark.usefixtures("small_uploads")
def test_work_that_was_queued_before_does_not_overwrite_what_is_read(every_format):
    room = room_for(every_format)
    pieces, planes = pieces_of(every_format, room), planes_in(every_format, room)
    torch.cuda._sleep(200_000_000)
    for memory in room.values():
        memory.zero_()
    read_weights(every_format, pieces, silent, ReadHow(4), planes)
    torch.cuda.synchronize()
    for name, memory in room.items():
        assert torch.equal(memory.cpu(), to_planar(blocks_of(every_format, name)).data), name


@pytest.mark.usefixtures("small_uploads")
def test_two_gpus_are_filled_side_by_side(every_format):
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU")
    rooms = [room_for(every_format, f"cuda:{index}") for index in range(2)]
    pieces = [piece for room in rooms for piece in pieces_of(every_format, room)]
    planes = {at: planar for room in rooms for at, planar in planes_in(every_format, room).items()}
    read_weights(every_format, pieces, silent, ReadHow(4), planes)
    for room in rooms:
        for name, memory in room.items():
            assert torch.equal(memory.cpu(), to_planar(blocks_of(every_format, name)).data), name


def test_loading_takes_no_more_of_a_gpu_than_it_says(tmp_path):
    path = tensor_file(tmp_path / "large.gguf", [BY_NAME["Q4_K"]], (1, 1 << 14, 4096))
    with GgufFile.open(path) as file:
        room = room_for(file)
        pieces = pieces_of(file, room)
        planes = {
            memory.data_ptr(): PlanarTensor(
                memory, BY_NAME["Q4_K"], file.tensors[name].shape, 1 << 14
            )
            for name, memory in room.items()
        }
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        read_weights(file, pieces, silent, ReadHow(4), planes)
        assert torch.cuda.max_memory_allocated() - before <= uploading.staging_bytes(4)
        assert torch.cuda.memory_allocated() == before
        expected = to_planar(blocks_of(file, "Q4_K"))
        assert torch.equal(room["Q4_K"].cpu(), expected.data)


def test_a_file_that_ends_early_ends_the_load_and_frees_its_buffers(every_format, monkeypatch):
    room = room_for(every_format)
    pieces, planes = pieces_of(every_format, room), planes_in(every_format, room)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    monkeypatch.setattr(every_format, "read_into", lambda *_: os.stat("/nowhere"))
    with pytest.raises(FileNotFoundError):
        read_weights(every_format, pieces, silent, ReadHow(4), planes)
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() <= before + uploading.staging_bytes(4)
