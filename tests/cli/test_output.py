"""Files that the user named are written wholly, or stay as they were."""

import os
from pathlib import Path

import pytest

from hybrid.cli.output import save_text
from hybrid.errors import OutputError


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    save_text(path, "before", "--save")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OutputError, match="--save"):
        save_text(path, "after", "--save")
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["plan.json"]


def test_a_file_written_again_keeps_its_permissions(tmp_path):
    path = tmp_path / "plan.json"
    save_text(path, "before", "--save")
    path.chmod(0o600)
    save_text(path, "after", "--save")
    assert path.read_text() == "after"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_is_followed_and_stays_a_link(tmp_path):
    there, link = tmp_path / "there.json", tmp_path / "link.json"
    there.write_text("before")
    link.symlink_to(there)
    save_text(link, "after", "--save")
    assert there.read_text() == "after"
    assert link.is_symlink()


def test_what_is_no_file_is_written_to_as_it_is():
    save_text("/dev/null", "gone", "--save")
    assert Path("/dev/null").is_char_device()
