"""The sockets' folder is this user's alone, or it is not used."""

import os
from pathlib import Path

import pytest

from hybrid.live.socket_folder import make_folder, run_folders, usable_folders


def mode(path):
    return path.stat().st_mode & 0o7777


def test_the_session_s_folder_comes_first(tmp_path):
    tmp_path.chmod(0o700)
    first, *others = run_folders(str(tmp_path))
    assert first == tmp_path / "hybrid"
    assert others == [Path(f"/tmp/hybrid-{os.getuid()}")]


def test_a_session_s_folder_that_others_may_enter_is_not_used(tmp_path):
    tmp_path.chmod(0o755)
    assert run_folders(str(tmp_path)) == (Path(f"/tmp/hybrid-{os.getuid()}"),)


def test_a_folder_is_made_for_this_user_alone(tmp_path):
    folder = make_folder((tmp_path / "hybrid",))
    assert mode(folder) == 0o700
    assert make_folder((folder,)) == folder


def test_a_link_is_refused_even_to_a_folder_of_ours(tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "hybrid").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="a link"):
        make_folder((tmp_path / "hybrid",))
    assert usable_folders((tmp_path / "hybrid",)) == []


@pytest.mark.parametrize("bits", [0o750, 0o701, 0o777])
def test_a_folder_that_others_may_enter_is_refused(tmp_path, bits):
    (tmp_path / "hybrid").mkdir()
    (tmp_path / "hybrid").chmod(bits)
    with pytest.raises(OSError, match="chmod 700"):
        make_folder((tmp_path / "hybrid",))
    assert usable_folders((tmp_path / "hybrid",)) == []


def test_another_user_s_folder_is_refused(tmp_path, monkeypatch):
    (tmp_path / "hybrid").mkdir(mode=0o700)
    us = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: us + 1)
    with pytest.raises(OSError, match=f"belongs to user {us}"):
        make_folder((tmp_path / "hybrid",))


def test_the_next_folder_is_taken_where_one_cannot_be_used(tmp_path):
    too_long = tmp_path / ("x" * 120)
    (tmp_path / "file").touch()
    good = tmp_path / "hybrid"
    assert make_folder((too_long, tmp_path / "file", tmp_path / "no" / "folder", good)) == good
