"""Command lines of llama.cpp and ik_llama.cpp parse unchanged, and mean what they mean there."""

import argparse
import json

import pytest

from hybrid.cli import bench, chat, parser, perplexity, plan, run
from hybrid.cli.foreign_flag import foreign_notes
from hybrid.cli.foreign_flags import FLAGS
from hybrid.cli.main import main
from hybrid.cli.parser import Parser
from hybrid.cli.placement_flags import load_options
from hybrid.cli.prompts import read_prompt, sampling
from hybrid.runtime.options import CpuMoe, LoadOptions, SamplingOptions
from placement.request import ALL_LAYERS

GUIDE_LINE = (
    "-m demo -ngl 99 -mla 3 -fa -fmoe -amb 512 -rtr -ot exps=CPU -c 8192 -ub 4096 -p hi -n 8"
)


def parsed(line: str, command=run):
    made = Parser("run", "")
    made.set_defaults(visible=None, profiles=None)
    command.add_arguments(made)
    return made.read(line.split())


def told(args) -> list[str]:
    return foreign_notes(args.foreign_uses)


def options_of(line: str) -> LoadOptions:
    return load_options(parsed(f"demo {line}"))[0]


def test_a_guide_line_of_2025_parses_unchanged():
    args = parsed(GUIDE_LINE)
    options, notes = load_options(args)
    assert (args.model, args.prompt, args.predict) == ("demo", "hi", 8)
    assert options == LoadOptions(
        rules=("exps=CPU",),
        context=8192,
        ubatch=4096,
        attention_work_bytes=512 << 20,
        gpu_layers=99,
    )
    assert len(notes) == 1
    assert ": -mla 3, -fa, -fmoe, -rtr (" in notes[0]


def test_no_flags_mean_the_defaults():
    assert options_of("") == LoadOptions()


def test_rules_and_moe_switches_keep_their_order():
    line = "-ncmoe 2 -ot a=CPU,b=CPU -cmoe --override-tensor c=CPU --n-cpu-moe 3 --cpu-moe"
    expected = (CpuMoe(2), "a=CPU,b=CPU", CpuMoe(), "c=CPU", CpuMoe(3), CpuMoe())
    assert options_of(line).rules == expected


def test_the_first_of_a_rule_and_a_switch_wins_in_the_plan(command):
    def homes(*flags: str) -> set[str]:
        line = ("plan", "demo", "--json", "--simulate", "CUDA0=128MiB", *flags)
        rows = json.loads(command(*line).out)["assignments"]
        return {row["device"] for row in rows if "blk.3.ffn_up_exps" in row["tensor"]}

    assert homes("-ot", "exps=CUDA0", "-cmoe") == {"CUDA0"}
    assert homes("-cmoe", "-ot", "exps=CUDA0") == {"CPU"}
    assert homes("-ncmoe", "2") == {"CUDA0"}
    assert homes("-ncmoe", "2", "-ot", "exps=CPU") == {"CPU"}


@pytest.mark.parametrize(
    ("text", "layers"), [("12", 12), ("0", 0), ("all", ALL_LAYERS), ("auto", None), ("-1", None)]
)
def test_gpu_layers_take_numbers_and_words(text, layers):
    for flag in ("-ngl", "--gpu-layers", "--n-gpu-layers"):
        assert options_of(f"{flag} {text}").gpu_layers == layers


def test_what_is_no_number_of_layers_is_told_every_word_that_is_taken(command):
    outcome = command("plan", "demo", "-ngl", "1e3")
    assert outcome.code == 2
    assert "'1e3' is neither a number of blocks nor -1 or auto" in outcome.err
    assert " nor all\n" in outcome.err


def test_a_remedy_says_all_where_all_was_typed(command):
    flags = ("--simulate", "CUDA0=20MiB", "-ngl")
    for typed in ("all", "99"):
        told = command("plan", "demo", *flags, typed).err
        assert f" in place of -ngl {typed}" in told
    assert "1048576" not in command("plan", "demo", *flags, "all").err


def test_a_plan_file_without_a_model_is_told_that_it_names_none(command):
    outcome = command("run", "--plan", "x.json", "-p", "hi")
    assert outcome.code == 2
    assert "the plan x.json says where tensors go and names no file" in outcome.err
    assert "  try   -m MODEL --plan x.json\n" in outcome.err


def test_help_tells_the_default_of_n(command):
    assert "-1, the default: until" in " ".join(command("run", "--help").out.split())


def test_budgets_devices_and_simulated_gpus_are_read():
    options = options_of(
        "--vram CUDA0=22GiB,cuda:1=-1GiB --ram 64GiB --simulate CUDA0=1MiB --device CUDA0,CUDA1"
    )
    assert options.budgets == {"CUDA0": 22 << 30, "CUDA1": -1 << 30, "CPU": 64 << 30}
    assert options.simulate == {"CUDA0": 1 << 20}
    assert options.devices == ("CUDA0", "CUDA1")
    assert options_of("--device none").devices == ("none",)


def test_the_cache_goes_to_ram_and_a_later_flag_wins():
    assert options_of("-nkvo").cache_in_ram is True
    assert options_of("--no-kv-offload").cache_in_ram is True
    assert options_of("-nkvo -kvo").cache_in_ram is False
    assert options_of("--kv-offload -nkvo").cache_in_ram is True
    notes = load_options(parsed("demo --plan p.json -nkvo"))[1]
    assert notes == ("--plan p.json decides; without effect: -nkvo",)


def test_a_plan_and_its_file_say_where_the_cache_is(command, tmp_path):
    file = tmp_path / "plan.json"
    flags = ("plan", "demo", "--simulate", "CUDA0=64MiB")
    assert "cache f16, all of it in RAM\n" in command(*flags, "-nkvo", "--save", str(file)).out
    assert json.loads(file.read_text())["workload"]["cache_in_ram"] is True
    assert "all of it in RAM" in command(*flags, "--plan", str(file)).out
    assert "all of it in RAM" not in command(*flags).out


def test_the_other_flags_reach_their_options():
    options = options_of(
        "-ctk q8_0 --mmap --numa local -t 3 --conventions llama.cpp --kernels exact"
    )
    assert (options.cache_format, options.mmap, options.numa) == ("q8_0", True, "local")
    assert (options.threads, options.conventions) == (3, "llama.cpp")
    assert options_of("-t -1").threads is options_of("").threads is None
    assert options_of("--plan p.json").plan == "p.json"
    assert options_of("--mmap --no-mmap").mmap is False


@pytest.mark.parametrize(
    ("theirs", "ours"), [("distribute", "interleave"), ("isolate", "local"), ("numactl", "off")]
)
def test_numa_words_of_llama_cpp_are_translated_and_said(theirs, ours):
    options, notes = load_options(parsed(f"demo --numa {theirs}"))
    assert options.numa == ours
    assert notes == (f"--numa {theirs} is taken as --numa {ours}",)


@pytest.mark.parametrize("name", [name for flag in FLAGS for name in flag.names])
def test_every_foreign_flag_is_accepted_and_says_what_became_of_it(name):
    [flag] = [flag for flag in FLAGS if name in flag.names]
    forms = {
        "none": [name],
        "one": [f"{name} 3"],
        "switch": [name, f"{name} on", f"{name} off", f"{name} auto", f"{name} 1"],
    }[flag.value]
    for form in forms:
        args = parsed(f"demo {form} -c 64", plan)
        assert (args.model, args.ctx_size) == ("demo", 64)
        assert told(args) == [f"{form} has no effect here: {flag.became}"]


def test_a_foreign_flags_note_goes_to_stderr(command):
    outcome = command("plan", "demo", "-fa", "-ser", "1,1")
    assert outcome.code == 0
    assert "note: -fa has no effect here" in outcome.err
    assert "note: -ser 1,1 has no effect here" in outcome.err
    assert "note:" not in outcome.out


def test_flags_that_nobody_misses_share_a_line_and_the_others_keep_their_own():
    line = "demo --mlock -fa on --host 0.0.0.0 -b 4096 --repeat-penalty 1.1 -rtr"
    *own, together = told(parsed(line, plan))
    assert [note.split(" has no effect here: ")[0] for note in own] == [
        *("--host 0.0.0.0", "--repeat-penalty 1.1"),
    ]
    assert ": --mlock, -fa on, -b 4096, -rtr (" in together
    assert told(parsed("demo --mlock", plan)) == [
        "--mlock has no effect here: weights are copied into memory of our own"
    ]


@pytest.mark.parametrize(
    "missed",
    [
        *("--repeat-penalty", "-ser", "-ctv", "--rope-scale", "--override-kv", "--host", "--rpc"),
        *("--grammar", "-sys", "-p", "--temp", "-r", "--context-shift", "--keep", "-dr", "-md"),
        *("--chat-template", "--log-file", "-lm", "-tb", "--mirostat", "--check-tensors"),
    ],
)
def test_a_flag_whose_loss_is_felt_is_not_called_harmless(missed):
    [flag] = [flag for flag in FLAGS if missed in flag.names]
    assert not flag.is_harmless


def test_flags_beside_a_plan_file_are_said_to_be_without_effect():
    options, notes = load_options(parsed("demo --plan p.json -c 64 -ot a=CPU"))
    assert options == LoadOptions(plan="p.json")
    assert notes == ("--plan p.json decides; without effect: -ot, -cmoe and -ncmoe, -c",)


def test_the_model_is_a_flag_or_a_bare_word_anywhere():
    for line in (
        "demo -c 64",
        "-c 64 demo",
        "-m demo -c 64",
        "-c 64 --model demo",
        "-c 64 -- demo",
    ):
        args = parsed(line, plan)
        assert (args.model, args.ctx_size) == ("demo", 64)


def test_flags_are_not_guessed_from_their_beginning(command):
    assert "unknown flag --overr" in command("plan", "demo", "--overr", "exps=CPU").err


def test_sampling_flags_and_aliases_of_n():
    for flag in ("-n", "--predict", "--n-predict"):
        assert parsed(f"demo {flag} 7").predict == 7
    drawn = sampling(parsed("demo --temp 0.5 --top-k 3 --top-p 0.9 --min-p 0 -s 11"))
    assert drawn == SamplingOptions(temperature=0.5, top_k=3, top_p=0.9, min_p=0.0, seed=11)


def test_temperature_is_an_alias_of_temp(command):
    for module in (run, chat):
        args = parsed("demo --temperature 0", module)
        assert (args.temp, told(args)) == (0.0, [])
    greedy = [
        command("run", "demo", "-p", "The", "-n", "6", "-c", "64", flag, "0").out
        for flag in ("--temp", "--temperature")
    ]
    assert greedy[0] == greedy[1]
    assert "draws no tokens" in told(parsed("demo --temperature 0", plan))[0]


@pytest.mark.parametrize("module", [run, chat, bench, perplexity, plan])
def test_no_flag_says_of_its_command_what_another_flag_of_it_belies(module):
    parser = Parser("any", "")
    module.add_arguments(parser)
    told = {str(action.help) for action in parser._actions}
    names = parser._option_string_actions
    draws = names["--temp"].dest == "temp"
    reads = names["--prompt"].dest == "prompt"
    assert draws == (module in (run, chat))
    assert draws != ("this command draws no tokens" in told)
    assert reads == (module is run)
    assert reads != ("this command reads no prompt" in told)


def test_a_system_prompt_beside_run_is_sent_to_chat():
    [note] = told(parsed("demo -p hi -sys foo"))
    assert "-sys foo has no effect here: it is for `hybrid chat`; `hybrid run` continues" in note


def test_seed_minus_one_draws_a_fresh_one():
    seeds = {sampling(parsed("demo -s -1")).seed for _ in range(8)}
    assert len(seeds) > 1
    assert min(seeds) >= 0


def test_escapes_are_read_only_when_asked_for():
    args = parsed(r"demo -p a\nb\x41\\n\q")
    assert read_prompt(args) == r"a\nb\x41\\n\q"
    args.escape = True
    assert read_prompt(args) == "a\nbA\\n\\q"


def test_a_prompt_file_loses_its_last_line_end_only(tmp_path):
    path = tmp_path / "prompt.txt"
    path.write_bytes("für\r\nzwei\n\n".encode())
    assert read_prompt(parsed(f"demo -f {path}")) == "für\r\nzwei\n"


@pytest.mark.parametrize(
    ("given", "tokens"), [("0", 0), ("8192", 8192), ("8k", 8192), ("128K", 131_072), (" 4k", 4096)]
)
def test_tokens_may_be_told_in_k(given, tokens):
    assert parser.tokens(0)(given) == tokens


@pytest.mark.parametrize("given", ["", "k", "-1k", "8kk", "8Kk", "1.5k", "8m", "9" * 30 + "k"])
def test_other_tokens_are_refused_as_they_were_typed(given):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number") as raised:
        parser.tokens(0)(given)
    assert str(raised.value).startswith(repr(given))


def test_a_flag_without_its_value_is_told_what_it_takes(capsys):
    assert main(["run", "demo", "-p", "x", "--metrics"]) == 2
    assert "try   --metrics PORT\n" in capsys.readouterr().err
