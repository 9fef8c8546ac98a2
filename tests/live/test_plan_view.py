"""What a snapshot takes from the plan, of the packaged model on machines with simulated GPUs."""

from dataclasses import replace

import pytest

from hybrid.live.compared import Predicted
from hybrid.live.plan_view import plan_view
from hybrid.runtime.options import LoadOptions
from hybrid.runtime.prepare import prepare
from placement.cost.traffic import decode_traffic
from placement.machines.estimates import speeds_of

GIB = 1 << 30


def prepared(*rules, gpus=1, **options):
    simulate = {f"CUDA{n}": GIB for n in range(gpus)} or None
    asked = LoadOptions(rules=rules, simulate=simulate, threads=1, context=512, **options)
    return prepare("demo", asked)


def test_every_device_s_parts_are_the_plan_s():
    made = prepared("exps=CPU")
    view = plan_view(made, "run")
    uses = {use.name: use for use in made.plan.devices}
    assert [device.name for device in view.devices] == ["CPU", "CUDA0"]
    for device in view.devices:
        use, memory = uses[device.name], device.memory
        assert sum(memory.weights.values()) == use.weights_bytes
        assert memory.planned_bytes == use.total_bytes
        assert (memory.cache_bytes, memory.budget_bytes) == (use.cache_bytes, use.budget_bytes)
    assert "routed expert" in view.devices[0].memory.weights
    assert "attention" in view.devices[1].memory.weights


@pytest.mark.parametrize("depth", [0, 1, 300])
@pytest.mark.parametrize("in_ram", [False, True])
def test_bytes_of_a_token_are_those_of_the_cost_model_at_every_depth(depth, in_ram):
    made = prepared("exps=CPU", cache_in_ram=in_ram)
    view = plan_view(made, "run")
    expected = decode_traffic(made.plan, made.inventory, depth)
    assert {name: reads.at(depth) for name, reads in view.reads.items()} == {
        name: traffic.total_bytes for name, traffic in expected.items()
    }


@pytest.mark.parametrize(
    ("rules", "gpus", "line"),
    [
        ((), 0, "CPU layers 0-4"),
        (("exps=CPU",), 1, "CUDA0 (simulated) layers 0-4; experts on CPU"),
        ((r"blk\.[12]\..*exps=CPU",), 1, "CUDA0 (simulated) layers 0-4; experts on CPU, CUDA0"),
    ],
)
def test_the_plan_in_one_line_names_experts_that_are_not_at_home(rules, gpus, line):
    options = {} if gpus else {"devices": ("none",)}
    view = plan_view(prepared(*rules, gpus=gpus, **options), "run")
    assert view.facts.plan_line == line


def test_capacity_is_told_where_there_is_a_cache():
    cpu, gpu = plan_view(prepared("exps=CPU"), "run").devices
    assert (cpu.cache_capacity_tokens, gpu.cache_capacity_tokens) == (None, 512)
    cpu, gpu = plan_view(prepared("exps=CPU", cache_in_ram=True), "run").devices
    assert (cpu.cache_capacity_tokens, gpu.cache_capacity_tokens) == (512, None)


def test_a_simulated_gpu_has_no_speed_of_its_own_and_no_sensors():
    view = plan_view(prepared("exps=CPU"), "run")
    cpu, gpu = view.devices
    assert gpu.read_limit_bytes_s is None
    assert cpu.read_limit_bytes_s > 1e9
    assert view.uuids == {}
    assert gpu.description == "simulated: reference kernels on the CPU"


def test_a_gpu_that_the_cpu_plays_is_held_against_no_prediction():
    view = plan_view(prepared("exps=CPU"), "run")
    assert (view.facts.predicted_decode_tok_s, view.facts.limit) == (None, "")
    assert view.predicted == Predicted()


def test_layers_name_the_devices_of_their_experts_by_share():
    view = plan_view(prepared(r"blk\.2\..*exps#0-11=CPU"), "run")
    assert view.layers[0].experts == ()  # dense
    assert view.layers[1].experts == ("CUDA0",)
    assert view.layers[2].experts == ("CPU", "CUDA0")
    assert {layer.attention for layer in view.layers} == {"CUDA0"}


def test_the_command_and_the_prediction_are_told():
    facts = plan_view(prepared(gpus=0, devices=("none",)), "bench").facts
    assert (facts.command, facts.context_tokens, facts.threads) == ("bench", 512, 1)
    assert facts.predicted_decode_tok_s > 0
    assert 0 < facts.predicted_error < 1
    assert facts.limit


def test_the_prediction_is_kept_at_all_its_depths():
    made = prepared(gpus=0, devices=("none",))
    told, kept = made.plan.prediction, plan_view(made, "run").predicted
    assert [depth for depth, _ in kept.decode] == [pace.depth for pace in told.decode]
    assert kept.prompt[0][1] == pytest.approx(1 / told.prompt[0].tokens_per_s)
    assert kept.ubatch_tokens == made.plan.workload.ubatch_tokens


def test_limits_say_whether_anybody_measured_them():
    made = prepared("exps=CPU")
    view = plan_view(made, "run")
    cpu, gpu = view.devices
    assert (cpu.read_limit_is_measured, gpu.read_limit_is_measured) == (False, None)
    assert {node.read_limit_is_measured for node in view.nodes} == {False}
    known = replace(made.machine, speeds=speeds_of(made.machine))
    view = plan_view(replace(made, machine=known), "run")
    assert view.devices[0].read_limit_is_measured
    assert {node.read_limit_is_measured for node in view.nodes} == {True}


def test_bytes_of_experts_in_ram_are_part_of_what_a_token_reads_there():
    view = plan_view(prepared("exps=CPU"), "run")
    assert 0 < view.experts_bytes <= view.reads["CPU"].weight_bytes
    assert plan_view(prepared(), "run").experts_bytes == 0
