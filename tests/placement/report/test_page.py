import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from placement.inventory import ModelInventory
from placement.planner import plan
from placement.prediction import PARTS
from placement.report.device_memory import CATEGORIES
from placement.report.page import BAR_WIDTH, html_page
from placement.report.page_style import COLOURS
from placement.rules import parse_rules
from placement.workload import Workload
from tests.placement.golden_reports import MEASURED, rig
from tests.placement.models import GIB, tiny


class Reader(HTMLParser):
    """Holds every tag against the one that is open; keeps texts, attributes and bars."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.texts: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        assert self.open, f"</{tag}> without a beginning"
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.texts.append(data)


def page(stock: ModelInventory, *texts: str) -> str:
    where = rig(4 * GIB, 4 * GIB, ram=8 * GIB, nodes=2)
    made = plan(stock, where, parse_rules(texts, where.device_names), Workload(256, 16))
    return html_page(replace(made, prediction=MEASURED), stock, where)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_is_well_formed_and_holds_every_section() -> None:
    reader = read(page(tiny(mtp=True), "exps#0-2=CUDA0"))
    texts = " ".join(reader.texts)
    for title in ("Devices", "Memory", "Speed", "Time of a token", "Rules", "Layers", "Tensors"):
        assert title in reader.texts
    for told in ("PCIe 4 x16", "limited by RAM read on CPU", "13.9", "blk.3.ffn_up_exps.weight"):
        assert told in texts
    assert "next-token prediction is not loaded" in texts


def test_the_page_fetches_nothing_and_runs_nothing() -> None:
    text = page(tiny())
    tags = {tag for tag, _ in read(text).seen}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    assert not re.search(r"https?:|url\(|@import|\bon[a-z]+=", text)
    assert all(
        name not in attributes
        for _, attributes in read(text).seen
        for name in ("src", "href", "xlink:href", "style")
    )


def test_names_and_rules_cannot_break_out_of_the_page() -> None:
    wicked = replace(tiny(), name="</title><script>alert(1)</script>&amp;\"'")
    text = page(wicked, '(<b>|exps&lt;|"x")=CPU')
    reader = read(text)
    assert "<script>" not in text
    assert {tag for tag, _ in reader.seen}.isdisjoint({"script", "b"})
    assert "Placement of </title><script>alert(1)</script>&amp;\"'" in reader.texts
    assert any('(<b>|exps&lt;|"x")=CPU' in text for text in reader.texts)


def test_bars_are_as_long_as_budgets_and_no_longer() -> None:
    for tag, attributes in read(page(tiny(), "exps=CUDA0")).seen:
        if tag == "rect":
            end = float(attributes["x"] or 0) + float(attributes["width"] or 0)
            assert 0 < end <= BAR_WIDTH + 0.5


def test_light_and_dark_have_a_colour_for_everything() -> None:
    text = page(tiny())
    assert "prefers-color-scheme: dark" in text
    assert set(COLOURS) == {*CATEGORIES, *PARTS}
    style = text.split("<style>")[1].split("</style>")[0]
    used = set(re.findall(r'class="([a-z-]+)"', text)) - {"legend"}
    assert all(f".{name} " in style for name in used)


@pytest.mark.parametrize("prediction", [None, replace(MEASURED, decode=(), prompt=())])
def test_a_plan_without_speeds_has_a_page_too(prediction) -> None:
    where = rig(4 * GIB, ram=8 * GIB)
    made = replace(plan(tiny(), where, (), Workload(256, 16)), prediction=prediction)
    texts = " ".join(read(html_page(made, tiny(), where)).texts)
    assert "CUDA0" in texts
    assert "decode tok/s" not in texts
