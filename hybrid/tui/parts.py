"""What a device's parts of time are called on the screen."""

from collections.abc import Mapping
from dataclasses import replace

from hybrid.live.snapshot import Snapshot


def with_named_parts(snapshot: Snapshot) -> Snapshot:
    """What a device without routed experts spends in experts is called what it is: shared."""
    if not snapshot.layers:
        return snapshot
    places = {name for layer in snapshot.layers for name in layer.experts}
    devices = tuple(
        device if device.name in places else replace(device, seconds=_as_shared(device.seconds))
        for device in snapshot.devices
    )
    return replace(snapshot, devices=devices)


def _as_shared(seconds: Mapping[str, float]) -> dict[str, float]:
    return {"shared" if part == "experts" else part: spent for part, spent in seconds.items()}
