"""Wrong calls get one UsageError each; loose ones mean what they say."""

import sys
from subprocess import run

import pytest

from hybrid.errors import UsageError
from hybrid.runtime.options import CpuMoe, LoadOptions, SamplingOptions

MIB = 1 << 20


def test_an_unknown_option_is_named_with_the_nearest_and_all():
    with pytest.raises(UsageError) as error:
        LoadOptions.from_keywords(contxt=64)
    assert "unknown option 'contxt'" in str(error.value)
    assert "did you mean context?" in str(error.value)
    assert "cache_format, cache_in_ram" in str(error.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"context": "64"}, "context is '64'"),
        ({"context": 64.5}, "context is 64.5"),
        ({"context": True}, "context is True"),
        ({"context": -1}, "context is -1"),
        ({"ubatch": "all"}, "ubatch is 'all'"),
        ({"ubatch": 0}, "ubatch is 0"),
        ({"attention_work_bytes": "256MiB"}, "attention_work_bytes is '256MiB'"),
        ({"threads": 10**6}, "threads is 1000000"),
        ({"gpu_layers": "all"}, "gpu_layers is 'all'"),
        ({"mmap": "no"}, "mmap 'no'"),
        ({"cache_format": "q9_9"}, "cache_format 'q9_9'"),
        ({"cache_in_ram": "CUDA0"}, "cache_in_ram 'CUDA0'"),
        ({"conventions": "theirs"}, "conventions 'theirs'"),
        ({"rules": [7]}, "rules holds 7"),
        ({"rules": 7}, "rules holds 7"),
        ({"devices": [0]}, "devices holds 0"),
        ({"budgets": {"CPU": "64GiB"}}, "budgets of CPU is '64GiB'"),
        ({"budgets": "CPU=64GiB"}, "budgets is 'CPU=64GiB'"),
        ({"simulate": {"CUDA0": "64MiB"}}, "simulate of CUDA0 is '64MiB'"),
        ({"simulate": "CUDA0=64MiB"}, "simulate is 'CUDA0=64MiB'"),
        ({"simulate": {"CUDA0": 0}}, "simulate gives CUDA0 0 bytes"),
        ({"simulate": {"CUDA1": MIB}}, "without gaps"),
        ({"simulate": {"GPU": MIB}}, "without gaps"),
        ({"plan": 3}, "plan is of type int"),
    ],
    ids=str,
)
def test_a_value_of_the_wrong_kind_is_one_block(given, words):
    with pytest.raises(UsageError) as error:
        LoadOptions.from_keywords(**given)
    assert words in str(error.value)


def test_one_rule_and_one_device_need_no_list():
    assert LoadOptions.from_keywords(rules="exps=CPU").rules == ("exps=CPU",)
    assert LoadOptions.from_keywords(rules=CpuMoe(2)).rules == (CpuMoe(2),)
    assert LoadOptions.from_keywords(rules=["a=CPU", CpuMoe()]).rules == ("a=CPU", CpuMoe())
    assert LoadOptions.from_keywords(devices="none").devices == ("none",)
    assert LoadOptions.from_keywords(devices=["CUDA0"]).devices == ("CUDA0",)
    assert LoadOptions.from_keywords(rules=None, devices=None) == LoadOptions()


def test_simulated_gpus_are_spelled_and_ordered_as_devices_are():
    wanted = {f"cuda:{number}": MIB + number for number in reversed(range(11))}
    simulate = LoadOptions.from_keywords(simulate=wanted).simulate
    assert list(simulate.items()) == [(f"CUDA{number}", MIB + number) for number in range(11)]


@pytest.mark.parametrize(
    "beside",
    [
        {"rules": "exps=CPU"},
        {"context": 64},
        {"ubatch": 7},
        {"cache_format": "f32"},
        {"cache_in_ram": True},
        {"attention_work_bytes": MIB},
        {"budgets": {"CPU": MIB}},
        {"gpu_layers": 3},
    ],
    ids=str,
)
def test_a_plan_beside_what_it_decides_is_refused(beside):
    with pytest.raises(UsageError, match=f"plan and {next(iter(beside))} are both given"):
        LoadOptions.from_keywords(plan="plan.json", **beside)


def test_a_plan_goes_with_what_it_does_not_decide():
    options = LoadOptions.from_keywords(plan="plan.json", mmap=True, threads=2, rules=())
    assert (options.plan, options.mmap) == ("plan.json", True)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"top_k": 2.5}, "top-k is 2.5"),
        ({"top_k": "40"}, "top-k is '40'"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1 << 63}, "seed is 9223372036854775808"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"temperature": "warm"}, "temperature is 'warm'"),
        ({"temperature": float("nan")}, "temperature nan is out of range"),
        ({"min_p": None}, "min-p is None"),
    ],
    ids=str,
)
def test_sampling_takes_numbers_in_range_only(field, words):
    with pytest.raises(UsageError) as error:
        SamplingOptions(**field)
    assert words in str(error.value)


def test_an_unknown_sampling_option_is_named_with_the_nearest():
    assert SamplingOptions.from_keywords(top_k=3) == SamplingOptions(top_k=3)
    with pytest.raises(UsageError) as error:
        SamplingOptions.from_keywords(temprature=1)
    assert "unknown sampling option 'temprature'" in str(error.value)
    assert "did you mean temperature?" in str(error.value)


def test_the_greatest_seed_is_good():
    assert SamplingOptions(seed=(1 << 63) - 1).seed == (1 << 63) - 1


def test_options_need_no_torch():
    program = "import sys, hybrid.runtime.options; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", program], check=False).returncode == 0
