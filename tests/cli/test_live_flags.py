"""--stats-json, --metrics, --save-expert-stats, --no-live and `hybrid top` on the command line."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid.cli.top import print_runs
from hybrid.live.client import Run
from hybrid.live.codec import from_line
from hybrid.live.snapshot import Phase
from hybrid.tui.findings import warnings

ROOT = Path(__file__).resolve().parents[2]
DEMO = ("demo", "-p", "Once upon a time", "-n", "8", "--device", "none", "-t", "1")


@pytest.fixture(autouse=True)
def session(monkeypatch, tmp_path):
    folder = tmp_path / "session"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


def test_stats_end_with_the_run_s_sums_and_its_parts(command, tmp_path):
    path = tmp_path / "stats.json"
    outcome = command("run", *DEMO, "--stats-json", str(path), "--temp", "0")
    assert outcome.code == 0, outcome.err
    last = from_line(path.read_bytes().splitlines()[-1])
    assert last.phase is Phase.ENDED
    assert last.rates.decode_tokens == 7
    assert last.rates.decode_now_tok_s > 0
    [cpu] = last.devices
    assert (cpu.name, cpu.sensors, cpu.cache_used_tokens) == ("CPU", None, 6 + 7)
    assert sum(cpu.seconds.values()) > 0
    assert last.layers[1].experts == ("CPU",)


def test_several_simulated_gpus_are_rows_of_their_own(command, tmp_path):
    path = tmp_path / "stats.json"
    words = ("--simulate", "CUDA0=1GiB,CUDA1=1GiB", "-ot", "exps=CPU", "-ts", "1/1")
    outcome = command("run", *DEMO[:5], *words, "--stats-json", str(path))
    assert outcome.code == 0, outcome.err
    last = from_line(path.read_bytes().splitlines()[-1])
    assert [(its.name, its.kind) for its in last.devices] == [
        ("CPU", "cpu"),
        ("CUDA0", "gpu"),
        ("CUDA1", "gpu"),
    ]
    assert "experts on CPU" in last.facts.plan_line
    assert last.devices[1].memory.weights["attention"] > 0
    assert last.layers[-1].attention == "CUDA1"


def test_what_fails_before_there_is_a_plan_writes_no_line(command, tmp_path):
    path = tmp_path / "stats.json"
    stats = ("--stats-json", str(path))
    outcome = command("perplexity", "demo", "-f", "/dev/null", "--device", "none", *stats)
    assert outcome.code != 0
    assert path.read_bytes() == b""  # it failed before there was a plan


@pytest.mark.parametrize("program", ["run", "chat", "bench", "perplexity"])
def test_a_port_in_use_is_an_error_before_loading(command, program):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = ("-f", __file__) if program == "perplexity" else ()
        outcome = command(program, "demo", *text, "--device", "none", "--metrics", str(port))
    assert outcome.code == 2
    assert f"--metrics 127.0.0.1:{port} cannot be served" in outcome.err
    assert "deepseek2" not in outcome.err


@pytest.mark.parametrize("value", ["x", "70000", ":9090", "-1", "1.2.3.4", "localhost:"])
def test_what_is_no_port_is_told(command, value):
    outcome = command("run", *DEMO, f"--metrics={value}")
    assert outcome.code == 2
    assert "HOST:PORT" in outcome.err


def test_metrics_name_their_address_and_do_not_disturb(command):
    outcome = command("run", *DEMO, "--metrics", "0")
    assert outcome.code == 0
    assert "metrics on http://127.0.0.1:" in outcome.err


def test_counts_of_experts_are_read_by_the_planner(command, tmp_path):
    path = tmp_path / "experts.json"
    outcome = command("run", *DEMO, "--save-expert-stats", str(path))
    assert outcome.code == 0, outcome.err
    layers = json.loads(path.read_text())["layers"]
    assert sum(layers["1"]) > 0
    assert len(set(map(sum, layers.values()))) == 1  # every layer chose as many
    planned = command("plan", "demo", "--device", "none", "--expert-stats", str(path))
    assert planned.code == 0, planned.err


def test_a_run_that_fails_keeps_its_own_error_and_its_counts(command, tmp_path, monkeypatch):
    path = tmp_path / "experts.json"
    words = ("run", *DEMO, "--save-expert-stats", str(path))

    def fail(_: object) -> str:
        raise RuntimeError("on purpose")

    monkeypatch.setattr("hybrid.cli.run.timing_line", fail)
    outcome = command(*words)
    assert (outcome.code, "on purpose" in outcome.err) == (1, True)
    assert sum(json.loads(path.read_text())["layers"]["1"]) > 0
    monkeypatch.setattr("hybrid.runtime.expert_usage.replace_text", fail_to_write)
    outcome = command(*words)
    assert "error: internal error: RuntimeError: on purpose" in outcome.err
    assert "note: statistics of experts cannot be written" in outcome.err


def fail_to_write(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("flag", ["--stats-json", "--save-expert-stats"])
def test_a_file_that_cannot_be_written_is_told_before_loading(command, tmp_path, flag):
    outcome = command("run", *DEMO, flag, str(tmp_path / "missing" / "file"))
    assert outcome.code == 1
    assert f"{flag} " in outcome.err
    assert "deepseek2" not in outcome.err


def test_a_folder_that_others_may_enter_leaves_the_run_without_a_socket(
    command, session, monkeypatch
):
    monkeypatch.setattr("hybrid.cli.main.run_folders", lambda _: (session / "hybrid",))
    (session / "hybrid").mkdir()
    (session / "hybrid").chmod(0o755)
    outcome = command("run", *DEMO)
    assert outcome.code == 0
    assert "`hybrid top` cannot watch this run" in outcome.err
    assert "chmod 700" in outcome.err


def test_nothing_is_left_of_a_run(command, session):
    command("run", *DEMO)
    assert list((session / "hybrid").iterdir()) == []


def test_top_without_runs_says_how_to_get_one(command, session, monkeypatch):
    monkeypatch.setattr("hybrid.cli.main.run_folders", lambda _: (session / "hybrid",))
    assert command("top").code == 1
    assert "hybrid run" in command("top", "--json").err
    assert "  process 99 is none\n" in command("top", "99").err
    listed = command("top", "--list")
    assert (listed.code, listed.out) == (0, "")
    assert json.loads(command("top", "--list", "--json").out) == []


def test_a_bench_is_watched_to_its_end(command, tmp_path):
    path = tmp_path / "stats.json"
    words = ("-p", "16", "-n", "200", "-r", "2", "-t", "1", "--json", "--stats-json", str(path))
    outcome = command("bench", "demo", "--device", "none", *words)
    assert outcome.code == 0, outcome.err
    shots = [from_line(line) for line in path.read_bytes().splitlines()]
    assert shots[-1].phase is Phase.ENDED
    assert shots[-1].facts.command == "bench"
    assert shots[-1].rates.decode_tokens >= 400


def test_a_full_window_of_perplexity_is_not_called_amiss(command, tmp_path):
    path, text = tmp_path / "stats.json", tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 20, encoding="utf-8")
    words = ("-f", str(text), "-c", "32", "--limit-windows", "2", "-t", "1", "--device", "none")
    outcome = command("perplexity", "demo", *words, "--stats-json", str(path))
    assert outcome.code == 0, outcome.err
    last = from_line(path.read_bytes().splitlines()[-1])
    [cpu] = last.devices
    assert (cpu.cache_used_tokens, cpu.cache_capacity_tokens) == (32, 32)
    assert not [text for text in warnings(last) if "cache" in text]


def test_without_a_terminal_the_screen_is_a_line_a_second_on_stderr(command):
    outcome = command("run", *DEMO, "--tui", "--temp", "0")
    plain = command("run", *DEMO, "--temp", "0")
    assert outcome.code == 0
    assert outcome.out == plain.out
    assert outcome.err.splitlines()[-1].startswith("ended ")


def test_a_chat_from_a_pipe_is_watched_too(command, tmp_path):
    path = tmp_path / "stats.json"
    words = ("--device", "none", "-n", "8", "-t", "1", "--stats-json", str(path))
    outcome = command("chat", "demo", *words, stdin="Once upon a time\nand then\n")
    assert outcome.code == 0, outcome.err
    last = from_line(path.read_bytes().splitlines()[-1])
    assert (last.phase, last.facts.command) == (Phase.ENDED, "chat")
    assert last.rates.reused_tokens > 0


def test_a_list_of_runs_shows_names_without_control_characters(capsys):
    odd = Run(7, "run", "mo\x1b]0;title\x07del\u202e\udc80", 1e9, Path("7.sock"))
    print_runs([odd], as_json=False)
    row = capsys.readouterr().out.splitlines()[1]
    assert row.isprintable()
    assert r"mo\x1b]0;title\x07del\u202e\udc80" in row


def test_a_list_of_runs_imports_nothing_heavy():
    program = (
        "import sys\n"
        "from hybrid.cli.main import main\n"
        "assert main(['top', '--list', '--json']) == 0\n"
        "sys.exit(', '.join({'torch', 'numpy', 'rich', 'http'} & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
