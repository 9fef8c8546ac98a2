"""Parts of a device's time are called what they are there."""

from dataclasses import replace

from hybrid.tui.parts import with_named_parts
from tests.tui.recorded import four_gpus, one_gpu


def test_what_a_device_without_routed_experts_spends_in_experts_is_shared() -> None:
    gpu, cpu = with_named_parts(one_gpu()).devices
    assert gpu.seconds["shared"] == one_gpu().devices[0].seconds["experts"]
    assert "experts" not in gpu.seconds
    assert list(gpu.seconds)[2] == "shared"
    assert "experts" in cpu.seconds
    assert with_named_parts(four_gpus()) == four_gpus()
    unknown = replace(one_gpu(), layers=())
    assert with_named_parts(unknown) == unknown
