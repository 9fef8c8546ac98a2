"""Errors of `hybrid.load` name the options of a call beside the flags of the command line."""

import argparse
from dataclasses import fields

import pytest

import hybrid
from hybrid.cli.main import main
from hybrid.cli.placement_flags import add_placement_flags
from hybrid.runtime.option_names import ELSEWHERE, EXAMPLES, OPTION_OF_FLAG, options_named
from hybrid.runtime.options import LoadOptions
from kernels.native import tiers

MIB = 1 << 20
CPU_ALONE = {"devices": ("none",)}


def test_every_flag_and_every_option_of_the_table_exists():
    parser = argparse.ArgumentParser()
    add_placement_flags(parser)
    assert set(OPTION_OF_FLAG) <= set(parser._option_string_actions)
    options = {field.name for field in fields(LoadOptions)}
    assert {*OPTION_OF_FLAG.values(), *ELSEWHERE.values()} <= options


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({**CPU_ALONE, "budgets": {"CPU": 10 * MIB}}, ["budgets for --ram"]),
        ({"devices": ("CUDA7",)}, ["devices for --device"]),
        ({**CPU_ALONE, "context": 1 << 40}, ["context for -c"]),
        ({**CPU_ALONE, "tier": "amx"}, ["tier for --tier"]),
        ({"simulate": {"CUDA0": 16 * MIB}, "gpu_layers": 99}, ["simulate for --simulate"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_error_of_load_names_its_options(options, names, monkeypatch):
    monkeypatch.setattr(tiers, "here", lambda: ("scalar", "avx2"))
    with pytest.raises(hybrid.HybridError) as raised:
        hybrid.load("demo", **options)
    last = str(raised.value).splitlines()[-1]
    assert "as options of hybrid.load: " in last
    assert all(name in last for name in names)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ram", 'ram is called budgets in Python: budgets={"CPU": 64 << 30}, in bytes'),
        ("vram", 'vram is called budgets in Python: budgets={"CUDA0": 22 << 30}, in bytes'),
        ("ngl", "ngl is called gpu_layers in Python"),
        ("n_cpu_moe", "n_cpu_moe is called rules in Python"),
        ("ncmoe", "ncmoe is called rules in Python"),
        ("n_ctx", "n_ctx is called context in Python"),
    ],
)
def test_a_flag_given_as_an_option_is_told_the_options_name(name, said):
    with pytest.raises(hybrid.HybridError) as raised:
        hybrid.load("demo", **{name: 64})
    assert str(raised.value) == f"unknown option '{name}'\n  try   {said}"


def test_every_example_of_an_option_is_one():
    for flag, example in EXAMPLES.items():
        name, _, value = example.partition("=")
        assert OPTION_OF_FLAG[flag] == name
        given = eval(value)
        assert LoadOptions.from_keywords(**{name: given}).budgets == given


def test_an_error_without_flags_stays_as_it_is():
    error = hybrid.HybridError("a file--name with a-c in it", remedy="another one")
    with pytest.raises(hybrid.HybridError), options_named():
        raise error
    assert error.remedies == ("another one",)


def test_the_command_line_says_flags_alone(capsys):
    assert main(["run", "demo", "-p", "x", "--ram", "10MiB", "--device", "none"]) == 1
    assert "hybrid.load" not in capsys.readouterr().err
