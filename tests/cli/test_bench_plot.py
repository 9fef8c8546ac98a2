"""The picture: panels, lines and their styles."""

import re
from dataclasses import replace

import pytest

from hybrid.cli.bench_plot import draw
from hybrid.cli.bench_record import Bench
from tests.cli.bench_results import decode, measured

figures = pytest.importorskip("matplotlib.figure", reason="matplotlib is an optional extra")


@pytest.fixture(autouse=True)
def _known_speed(monkeypatch):
    """Reading a GiB of RAM takes seconds, and is tested elsewhere."""
    monkeypatch.setattr("hybrid.runtime.bandwidth.ram_read_gb_s", lambda threads: 20.0)


@pytest.fixture
def drawn(monkeypatch) -> list["figures.Figure"]:
    """Every figure that is saved."""
    seen: list[figures.Figure] = []
    save = figures.Figure.savefig

    def spy(self, *args, **options):
        seen.append(self)
        save(self, *args, **options)

    monkeypatch.setattr(figures.Figure, "savefig", spy)
    return seen


def lines(axes, style: str) -> list[list[float]]:
    """Values of its lines in one style; those that only explain it have none."""
    found = [line for line in axes.lines if line.get_linestyle() == style and len(line.get_ydata())]
    return [[float(y) for y in line.get_ydata()] for line in found]


def test_a_line_for_each_placement_and_test_beside_prediction_and_limit(drawn):
    draw(measured(), "svg")
    [figure] = drawn
    prompts, decoding = figure.axes
    assert (prompts.get_title(), decoding.get_title()) == ("prompts", "decoding")
    assert lines(prompts, "-") == [[60, 50], [70, 65]]
    assert lines(prompts, ":") == []
    assert lines(decoding, "-") == [[10, 9], [20]]
    assert lines(decoding, "--") == [[8, pytest.approx(7.2)], [16]]
    assert lines(decoding, ":") == [[20, 18], [40]]
    names = [text.get_text() for text in decoding.get_legend().get_texts()]
    assert {"tg32 1 exps=CPU", "tg32 2 .*=CUDA0", "predicted", "the memory's limit"} == set(names)


def test_work_that_was_not_measured_has_no_panel(drawn):
    bench = measured()
    for run in bench.runs:
        run.results = [result for result in run.results if result.limit]
    draw(bench, "svg")
    assert [axes.get_title() for axes in drawn[0].axes] == ["decoding"]


@pytest.mark.parametrize(("ratio", "scale"), [(2, "linear"), (100, "log")])
def test_a_limit_far_above_does_not_flatten_the_lines(drawn, ratio, scale):
    result = decode(0, 10)
    bench = Bench("model.gguf", 1, "fast", measured().runs[:1])
    far = replace(result, limit=replace(result.limit, tok_s=10.0 * ratio))
    bench.runs[0].results = [far]
    draw(bench, "svg")
    assert drawn[0].axes[0].get_yscale() == scale


@pytest.mark.parametrize(("form", "begin"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_both_formats_are_written_by_a_bench(command, tmp_path, form, begin):
    path = tmp_path / f"speeds.{form.upper()}"
    line = ("demo", "-p", "6", "-n", "2", "-r", "1", "-t", "1", "--device", "none")
    assert command("bench", *line, "--plot", str(path)).code == 0
    data = path.read_bytes()
    assert data.startswith(begin)
    assert form == "png" or re.search(rb"<svg", data)
