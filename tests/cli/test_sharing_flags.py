"""-sm, -mg, -ts, --margin, -fitt, -np: what they mean here, and what is said of them."""

import json

import pytest

from hybrid.cli import plan
from hybrid.cli.parser import Parser
from hybrid.cli.placement_flags import load_options
from hybrid.errors import UsageError

MIB = 1 << 20
GPUS = ("--simulate", "CUDA0=128MiB,CUDA1=128MiB,CUDA2=128MiB")


def options_and_notes(line: str):
    parser = Parser("plan", "")
    parser.set_defaults(visible=None, profiles=None)
    plan.add_arguments(parser)
    return load_options(parser.read(f"demo {line}".split()))


def homes(command, *flags: str) -> list[str]:
    outcome = command("plan", "demo", *GPUS, "--json", *flags)
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)["layers"]


def budgets(command, *flags: str) -> dict[str, int]:
    outcome = command("plan", "demo", *GPUS, "--json", *flags)
    assert outcome.code == 0, outcome.err
    return {use["name"]: use["budget_bytes"] for use in json.loads(outcome.out)["devices"]}


def test_shares_are_read_with_commas_or_slashes():
    assert options_and_notes("-ts 3,1")[0].shares == (3.0, 1.0)
    assert options_and_notes("--tensor-split 24/24/0")[0].shares == (24.0, 24.0, 0.0)
    assert options_and_notes("")[0].shares is None


@pytest.mark.parametrize("text", ["0,0", "x", "1,-1", "", "inf,1", "nan"])
def test_shares_that_share_nothing_are_an_error(text):
    with pytest.raises(UsageError, match="-ts"):
        options_and_notes(f"-ts={text}")


def test_shares_decide_how_many_layers_each_gpu_gets(command):
    assert homes(command, "-ts", "3,1,1") == ["CUDA0"] * 3 + ["CUDA1", "CUDA2"]
    assert set(homes(command, "-ts", "0,1,0")) == {"CUDA1"}
    assert set(homes(command, "-ts", "1")) == {"CUDA0"}
    assert set(homes(command, "-ts", "0,0,5,5")) == {"CUDA2"}


def test_shares_without_room_are_told(command):
    line = ("plan", "demo", "--machine", "2x3090-256g", "-ngl", "99", "-ts", "1,0")
    assert "-ts" not in command(*line).out
    found = command(*line, "--vram", "CUDA0=960MiB")
    assert "-ts 1,0 is not obeyed: its blocks have no room" in found.out


def test_one_gpu_is_used_alone(command):
    assert set(homes(command, "-sm", "none")) == {"CUDA0"}
    assert set(homes(command, "-sm", "none", "-mg", "2")) == {"CUDA2"}
    outcome = command("plan", "demo", *GPUS, "-sm", "none", "-mg", "3")
    assert (outcome.code, "-mg takes 0 to 2" in outcome.err) == (2, True)


def test_one_gpu_of_none_is_the_cpu(command):
    outcome = command("plan", "demo", "--device", "none", "-sm", "none", "-mg", "1", "--json")
    assert set(json.loads(outcome.out)["layers"]) == {"CPU"}


def test_margins_are_left_free_on_gpus_without_a_budget(command):
    found = budgets(command, "--margin", "28MiB")
    assert {name: found[name] for name in found if name != "CPU"} == {
        "CUDA0": 100 * MIB,
        "CUDA1": 100 * MIB,
        "CUDA2": 100 * MIB,
    }
    found = budgets(command, "--margin", "28MiB,8MiB", "--vram", "CUDA2=50MiB")
    assert [found[f"CUDA{i}"] for i in range(3)] == [100 * MIB, 120 * MIB, 50 * MIB]
    assert budgets(command, "--margin", "1GiB")["CUDA0"] == 0


@pytest.mark.parametrize("flag", ["-fitt", "--fit-target", "--fit-margin"])
def test_their_margins_are_mebibytes(flag):
    assert options_and_notes(f"{flag} 1024,512")[0].margins == (1024 * MIB, 512 * MIB)


def test_a_negative_margin_is_an_error():
    with pytest.raises(UsageError, match="negative"):
        options_and_notes("--margin=-1GiB")


def test_sequences_are_planned_and_one_is_said_to_run(command):
    options, notes = options_and_notes("-np 4")
    assert options.sequences == 4
    assert notes[0].startswith("-np 4 plans cache for 4 sequences of -c tokens each")
    assert options_and_notes("-np 1")[1] == ()


def test_a_run_reserves_memory_for_one_sequence(command):
    line = ("demo", "-p", "Once", "-n", "2", "-c", "64", "--json", "--device", "none")
    one, four = (json.loads(command("run", *line, *more).out) for more in ((), ("-np", "4")))
    assert one["plan"]["devices"] == four["plan"]["devices"]


def test_a_plan_for_several_sequences_runs_one(command, tmp_path):
    file = str(tmp_path / "plan.json")
    assert command("plan", "demo", "-np", "3", "-c", "64", "--save", file).code == 0
    outcome = command("run", "demo", "-p", "Once", "-n", "3", "-s", "1", "--plan", file)
    plain = command("run", "demo", "-p", "Once", "-n", "3", "-s", "1", "-c", "64")
    assert (outcome.code, outcome.out) == (0, plain.out)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("-sm row", "-sm row is taken as -sm layer"),
        ("-sm graph", "-sm graph is taken as -sm layer"),
        ("-mg 1", "-mg 1 has no effect without -sm none"),
        ("-sm none -ts 1,1", "-ts has no effect with -sm none"),
        ("-ctk q4_0", "-ctk q4_0 is taken as -ctk q8_0"),
    ],
)
def test_what_is_taken_otherwise_is_said_in_one_line(line, word):
    (note,) = options_and_notes(line)[1]
    assert note.startswith(word)


def test_their_cache_formats_become_the_smallest_of_ours():
    for name in ("q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1", "q6_0", "q8_KV"):
        assert options_and_notes(f"-ctk {name}")[0].cache_format == "q8_0"
    assert options_and_notes("-ctk bf16")[0].cache_format == "bf16"
