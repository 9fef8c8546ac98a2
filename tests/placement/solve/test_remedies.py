"""Remedies as a user takes them: pasted behind the command line that failed, they make it pass."""

import json
import re
import shlex
from pathlib import Path

import pytest

from hybrid.cli.main import main
from tools.make_header import make_header

TWO_BLOCKS = ("plan", "demo", "--json", "--simulate", "CUDA0=128MiB", "-ncmoe", "2")


@pytest.fixture(autouse=True)
def _no_visible_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def flags(remedy: str) -> list[str]:
    """The words of a remedy that are typed: without "in place of ..." and remarks in brackets."""
    return shlex.split(re.split(r" in place of | first \(| \(|, or | together", remedy)[0])


def error_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(words) != 0, words
    return re.findall(r"^  (?:try|or ) +(.*)$", capsys.readouterr().err, re.M)


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        ("--ram 10MiB --device none", "--ram"),
        ("--ram=-9999GiB --device none", "--ram"),
        ("--simulate CUDA0=96MiB --vram CUDA0=1MiB -ngl 99", "--vram"),
        ("--simulate CUDA0=64MiB --vram CUDA0=-99MiB", "--vram"),
        ("--simulate CUDA0=64MiB --vram CUDA0=99MiB", "--vram"),
        ("--simulate CUDA0=20MiB -ngl 99", "--simulate"),
        ("--simulate CUDA0=16MiB,CUDA1=16700KiB -ngl 99", "--simulate"),
        ("--simulate CUDA0=20MiB --vram CUDA0=1MiB -ngl 99", "--simulate"),
        ("--simulate CUDA0=30MiB -ncmoe 1 -ngl 99", "--n-cpu-moe"),
        ("--simulate CUDA0=4MiB -ot exps=CUDA0", "--simulate"),
        ("--simulate CUDA0=96MiB --ram 2MiB", "--ram"),
        ("--simulate CUDA0=40MiB -c 8192 -ngl 99 -amb 1 -ub 16", "-nkvo"),
        ("--simulate CUDA0=128MiB -c 8192 -amb 1 -ub 16 --ram 196MiB -nkvo -cmoe", "-kvo"),
    ],
)
def test_every_remedy_that_is_a_flag_passes_when_pasted(
    words: str, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["plan", "demo", *words.split()]
    remedies = [r for r in error_of(command, capsys) if r.startswith("-")]
    assert any(remedy.startswith(flag) for remedy in remedies), remedies
    for remedy in remedies:
        before = flags(remedy) if " first" in remedy else []
        after = [] if before else flags(remedy)
        assert main(["plan", "demo", *before, *words.split(), *after]) == 0, remedy


def test_two_budgets_of_the_ram_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert error_of(["plan", "demo", "--ram", "1GiB", "--vram", "CPU=2GiB"], capsys)


def test_rules_behind_ncmoe_hold_as_in_llama_cpp(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TWO_BLOCKS, "-ot", "exps=CPU"]
    assert main(words) == 0
    parts = json.loads(capsys.readouterr().out)["assignments"]
    assert {part["device"] for part in parts if "_exps" in part["tensor"]} <= {"CPU", "none"}


def test_experts_behind_ncmoe_that_no_rule_takes_are_on_the_gpu(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [*TWO_BLOCKS, "-ot", "up_exps=CPU"]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    where = {part["tensor"]: part["device"] for part in document["assignments"]}
    assert where["blk.1.ffn_gate_exps.weight"] == "CPU"
    assert where["blk.3.ffn_gate_exps.weight"] == "CUDA0"
    assert where["blk.3.ffn_up_exps.weight"] == "CPU"
    assert not any("no effect" in note for note in document["notes"])


def test_a_plan_file_nested_without_end_is_no_plan(
    tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    assert main(["plan", "demo", "--plan", str(tmp_path / "deep.json")]) == 1
    assert "cannot be read as a plan" in capsys.readouterr().err


def test_a_plan_file_that_is_not_there_or_a_model_is_told_as_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF\x03\x80\xff")
    for path, said in ((tmp_path / "none.json", "there is no file"), (model, "is no text")):
        assert main(["plan", "demo", "--plan", str(path)]) == 1
        told = capsys.readouterr().err
        assert said in told
        assert "Errno" not in told
        assert "codec" not in told


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_header(tmp_path_factory.mktemp("headers") / "r1.gguf", "deepseek-r1"))


def one_card(header: str, rule: str) -> list[str]:
    gpu = ["--simulate", "CUDA0=24GiB", "--ram", "1TiB"]
    return ["plan", header, "--json", *gpu, "-ngl", "99", "-ot", rule]


def homes(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    assert main(words) == 0, words
    parts = json.loads(capsys.readouterr().out)["assignments"]
    return {part["tensor"]: part["device"] for part in parts}


def test_many_blocks_in_a_remedy_are_written_in_few_characters(
    header: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = one_card(header, r"blk\.([3-9]|[1-4][0-9])\..*exps=CUDA0")
    [remedy] = [text for text in error_of(line, capsys) if " first" in text]
    _, rule = flags(remedy)
    assert len(rule) < 50
    assert "|4|" not in rule
    there = homes([*line[:-2], "-ot", rule, *line[-2:]], capsys)
    experts = [(name.split(".")[1], home) for name, home in there.items() if "_exps" in name]
    on_gpu = {int(block) for block, home in experts if home == "CUDA0"}
    assert on_gpu == set(range(min(on_gpu), 50))


def test_n_cpu_moe_is_the_remedy_where_it_leads_to_the_same_plan(
    header: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = one_card(header, "exps=CUDA0")
    [remedy] = [text for text in error_of(line, capsys) if " first" in text]
    flag, blocks = flags(remedy)
    assert flag == "-ncmoe"
    there = homes([*line[:-2], flag, blocks, *line[-2:]], capsys)
    for name, home in there.items():
        if "_exps" in name and home != "none":
            assert (home == "CPU") == (int(name.split(".")[1]) < int(blocks)), name
