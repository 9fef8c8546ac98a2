"""What the commands print, and where."""

import json
import math
from pathlib import Path
from statistics import mean, stdev

import pytest

import hybrid
from hybrid.gguf.reader import GgufFile
from placement.plan_json import from_json
from tools.make_model import make_model

TWO_GPUS = ("--simulate", "CUDA0=64MiB,CUDA1=48MiB")
GREEDY = ("--temp", "0", "-c", "64")


def test_help_and_version(command):
    assert command("--version").out == f"hybrid {hybrid.__version__}\n"
    assert "perplexity" in command("--help").out
    alone = command()
    assert (alone.code, alone.err) == (2, "")
    assert "usage: hybrid COMMAND" in alone.out


@pytest.mark.parametrize(
    "name", ["run", "chat", "plan", "inspect", "bench", "perplexity", "doctor"]
)
def test_every_command_has_help(name, command):
    outcome = command(name, "--help")
    assert outcome.code == 0
    assert f"usage: hybrid {name}" in outcome.out


def test_run_puts_text_on_stdout_and_everything_else_on_stderr(command):
    outcome = command("run", "demo", "-p", "Once upon a time", "-n", "8", *GREEDY)
    engine = hybrid.load("demo", context=64)
    tokens = engine.generate("Once upon a time", max_tokens=8, temperature=0)
    assert outcome.out == "".join(token.text for token in tokens) + "\n"
    assert "tiny-tales (deepseek2)" in outcome.err
    assert "tok/s" in outcome.err.splitlines()[-1]


def test_run_json_holds_tokens_timings_and_plan(command):
    rules = ("-cmoe", "-ot", r"blk\.0\.attn=CUDA0,attn=CUDA1")
    line = ("run", "-m", "demo", "-n", "6", "--json", *GREEDY, *TWO_GPUS, *rules)
    outcome = command(*line, stdin="Once upon a time\n")
    answer = json.loads(outcome.out)
    assert len(answer["prompt_tokens"]) == 6
    assert len(answer["token_ids"]) == 6
    assert answer["text"]
    assert answer["finish_reason"] == "length"
    assert answer["seed"] >= 0
    assert answer["model"]["architecture"] == "deepseek2"
    assert set(answer["plan"]["devices"]) == {"CPU", "CUDA0", "CUDA1"}
    timings = answer["timings"]
    assert timings["crossing_bytes"] > 0
    assert set(timings["device_s"]) == {"CPU", "CUDA0", "CUDA1"}
    for name in ("load_s", "prompt_s", "prompt_tokens_per_s", "decode_s", "decode_tokens_per_s"):
        assert timings[name] > 0


def test_the_told_seed_gives_the_same_text_again(command):
    line = ("run", "demo", "-p", "The", "-n", "8", "-c", "64", "--json", "--temp", "1.5")
    first = json.loads(command(*line).out)
    again = json.loads(command(*line, "-s", str(first["seed"])).out)
    other = json.loads(command(*line, "-s", str(first["seed"] + 1)).out)
    assert again["token_ids"] == first["token_ids"] != other["token_ids"]


def test_a_prompt_may_come_as_ids_as_text_and_from_a_file(command, tmp_path):
    (tmp_path / "p.txt").write_text("Once upon a time\n")
    by_text = json.loads(command("run", "demo", "-p", "Once upon a time", "-n", "2", "--json").out)
    ids = ",".join(map(str, by_text["prompt_tokens"]))
    for flags in (("--prompt-ids", ids), ("-f", str(tmp_path / "p.txt"))):
        other = json.loads(command("run", "demo", *flags, "-n", "2", "--json").out)
        assert other["prompt_tokens"] == by_text["prompt_tokens"]


def test_special_tokens_in_a_prompt_are_those_tokens(command, tmp_path):
    text = "<\uff5cUser\uff5c>Hi<\uff5cAssistant\uff5c>"
    (tmp_path / "p.txt").write_text(text, encoding="utf-8")
    for flags in (("-p", text), ("-f", str(tmp_path / "p.txt"))):
        ids = json.loads(command("run", "demo", *flags, "-n", "1", "--json").out)["prompt_tokens"]
        assert (ids[1], ids[-1]) == (3, 4)
        assert len(ids) <= 5


def test_a_second_begin_of_text_token_is_noted(command):
    bos = "<\uff5cbegin\u2581of\u2581sentence\uff5c>"
    line = ("-c", "64", "-n", "1")
    assert "two begin-of-text" in command("run", "demo", "-p", f"{bos}Hi", *line).err
    assert "begin-of-text" not in command("run", "demo", "-p", "Hi", *line).err


def test_a_text_that_the_context_ends_is_said_to_be_cut(command):
    line = ("run", "demo", "--prompt-ids", "0,54,1183", "-c", "8", "--temp", "0", "--ignore-eos")
    for flags in ((), ("--json",)):
        assert "all 8 tokens of context are used; -c N" in command(*line, *flags).err
    assert "are used" not in command(*line, "-n", "5").err


def test_a_file_without_vocabulary_runs_on_ids_and_prints_ids(command, tmp_path):
    path = str(make_model(tmp_path / "bare.gguf", vocabulary=False))
    outcome = command("run", path, "--prompt-ids", "1,2,3", "-n", "4", *GREEDY)
    assert outcome.code == 0, outcome.err
    assert len([int(word) for word in outcome.out.split()]) == 4
    refused = command("run", path, "-p", "hi", "-n", "4", *GREEDY)
    assert refused.code == 1
    assert "carries no vocabulary" in refused.err
    for name, flags in (("chat", ()), ("perplexity", ("-f", __file__))):
        refused = command(name, path, *flags, "-c", "64")
        assert refused.code == 1
        assert "carries no vocabulary" in refused.err


def test_a_header_alone_is_planned_and_inspected_but_not_run(command, tmp_path, demo_bytes):
    path = tmp_path / "header.gguf"
    with GgufFile.open(_written(path, demo_bytes)) as file:
        start = min(tensor.offset for tensor in file.tensors.values())
    path.write_bytes(demo_bytes[:start])
    budget = ("--ram", "1GiB")  # what is free may change between two calls
    assert command("plan", str(path), *budget).out == command("plan", "demo", *budget).out
    assert "data_present  False" in command("inspect", str(path)).out
    refused = command("run", str(path), "-p", "hi")
    assert refused.code == 1
    assert "is cut" in refused.err


def test_a_saved_plan_is_obeyed(command, tmp_path):
    path = str(tmp_path / "plan.json")
    rule = ("-ot", r"blk\.2\..*exps=CUDA1")
    saved = command("plan", "demo", *TWO_GPUS, *rule, "-c", "64", "--json", "--save", path)
    shown = json.loads(saved.out)
    assert json.loads(Path(path).read_text()) == shown
    assert from_json(shown).workload.context_tokens == 64
    line = ("run", "demo", "-p", "hi", "-n", "2", "--temp", "0", "--json")
    obeyed = json.loads(command(*line, *TWO_GPUS, "--plan", path).out)
    sizes = {use["name"]: use["total_bytes"] for use in shown["devices"]}
    assert obeyed["plan"]["devices"] == sizes
    assert "CUDA1" in obeyed["timings"]["device_s"]


def test_plan_reports_on_stdout_and_notes_what_is_not_in_the_report(command):
    outcome = command("plan", "demo", "-c", "5000")
    assert "blk.1-4" in outcome.out
    assert "context 5000 is longer than the 1024 tokens" in outcome.err
    assert "no GPU" not in outcome.err
    assert "no GPU" in command("plan", "demo", "--json").err


def test_device_none_leaves_simulated_gpus_out(command):
    shown = json.loads(command("plan", "demo", "--json", *TWO_GPUS, "--device", "none").out)
    assert [use["name"] for use in shown["devices"]] == ["CPU"]


def test_inspect_sums_up_the_file(command, demo_bytes):
    facts = json.loads(command("inspect", "demo", "--json").out)
    assert facts["hyper_parameters"]["layers"] == 5
    assert facts["tokenizer"] | {"kind": "gpt2", "tokens": 4096} == facts["tokenizer"]
    nbytes = facts["file"]["tensor_bytes"]
    assert sum(row["bytes"] for row in facts["roles"]) == nbytes
    assert sum(row["bytes"] for row in facts["formats"]) == nbytes
    assert "tensors" not in facts
    assert "metadata" not in facts
    assert 0 < nbytes < len(demo_bytes)


def test_inspect_lists_tensors_and_keys_when_asked(command):
    facts = json.loads(command("inspect", "demo", "--json", "--tensors", "--metadata").out)
    assert len(facts["tensors"]) == facts["file"]["tensors"] == 110
    assert facts["metadata"]["deepseek2.expert_count"] == 16
    assert len(facts["metadata"]["tokenizer.ggml.tokens"]) == 4096
    text = command("inspect", "demo", "--tensors", "--metadata").out
    assert "blk.4.ffn_down_exps.weight" in text
    assert max(map(len, text.splitlines())) < 250


def test_inspect_shows_files_of_unknown_architecture(command, broken):
    outcome = command("inspect", broken("unknown architecture"), "--tensors", "--json")
    assert outcome.code == 0
    assert "mammouth9" in outcome.err
    facts = json.loads(outcome.out)
    assert facts["file"]["architecture"] == "mammouth9"
    assert len(facts["tensors"]) == 110
    assert "roles" not in facts


def test_doctor_tells_what_was_found_and_from_where(command):
    facts = json.loads(command("doctor", "--json", *TWO_GPUS).out)
    assert [device["name"] for device in facts["machine"]["devices"]] == ["CPU", "CUDA0", "CUDA1"]
    assert all(finding["source"] for finding in facts["machine"]["findings"])
    assert facts["program"]["packages"]["torch"] != "not installed"
    assert facts["program"]["compute_capability"] == "CUDA0 none, CUDA1 none"
    text = command("doctor", "--no-measure").out
    assert "native library" in text
    assert all(f"\n{part}" in text for part in ("cuda driver", "nvrtc", "triton", "torch sees"))
    assert "NUMA library" in text


def test_perplexity_of_two_windows_is_that_of_their_logits(command, tmp_path):
    text = "It was a dark night. " * 6
    (tmp_path / "text.txt").write_text(text)
    line = ("perplexity", "demo", "-f", str(tmp_path / "text.txt"), "-c", "16", "-ub", "7")
    line += ("--kernels", "exact")  # the others round absorbed and expanded attention unlike
    answer = json.loads(command(*line, "--limit-windows", "2", "--json").out)
    assert answer["tokens"] == 30
    assert answer["perplexity"] == pytest.approx(math.exp(answer["mean_negative_log_likelihood"]))
    engine = hybrid.load("demo", context=16, kernels="exact")
    ids = engine.tokenizer.encode(text, add_special=False)
    losses = []
    for part in (ids[:15], ids[15:30]):
        logits = engine.logits([engine.tokenizer.bos_id, *part]).astype("float64")[:-1]
        for row, token in zip(logits, part, strict=True):
            losses.append(math.log(sum(math.exp(x) for x in row)) - row[token])
    assert answer["mean_negative_log_likelihood"] == pytest.approx(mean(losses), rel=1e-5)
    error = answer["perplexity"] * stdev(losses) / math.sqrt(30)
    assert answer["perplexity_standard_error"] == pytest.approx(error, rel=1e-4)
    last = command(*line, "--chunks", "2").out.splitlines()[-1]
    assert last.split() == ["perplexity", f"{answer['perplexity']:.4f}", "±", f"{error:.4f}"]


@pytest.mark.parametrize(("given", "windows"), [("1", 1), ("2", 2), ("99", 3), ("-1", 3)])
def test_chunks_are_the_first_windows_of_a_text(given, windows, command, tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_text("It was a dark night. " * 6)
    monkeypatch.setattr(
        "hybrid.cli.perplexity.text_windows", lambda *_: [[1, 5, 6], [1, 7], [1, 8, 9]]
    )
    line = ("perplexity", "demo", "-f", str(tmp_path / "text.txt"), "-c", "16", "--json")
    answer = json.loads(command(*line, "--chunks", given).out)
    assert (answer["windows"], answer["tokens"]) == (windows, (2, 3, 5)[windows - 1])


@pytest.mark.parametrize("given", ["0", "-2", "all"])
def test_chunks_that_cannot_be_meant_are_a_usage_error(given, command):
    outcome = command("perplexity", "demo", "-f", "text.txt", "--chunks", given)
    assert outcome.code == 2
    assert f"{given!r} is not a whole number of at least 1, nor -1" in outcome.err


def test_an_empty_text_is_told_before_the_models_file_is_opened(command, monkeypatch):
    monkeypatch.setattr("hybrid.runtime.prepare.GgufFile.open", lambda path: pytest.fail("opened"))
    for line in (("-f", "/dev/null"), ("-f", "-"), ()):
        outcome = command("perplexity", "demo", *line)
        assert outcome.code == 2
        assert outcome.err.startswith("error: the text is empty")


def test_perplexity_tells_how_it_is_computed_and_how_llama_cpp_does(command):
    told = " ".join(command("perplexity", "--help").out.split())
    assert "Every token but that first one is scored" in told
    assert "llama.cpp scores the second half of each window" in told


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("flags", "start"), [((), ""), (("--display-prompt",), "Once upon")])
def test_the_prompt_is_repeated_when_asked(flags, start, command):
    plain = command("run", "demo", "-p", "Once upon", "-n", "2", *GREEDY)
    assert command("run", "demo", "-p", "Once upon", "-n", "2", *GREEDY, *flags).out == (
        start + plain.out
    )


def test_a_plan_tells_of_every_tensor_where_it_goes_and_why(command):
    gpus = ("--simulate", "CUDA0=96MiB,CUDA1=96MiB")
    text = command("plan", "demo", *gpus, "-ot", "exps#0-3=CPU,^output=CPU", "--tensors").out
    listed = {line.split()[0]: line for line in text.split("\n\n")[-1].splitlines()}
    assert len(listed) > 100
    assert "rule 2" in listed["output.weight"]
    assert "CPU" in listed["blk.1.ffn_up_exps.weight#0-3"]
    assert "rule 1" in listed["blk.1.ffn_up_exps.weight#0-3"]
    assert "attention of layer 2" in listed["blk.2.attn_output.weight"]
