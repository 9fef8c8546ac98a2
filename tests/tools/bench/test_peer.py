"""Rounds of ours and a peer that is a few lines of Python."""

import json
import sys
from pathlib import Path

import pytest

from tools.bench import peer

GOOD = '{"peer": "plain", "prompt_tok_s": 50.0, "decode_tok_s": 20}'


@pytest.fixture
def script(tmp_path: Path):
    """script(body) -> the command of a program that notes its words and then does that."""

    def write(body: str) -> str:
        path = tmp_path / "peer.py"
        noting = f"import sys; print(sys.argv[1:], file=open({str(tmp_path / 'words')!r}, 'a'))\n"
        path.write_text(f"{noting}{body}\n")
        return f"{sys.executable} {path}"

    return write


def test_both_run_in_every_round_and_the_medians_are_told(script, capsys, tmp_path, monkeypatch):
    tok_s = iter([(100.0, 10.0), (200.0, 30.0), (50.0, 20.0)])

    def ours(command, timeout_s):
        if "hybrid" not in command:
            return last_json(command, timeout_s)
        prompt, decode = next(tok_s)
        tests = [
            ("prompt", 0, prompt),
            ("decode", 0, 1.0),
            ("prompt", 8, 1.0),
            ("decode", 8, decode),
        ]
        return {"tests": [{"work": w, "depth_tokens": d, "tok_s": speed} for w, d, speed in tests]}

    last_json = peer.last_json
    monkeypatch.setattr(peer, "last_json", ours)
    command = script(f"print('loading'); print({GOOD!r})")
    peer.main(["m.gguf", "--peer", f"{command} --context 64", "--prompt", "8"])
    *table, last = capsys.readouterr().out.splitlines()
    rows = json.loads(last)["rows"]
    assert [list(row.values()) for row in rows] == [
        [1, 100.0, 50.0, 2.0, 10.0, 20.0, 0.5],
        [2, 200.0, 50.0, 4.0, 30.0, 20.0, 1.5],
        [3, 50.0, 50.0, 1.0, 20.0, 20.0, 1.0],
        ["median", 100.0, 50.0, 2.0, 20.0, 20.0, 1.0],
    ]
    assert len(table) == 2 + 4
    assert table[0].startswith("hybrid against plain on m.gguf, prompt 8: ")
    assert "2 threads" in table[0]
    words = ["--context", "64", "m.gguf", "--threads", "2", "--prompt", "8"]
    assert (tmp_path / "words").read_text() == f"{words}\n" * 3


def test_ours_is_what_hybrid_bench_measures(script, capsys):
    command = script(f"print({GOOD!r})")
    sizes = ("--rounds", "1", "--prompt", "6", "--decode", "2", "--threads", "1")
    peer.main(["demo", "--peer", command, *sizes, "--flags", "-r 1"])
    first, last = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert first["prompt ours tok/s"] > 0
    assert first["decode ratio"] == first["decode ours tok/s"] / 20
    assert {**last, "round": 1} == first


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("sys.exit('no such model')", "no such model"),
        ("print('done')", "without a line of JSON"),
        ("", "without a line of JSON"),
        ("print('[1]')", "no object"),
        ("import time; time.sleep(60)", "more than 0.5 s"),
    ],
)
def test_a_peer_that_fails_is_told_with_its_command(body, words, script):
    command = script(body).split()
    with pytest.raises(SystemExit) as ended:
        peer.last_json(command, 0.5 if "sleep" in body else 30)
    assert words in str(ended.value)
    assert command[-1] in str(ended.value)


def test_a_program_that_is_not_there_is_told():
    with pytest.raises(SystemExit, match="cannot be run"):
        peer.last_json(["/no/such/python"], 1)


@pytest.mark.parametrize(
    "answer", [{}, {"prompt_tok_s": 1.0}, {"prompt_tok_s": 0.0, "decode_tok_s": 1.0}]
)
def test_an_answer_without_figures_is_refused(answer):
    with pytest.raises(SystemExit, match="no prompt_tok_s"):
        peer.peer_speed(answer)


@pytest.mark.parametrize("flags", [(), ("--peer", "x", "--rounds", "0")])
def test_a_wrong_command_line_is_refused(flags, capsys):
    with pytest.raises(SystemExit) as ended:
        peer.main(["m.gguf", *flags])
    assert ended.value.code == 2
    assert "error" in capsys.readouterr().err
