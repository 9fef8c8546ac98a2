"""One Snapshot out of its parts: the plan's views, what the recorder heard, what the sources read.
Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import time
from typing import Protocol

from hybrid.live.compared import compared
from hybrid.live.plan_view import PlanView
from hybrid.live.recorder import Heard
from hybrid.live.snapshot import (
    DeviceView,
    LayerView,
    NodeView,
    Phase,
    Progress,
    Rates,
    Snapshot,
)
from hybrid.live.sources.readings import GpuReading, HostReading
from placement.machines.machine import CPU


class Totals(Protocol):
    """What is asked of the sums over a run (`hybrid.runtime.stats.RunStats`)."""

    prompt_tokens: int
    reused_tokens: int
    decode_tokens: int

    @property
    def computing(self) -> str | None: ...

    @property
    def prompt_tokens_per_s(self) -> float | None: ...

    @property
    def decode_tokens_per_s(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Readings:
    """The sources' last ones.

    actual   bytes that the process holds, by device; peak: the most that was seen of it
    ours     bytes of its weights and caches on each NUMA node
    """

    host: HostReading = HostReading()
    gpus: Mapping[str, GpuReading] = field(default_factory=dict)
    actual: Mapping[str, int] = field(default_factory=dict)
    peak: Mapping[str, int] = field(default_factory=dict)
    ours: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class State:
    """Of the run, beside its passes.

    phase      in place of what was heard; None while an engine works
    progress   likewise
    """

    phase: Phase | None = None
    progress: Progress | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()


def assembled(
    view: PlanView, heard: Heard, totals: Totals | None, readings: Readings, state: State
) -> Snapshot:
    """As of now.

    totals   None before there is an engine
    """
    phase = state.phase or heard.phase
    decoding = heard.decode_now if phase is Phase.DECODE else None
    devices = tuple(_device(device, view, heard, readings, decoding) for device in view.devices)
    return Snapshot(
        at=time(),
        facts=view.facts,
        phase=phase,
        rates=_rates(heard, totals),
        devices=devices,
        nodes=_nodes(view, heard, readings, devices),
        layers=_layers(view.layers, heard),
        host=readings.host.view,
        progress=state.progress if state.phase else heard.progress,
        compared=compared(view.predicted, heard, phase),
        text=heard.text,
        error=state.error,
        notes=state.notes,
    )


def _rates(heard: Heard, totals: Totals | None) -> Rates:
    known = Rates(
        decode_now_tok_s=heard.decode_now,
        decode_10_s_tok_s=heard.decode_10_s,
        prompt_now_tok_s=heard.prompt_now,
        ms_a_token=heard.ms_a_token,
        history=heard.history,
    )
    if totals is None:
        return known
    return replace(
        known,
        decode_run_tok_s=totals.decode_tokens_per_s,
        prompt_run_tok_s=totals.prompt_tokens_per_s,
        prompt_tokens=totals.prompt_tokens,
        reused_tokens=totals.reused_tokens,
        decode_tokens=totals.decode_tokens,
    )


def _device(
    device: DeviceView,
    view: PlanView,
    heard: Heard,
    readings: Readings,
    decoding: float | None,
) -> DeviceView:
    name = device.name
    gpu = readings.gpus.get(name)
    used = gpu.used_bytes if gpu else readings.host.used_bytes if name == CPU else None
    reads = None
    if decoding is not None and heard.cached_tokens is not None:
        reads = view.reads[name].at(heard.cached_tokens) * decoding
    others = [each for each in view.devices if each.kind == "gpu" and each.name != name]
    alone = device.kind == "gpu" and not others  # activations are counted of all GPUs together
    return replace(
        device,
        memory=replace(
            device.memory,
            actual_bytes=readings.actual.get(name),
            peak_bytes=readings.peak.get(name),
            used_by_all_bytes=used,
        ),
        seconds=(heard.times.parts or {}).get(name, {}),
        window=heard.times.tokens,
        cache_used_tokens=heard.cached_tokens if device.cache_capacity_tokens else None,
        read_bytes_s=reads,
        crossing_bytes=heard.crossing_bytes if alone else None,
        sensors=gpu.sensors if gpu else None,
    )


def _nodes(
    view: PlanView, heard: Heard, readings: Readings, devices: Sequence[DeviceView]
) -> tuple[NodeView, ...]:
    [host] = [device for device in devices if device.name == CPU]
    sharing = sum(node.read_limit_bytes_s is not None for node in view.nodes)
    each = host.read_bytes_s / sharing if view.spread and host.read_bytes_s and sharing else None
    experts = view.experts_bytes / sharing if each is not None else 0.0
    return tuple(
        _node(node, heard, readings, (each, experts), len(view.nodes) == 1) for node in view.nodes
    )


def _node(
    node: NodeView,
    heard: Heard,
    readings: Readings,
    reads: tuple[float | None, float],
    alone: bool,
) -> NodeView:
    """reads   while decoding: bytes a second, and bytes of a token's experts"""
    found = readings.host.nodes.get(node.node)
    reads_s, experts_bytes = reads if node.read_limit_bytes_s is not None else (None, 0.0)
    experts_s = (heard.times.nodes or {}).get(node.node)
    return replace(
        node,
        total_bytes=found.total_bytes if found and found.total_bytes else node.total_bytes,
        used_bytes=found.used_bytes if found else None,
        ours_bytes=readings.ours.get(node.node),
        read_bytes_s=reads_s,
        experts_s=experts_s,
        experts_read_bytes_s=experts_bytes / experts_s if experts_bytes and experts_s else None,
        huge_bytes=readings.host.view.huge_bytes if alone else None,
        core_load=found.core_load if found else (),
    )


def _layers(layers: Sequence[LayerView], heard: Heard) -> tuple[LayerView, ...]:
    attention, experts = (
        dict(enumerate(heard.times.attention)),
        dict(enumerate(heard.times.experts)),
    )
    return tuple(
        LayerView(
            layer.index,
            layer.attention,
            layer.experts,
            attention.get(layer.index),
            experts.get(layer.index),
            tuple(heard.usage.get(layer.index, ())),
        )
        for layer in layers
    )
