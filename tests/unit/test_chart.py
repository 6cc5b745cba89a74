"""Charts as text and as SVG."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from supervisor.measure.chart import Bars, ChartValue, Line, Lines, figure, svg_text, text

SVG = "{http://www.w3.org/2000/svg}"
BARS = Bars(
    "Generation, tokens/s",
    (("chat", ChartValue(50, 45, 55)), ("a <long> & name", ChartValue(100))),
)


def exact(*points):
    return tuple((x, ChartValue(y)) for x, y in points)


CLIFF = Lines("Generation", "gpu-layers", (Line("20b", exact((6, 10), (23, 45), (24, 122))),))
DOUBLED = Lines("Prompt", "ubatch-size", (Line("a", exact((512, 1), (1024, 1), (2048, 1), (4096, 1))),))


def test_a_bar_is_as_long_as_its_figure_and_shows_its_interval():
    assert text(BARS, 50) == [
        "Generation, tokens/s",
        "chat             ██████████▓░            50.0 ±5.0",
        "a <long> & name  ██████████████████████  100",
    ]


def test_an_interval_that_says_nothing_hides_no_bar():
    wide = Bars("Generation", (("a", ChartValue(20, 1, 20_000)), ("b", ChartValue(50, 49, 51))))
    assert [line.count("█") + line.count("▓") >= 5 for line in text(wide, 40)[1:]] == [True, True]
    assert "20.0 ±?" in text(wide, 40)[1]
    assert max(float(each.get("x2")) for each in ET.fromstring(svg_text([wide])).iter(f"{SVG}line")) <= 720


def test_without_unicode_a_chart_is_ascii():
    for chart in (BARS, CLIFF):
        assert "".join(text(chart, 60, plain=True)).isascii()
    assert "50.0+-5.0" in text(BARS, 60, plain=True)[1]


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("chart", [CLIFF, DOUBLED])
def test_no_line_is_wider_than_the_terminal(chart, width):
    assert max(map(len, text(chart, width))) <= width


def test_every_point_has_its_mark_and_a_cliff_stays_one():
    lines = text(CLIFF, 80)
    marked = [
        (row, column) for row, line in enumerate(lines) for column, mark in enumerate(line) if mark == "●"
    ]
    assert len(marked) == 3
    (top, right), (lower, beside), _ = marked
    assert lower - top > 4
    assert right - beside < 6


def places(chart):
    """Where the x of each point is, in an SVG."""
    return [float(each.get("cx")) for each in ET.fromstring(svg_text([chart])).iter(f"{SVG}circle")]


def test_doublings_are_as_far_apart_as_they_are_in_practice():
    first, second, third, last = places(DOUBLED)
    assert second - first == pytest.approx(third - second, abs=0.2)
    assert third - second == pytest.approx(last - third, abs=0.2)
    first, second, last = places(Lines("few", "layers", (Line("a", exact((1, 1), (2, 1), (4, 1))),)))
    assert last - second == pytest.approx(2 * (second - first), abs=0.2)


def test_the_picture_is_one_well_formed_file_with_its_text_as_text():
    picture = svg_text([BARS, CLIFF])
    tree = ET.fromstring(picture)
    words = [each.text for each in tree.iter(f"{SVG}text")]
    assert {"chat", "a <long> & name", "50.0 ±5.0", "gpu-layers", "24"} <= set(words)
    assert "prefers-color-scheme:dark" in picture
    assert picture.count("http") == 1  # the namespace: it loads nothing


def test_a_whisker_is_where_the_interval_is_and_nowhere_else():
    drawn = [
        each for each in ET.fromstring(svg_text([BARS])).iter(f"{SVG}line") if each.get("class") == "whisker"
    ]
    stroke, *caps = drawn  # of one bar; the other figure is exact
    assert [cap.get("x1") for cap in caps] == [stroke.get("x1"), stroke.get("x2")]


def test_several_lines_are_told_apart_by_a_legend():
    two = Lines("two", "x", (Line("one", exact((1, 1), (2, 2))), Line("other", exact((1, 2), (2, 1)))))
    assert text(two, 40)[-1].split() == ["●", "one", "▲", "other"]
    assert {"one", "other"} <= {each.text for each in ET.fromstring(svg_text([two])).iter(f"{SVG}text")}


def test_what_has_no_points_is_no_error():
    assert text(Bars("none", ()), 80) == []
    assert text(Lines("none", "x", ()), 80) == []
    assert "nothing was measured" in svg_text([Lines("none", "x", ())])
    assert text(Lines("one", "x", (Line("a", exact((5, 0))),)), 40)[0] == "one"


@pytest.mark.parametrize(
    ("number", "shown"), [(0.815, "0.81"), (9.7, "9.70"), (45.21, "45.2"), (412.3, "412"), (1682.4, "1,682")]
)
def test_a_figure_has_the_digits_that_say_something(number, shown):
    assert figure(number) == shown
