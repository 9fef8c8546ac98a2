"""The table of figures is whole, and the page has it as it is."""

import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Union, get_args, get_origin, get_type_hints

from hybrid.live.figures import FIGURES, figure_table
from hybrid.live.snapshot import Snapshot

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
