"""The table of figures is whole, and the page has it as it is."""

import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Union, get_args, get_origin, get_type_hints

from hybrid.live.assembled import State, assembled
from hybrid.live.codec import to_json
from hybrid.live.figures import FIGURES, figure_table
from hybrid.live.plan_view import plan_view
from hybrid.live.recorder import Recorder
from hybrid.live.snapshot import NodeView, Phase, Progress, Snapshot
from hybrid.runtime.options import LoadOptions
from hybrid.runtime.prepare import prepare
from hybrid.runtime.step_times import LayerTimes, StepTimes
from tests.live.samples import GIB, Pass, Stats, Told, readings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
UNITS = {"_bytes": "bytes", "_tok_s": "tokens/s", "_bytes_s": "bytes/s", "_share": "share"}


def leaves(kind, path: str) -> Iterator[str]:
    """Paths of all fields that hold values, lists of records as `[]`."""
    if get_origin(kind) in (Union, types.UnionType):
        [kind] = [each for each in get_args(kind) if each is not type(None)]
    if get_origin(kind) is tuple and is_dataclass(get_args(kind)[0]):
        yield from leaves(get_args(kind)[0], f"{path}[]")
    elif is_dataclass(kind):
        hints = get_type_hints(kind)
        for field in fields(kind):
            yield from leaves(hints[field.name], f"{path}.{field.name}" if path else field.name)
    else:
        assert not isinstance(kind, Mapping)
        yield path


def test_every_field_of_a_snapshot_is_in_the_table_once():
    told = [figure.path for figure in FIGURES if figure.path != "version"]
    assert sorted(told) == sorted(leaves(Snapshot, ""))


def test_the_unit_in_a_name_is_the_unit_of_the_table():
    for figure in FIGURES:
        name = figure.path.rpartition(".")[2]
        for ending in sorted(UNITS, key=len, reverse=True):
            if name.endswith(ending):
                assert figure.unit == UNITS[ending], figure.path
                break


def test_no_two_figures_have_one_metric():
    names = [figure.metric for figure in FIGURES if figure.kind in ("gauge", "counter")]
    assert len(set(names)) == len(names)


def test_the_page_has_the_table_as_it_is():
    assert figure_table() in PAGE.read_text(encoding="utf-8"), (
        "docs/metrics.md is behind hybrid/live/figures.py: python -m tools.metrics_page"
    )


def test_every_figure_has_something_that_makes_it():
    told = set()
    for snapshot in made_by_every_source():
        told |= dict.fromkeys(values(to_json(snapshot), "")).keys()
    assert sorted({figure.path for figure in FIGURES} - told) == []


def made_by_every_source() -> Iterator[Snapshot]:
    """Nothing in them was put there by hand behind the parts that a run is made of."""
    planned = prepare("demo", LoadOptions(rules=("exps=CPU",), simulate={"CUDA0": GIB}, threads=1))
    node = NodeView(0, GIB, None, read_limit_bytes_s=1e9, read_limit_is_measured=True)
    view = replace(plan_view(planned, "run"), nodes=(node,), spread=True)
    predicted = plan_view(prepare("demo", LoadOptions(devices=("none",), threads=1)), "run")
    recorder = Recorder()
    recorder.counts(lambda: {1: (1, 2)})
    for start in range(20):
        recorder.on_pass(Pass(start=start, crossing_bytes=1), prompt=False)
    layers = tuple(LayerTimes(0.1, 0.1) for _ in view.layers)
    recorder.on_times(StepTimes({"CPU": {"experts": 0.1}}, layers, {0: 0.1}))
    recorder.on_token(Told("a"))
    recorder.on_pass(Pass(tokens=1 << 20, seconds=1.0), prompt=True)
    heard, read = replace(recorder.heard("decode"), history=(1.0,)), readings()
    yield assembled(view, heard, Stats(), read, State(error="an error", notes=("a note",)))
    yield assembled(predicted, heard, Stats(), read, State())
    recorder.on_prompt(0, 10)
    yield assembled(predicted, recorder.heard("prompt"), Stats(), read, State())
    progress = Progress("loading", "bytes", 1, 2, 1.0, 1.0)
    yield assembled(view, recorder.heard(), None, read, State(Phase.LOADING, progress))


def values(value, path: str) -> Iterator[str]:
    """Paths that hold something."""
    known = {figure.path for figure in FIGURES}
    if value is None or value in ((), [], {}, ""):
        return
    if path in known:
        yield path
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from values(each, f"{path}.{name}" if path else name)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from values(each, f"{path}[]")
