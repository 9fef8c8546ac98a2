"""What the emulated machine is made of; booting it takes minutes and is done by hand."""

import argparse
import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

from tools.numa_guest import STATUS, Kernel, boot, cpio, machine, make_initramfs


def module(path: Path, needs: str) -> bytes:
    data = b"\x7fELF\0license=GPL\0depends=" + needs.encode() + b"\0name=x\0" + path.name.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(data) if path.suffix == ".xz" else data)
    return data


def test_an_archive_is_read_back_by_cpio(tmp_path):
    if shutil.which("cpio") is None:
        pytest.skip("cpio is not here")
    archive = cpio(["bin"], [("init", b"#!/bin/sh\n", 0o755), ("bin/odd", b"12345", 0o644)])
    subprocess.run(["cpio", "-idm", "--quiet"], cwd=tmp_path, input=archive, check=True)
    assert (tmp_path / "init").read_bytes() == b"#!/bin/sh\n"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "bin/odd").read_bytes() == b"12345"


def test_modules_come_after_those_they_need(tmp_path, monkeypatch):
    packed = {}
    monkeypatch.setattr("tools.numa_guest.cpio", lambda _, files: packed.update(entries(files)))
    monkeypatch.setattr("tools.numa_guest.gzip.compress", lambda *_, **__: b"")
    monkeypatch.setattr("shutil.which", lambda _: __file__)
    folder = tmp_path / "modules"
    plain = module(folder / "fs/9p.ko.xz", "9pnet,netfs")
    module(folder / "net/9pnet.ko", "")
    module(folder / "net/9pnet_virtio.ko", "9pnet,virtio")
    make_initramfs(Kernel(tmp_path / "vmlinuz", folder), "echo 'a b'", tmp_path)
    loaded = packed["init"].decode().partition("for module in ")[2].partition(";")[0].split()
    assert loaded == ["9pnet", "9pnet_virtio", "9p"]
    assert packed["modules/9p"] == plain
    assert "-c 'echo '\"'\"'a b'\"'\"''" in packed["init"].decode()


def entries(files: list[tuple[str, bytes, int]]) -> dict[str, bytes]:
    return {name: data for name, data, _ in files}


def test_every_node_has_a_cpu_and_its_memory(tmp_path):
    args = argparse.Namespace(nodes=3, node_mib=512)
    line = machine(args, Kernel(tmp_path / "vmlinuz", tmp_path), tmp_path / "initramfs")
    assert line[line.index("-m") + 1] == "1536M"
    assert line[line.index("-smp") + 1] == "3"
    assert "node,nodeid=2,cpus=2,memdev=ram2" in line


@pytest.mark.parametrize(("tail", "status"), [(f"\n{STATUS}3\n", 3), ("", 1)])
def test_the_commands_own_status_comes_back(tail, status, capsys):
    assert boot(["printf", f"BIOS\r\nnuma-guest begins\r\nhello{tail}"], 10) == status
    assert capsys.readouterr().out.strip() == "hello"


def test_a_guest_that_hangs_is_ended(capsys):
    assert boot(["sleep", "60"], 1) == 1
    assert "within 1 s" in capsys.readouterr().err
