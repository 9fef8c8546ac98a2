"""How the file gets into memory: who reads, and what the file cache keeps."""

import os
import threading
from dataclasses import replace

import pytest
import torch

import hybrid
from hybrid.gguf.reader import GgufFile
from hybrid.runtime.reading import ReadHow, read_weights
from hybrid.runtime.shards import Piece
from placement.probe import probe_machine
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


@pytest.mark.parametrize(("free_mib", "forget"), [(4096, False), (72, True)])
def test_the_cache_is_kept_where_the_file_fits_beside_the_weights(monkeypatch, free_mib, forget):
    seen = []
    monkeypatch.setattr("hybrid.runtime.load.read_weights", lambda *given: seen.append(given[-1]))

    def probe(**given):
        machine = probe_machine(**given)
        host = replace(machine.host, free_bytes=free_mib * MIB)
        return replace(machine, devices=(host, *machine.gpus), usable_cpus=5)

    monkeypatch.setattr("hybrid.runtime.prepare.probe_machine", probe)
    hybrid.load("demo", devices=("none",))
    assert seen == [ReadHow(readers=5, forget=forget)]
