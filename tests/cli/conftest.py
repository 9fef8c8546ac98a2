"""A command line run in this process, and files that are broken in one place."""

import io
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hybrid.cli.main import main
from hybrid.runtime.prepare import model_path


@dataclass(frozen=True)
class Outcome:
    """What a command line left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Outcome]:
    """command("run", "demo", "-p", "hi", stdin="") -> Outcome"""

    def run(*words: str, stdin: str | bytes = "") -> Outcome:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        code = main(words)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def demo_bytes() -> bytes:
    return model_path("demo").read_bytes()


@pytest.fixture
def broken(tmp_path: Path, demo_bytes: bytes) -> Callable[[str], str]:
    """broken("wrong shape") -> path of the demo model with that fault."""

    def write(fault: str) -> str:
        path = tmp_path / "broken.gguf"
        path.write_bytes(BREAKS[fault](demo_bytes))
        return str(path)

    return write


def _renamed(data: bytes, old: bytes, new: bytes) -> bytes:
    assert len(old) == len(new)
    assert old in data
    return data.replace(old, new)


def _entry(data: bytes, name: bytes) -> int:
    """Where a tensor's entry goes on after its name: dimensions, type, offset."""
    key = struct.pack("<Q", len(name)) + name
    assert data.count(key) == 1
    return data.index(key) + len(key)


def _turned(data: bytes) -> bytes:
    at = _entry(data, b"token_embd.weight") + 4
    return data[:at] + data[at + 8 : at + 16] + data[at : at + 8] + data[at + 16 :]


def _of_format(data: bytes, number: int) -> bytes:
    at = _entry(data, b"token_embd.weight") + 4 + 2 * 8
    return data[:at] + struct.pack("<I", number) + data[at + 4 :]


BREAKS: dict[str, Callable[[bytes], bytes]] = {
    "cut data": lambda data: data[: len(data) // 2],
    "cut header": lambda data: data[:1000],
    "not a GGUF": lambda _: b"PK\x03\x04 this is something else" * 10,
    "unknown architecture": lambda data: _renamed(data, b"deepseek2", b"mammouth9"),
    "missing tensor": lambda data: _renamed(
        data, b"blk.2.attn_q_b.weight", b"blk.2.attn_q_x.weight"
    ),
    "wrong shape": _turned,
    "template": lambda data: _renamed(data, b"{%- endfor -%}", b"{%- endfir -%}"),
    "template that fails": lambda data: _renamed(data, b"{{ bos_token }}", b"{{ 1 // 0    }}"),
    "unsupported format": lambda data: _of_format(data, 139),
}
