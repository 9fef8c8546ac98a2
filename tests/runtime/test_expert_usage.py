import json
import os
from pathlib import Path

import pytest

from hybrid.errors import UsageError
from hybrid.gguf.inventory import inventory
from hybrid.gguf.reader import GgufFile
from hybrid.models.config import ModelConfig
from hybrid.runtime.expert_usage import joined_usage, read_expert_stats, write_expert_stats


def test_what_is_written_is_what_the_planner_reads(tiny_model, tmp_path):
    file = GgufFile.open(tiny_model)
    stock = inventory(file, ModelConfig.from_gguf(file).shape())
    path, experts = tmp_path / "usage.json", stock.shape.expert_count
    path.write_text("of a run before")
    counts = [0] * experts
    counts[1] = 30
    counts[2] = 10
    write_expert_stats(path, {1: counts})
    found = read_expert_stats(path, stock)
    assert found.share(1, 1, 1, experts) == 0.75
    assert found.share(2, 0, 0, experts) == 1 / experts
    assert [each.name for each in tmp_path.iterdir()] == ["usage.json"]


def test_a_link_is_followed_and_a_pipe_is_written_to(tmp_path):
    target, link, pipe = tmp_path / "target", tmp_path / "link", tmp_path / "pipe"
    target.write_text("before")
    target.chmod(0o640)
    link.symlink_to(target)
    write_expert_stats(link, {1: [2]})
    assert link.is_symlink()
    assert json.loads(target.read_text())["layers"] == {"1": [2]}
    assert target.stat().st_mode & 0o777 == 0o640
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_expert_stats(pipe, {1: [2]})
    assert json.loads(os.read(reader, 1000))["layers"] == {"1": [2]}
    os.close(reader)
    assert pipe.is_fifo()


def test_statistics_that_are_not_there_are_told_so(tmp_path, tiny_model):
    with pytest.raises(UsageError) as error:
        read_expert_stats(tmp_path / "nowhere", None)
    assert "Errno" not in str(error.value)
    assert "cannot be read" in error.value.cause


def test_a_file_that_cannot_be_replaced_is_an_error_and_leaves_nothing(tmp_path):
    path = tmp_path / "usage.json"
    path.mkdir()
    with pytest.raises(UsageError, match=r"usage\.json"):
        write_expert_stats(path, {})
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UsageError, match="expert-stats"):
        write_expert_stats(tmp_path / "nowhere" / "usage.json", {})


def test_a_reader_never_sees_half_a_file(tmp_path, monkeypatch):
    path = tmp_path / "usage.json"
    write_expert_stats(path, {3: [1, 2]})

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UsageError, match="No space left"):
        write_expert_stats(path, {3: [5, 6]})
    assert json.loads(path.read_text()) == {"version": 1, "layers": {"3": [1, 2]}}
    assert list(tmp_path.iterdir()) == [path]


def test_counts_of_several_places_are_added_up():
    usage = joined_usage([lambda: {4: [1, 2, 3]}, lambda: {}, lambda: {4: [1, 0, 5], 2: [2, 2]}], 2)
    assert usage.layers == {2: (2, 2), 4: (2, 2, 8)}
    assert list(usage.layers) == [2, 4]
    assert usage.counted_tokens == 6
