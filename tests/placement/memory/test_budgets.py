import pytest

from placement.errors import PlacementError
from placement.machines.machine import DeviceKind
from placement.memory.budgets import GPU_MARGIN_BYTES, device_budgets, parse_budgets, parse_simulate
from tests.placement.models import GIB, MIB, machine


def test_budgets_keep_their_sign() -> None:
    assert parse_budgets("CUDA0=22GiB, cuda:1=-1GiB") == {"CUDA0": 22 * GIB, "CUDA1": -GIB}


def test_simulated_gpus_come_in_order() -> None:
    assert list(parse_simulate("CUDA1=48MiB,CUDA0=64MiB").items()) == [
        ("CUDA0", 64 * MIB),
        ("CUDA1", 48 * MIB),
    ]


@pytest.mark.parametrize(
    "text",
    ["", "CUDA0", "CUDA0=", "=5G", "CUDA0=0", "CUDA0=-1G", "CUDA1=5G", "CUDA0=1G,CUDA0=2G", "X=1G"],
)
def test_bad_simulation_shows_a_good_one(text: str) -> None:
    with pytest.raises(PlacementError) as error:
        parse_simulate(text)
    assert "--simulate" in str(error.value)


def test_negative_budget_is_taken_from_what_is_free() -> None:
    budgets = device_budgets(machine(10 * GIB, kind=DeviceKind.GPU), {"CUDA0": -GIB})
    assert budgets["CUDA0"] == 9 * GIB


def test_only_real_gpus_keep_a_margin() -> None:
    real = device_budgets(machine(10 * GIB, kind=DeviceKind.GPU), None)
    assert real["CUDA0"] == 10 * GIB - GPU_MARGIN_BYTES
    assert device_budgets(machine(64 * MIB), None)["CUDA0"] == 64 * MIB


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"CUDA3": GIB}, "CUDA3, which is not here"),
        ({"CUDA0": 99 * GIB}, "larger than the device"),
        ({"CUDA0": -99 * GIB}, "less than nothing"),
    ],
)
def test_impossible_budget_is_an_error(asked: dict[str, int], words: str) -> None:
    with pytest.raises(PlacementError, match=words):
        device_budgets(machine(10 * GIB), asked)


def test_ram_may_be_told_larger_than_what_is_there() -> None:
    assert device_budgets(machine(), {"CPU": 9999 * GIB})["CPU"] == 9999 * GIB
