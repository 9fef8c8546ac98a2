"""How the file gets into memory: who reads, and what the file cache keeps."""

import os
import threading
from dataclasses import replace

import pytest
import torch

import hybrid
from hybrid.gguf.reader import GgufFile
from hybrid.runtime import loader
from hybrid.runtime.reading import ReadHow, read_weights
from hybrid.runtime.shards import Piece
from kernels.blocks import BlockTensor
from kernels.formats import FORMATS
from kernels.planar import PlanarTensor, to_planar
from placement.machines.probe import probe_machine
from tests.runtime.tensor_files import ROWS, tensor_file
from tools.make_model import make_model

MIB = 1 << 20


@pytest.fixture
def file(tmp_path):
    with GgufFile.open(make_model(tmp_path / "tiny.gguf")) as opened:
        yield opened


def pieces_of(file: GgufFile) -> list[Piece]:
    return [
        Piece(tensor, 0, (torch.zeros(tensor.nbytes, dtype=torch.uint8),))
        for tensor in file.tensors.values()
    ]


def holds(pieces: list[Piece], file: GgufFile) -> bool:
    """Whether every target has the file's bytes."""
    return all(
        bytes(piece.targets[0].numpy()) == bytes(file.data(piece.tensor)) for piece in pieces
    )


@pytest.mark.parametrize("forget", [False, True])
def test_every_byte_arrives_whatever_becomes_of_the_cache(file, forget):
    pieces = pieces_of(file)
    read_weights(file, pieces, lambda done, total: None, ReadHow(readers=3, forget=forget))
    assert holds(pieces, file)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice")
@pytest.mark.parametrize("forget", [False, True])
def test_what_was_read_is_dropped_when_asked(file, monkeypatch, forget):
    dropped = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, at, count, advice: dropped.append(count))
    pieces = pieces_of(file)
    read_weights(file, pieces, lambda done, total: None, ReadHow(forget=forget))
    total = sum(piece.nbytes for piece in pieces)
    assert sum(dropped) == (total if forget else 0)


def test_a_cache_that_takes_no_advice_is_no_error(file, monkeypatch):
    asked = []

    def refuse(*given):
        asked.append(given)
        raise OSError(22, "no")

    monkeypatch.setattr(os, "posix_fadvise", refuse, raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    pieces = pieces_of(file)
    read_weights(file, pieces, lambda done, total: None, ReadHow(forget=True))
    assert len(asked) == len(pieces)
    assert holds(pieces, file)


def test_a_read_that_fails_ends_the_load_and_its_threads(file, monkeypatch):
    monkeypatch.setattr(file, "read_into", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        read_weights(file, pieces_of(file), lambda done, total: None, ReadHow(readers=4))
    assert not [t for t in threading.enumerate() if t.name.startswith("hybrid-load")]


@pytest.mark.parametrize(("free_mib", "forget"), [(4096, False), (73, True)])
def test_the_cache_is_kept_where_the_file_fits_beside_the_weights(monkeypatch, free_mib, forget):
    seen = []
    monkeypatch.setattr("hybrid.runtime.load.read_weights", lambda *given: seen.append(given[3]))

    def probe(**given):
        machine = probe_machine(**given)
        host = replace(machine.host, free_bytes=free_mib * MIB, process_bytes=0)
        return replace(machine, devices=(host, *machine.gpus), usable_cpus=5)

    monkeypatch.setattr("hybrid.runtime.machines.probe_machine", probe)
    hybrid.load("demo", devices=("none",))
    assert seen == [ReadHow(readers=5, forget=forget)]


@pytest.fixture(scope="module")
def every_format(tmp_path_factory):
    """A file of one tensor per format, named after it."""
    path = tensor_file(tmp_path_factory.mktemp("formats") / "formats.gguf", FORMATS)
    with GgufFile.open(path) as opened:
        yield opened


def placed(file, name, monkeypatch, most_bytes):
    """A tensor's memory and the pieces of it that the loader makes."""
    monkeypatch.setattr(loader, "PIECE_BYTES", most_bytes)
    tensor = file.tensors[name]
    memory = torch.full((tensor.nbytes,), 0xA5, dtype=torch.uint8)
    return memory, list(loader._cut(tensor, 0, memory))


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_what_is_wanted_in_planes_arrives_in_planes(every_format, known, monkeypatch):
    memory, pieces = placed(every_format, known.name, monkeypatch, 1000)
    tensor = every_format.tensors[known.name]
    planar = PlanarTensor(memory, known, tensor.shape, ROWS)
    assert len(pieces) > 2
    read_weights(
        every_format, pieces, lambda *_: None, ReadHow(readers=3), {memory.data_ptr(): planar}
    )
    row_bytes = known.row_bytes(tensor.shape[-1])
    blocks = torch.frombuffer(bytearray(every_format.data(tensor)), dtype=torch.uint8)
    whole = BlockTensor(blocks.view(*tensor.shape[:-1], row_bytes), known, tensor.shape[-1])
    assert torch.equal(memory, to_planar(whole).data)


def test_only_memory_with_planes_is_sorted(every_format, monkeypatch):
    """Neighbours in one arena: before, between and behind what gets planes."""
    known = next(known for known in FORMATS if known.name == "Q5_K")
    tensor = every_format.tensors[known.name]
    arena = torch.zeros(3, tensor.nbytes, dtype=torch.uint8)
    pieces = [piece for row in arena for piece in loader._cut(tensor, 0, row)]
    planar = PlanarTensor(arena[1], known, tensor.shape, ROWS)
    read_weights(every_format, pieces, lambda *_: None, None, {arena[1].data_ptr(): planar})
    as_read = torch.frombuffer(bytearray(every_format.data(tensor)), dtype=torch.uint8)
    assert torch.equal(arena[0], as_read)
    assert torch.equal(arena[2], as_read)
    assert not torch.equal(arena[1], as_read)


@pytest.mark.parametrize("most_bytes", [1, 100, 1 << 24])
def test_pieces_are_whole_rows(every_format, monkeypatch, most_bytes):
    for tensor in every_format.tensors.values():
        memory, pieces = placed(every_format, tensor.name, monkeypatch, most_bytes)
        row = tensor.format.row_bytes(tensor.shape[-1])
        assert all(piece.nbytes % row == 0 for piece in pieces)
        assert all(piece.nbytes <= max(most_bytes, row) for piece in pieces)
        assert sum(piece.nbytes for piece in pieces) == memory.numel()
        for piece in pieces:
            assert piece.targets[0].data_ptr() - memory.data_ptr() == piece.offset
