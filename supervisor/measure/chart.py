"""
Bars and lines as text for a terminal, and as SVG.  Pure.

Bars show figures side by side; lines show a value of a setting against a speed.  Both have the 95 % interval
of each value, as an error bar.  The SVG needs no other file, follows the reader's light or dark theme, and
keeps text as text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

_LOG_FROM = 8.0  # as many times the smallest x: then doublings are as far apart as they are in practice
_LEAST_BAR = 10
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 56, 56  # px around the lines' area
_SVG_WIDTH, _SVG_HEIGHT, _SVG_ROW, _BAR_RIGHT = 720, 400, 28, 110
_WIDEST = 1.5  # times the highest figure
_LETTER = 7.5  # px that one takes at most, on average
_SERIES = 6  # colours and marks; a seventh line has the first one's again
_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class ChartValue:
    """A figure and the ends of its interval; None where one sample does not tell them."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def least(self) -> float:
        return self.value if self.low is None else self.low

    @property
    def most(self) -> float:
        return self.value if self.high is None else self.high

    def scaled(self, factor: float) -> ChartValue:
        """In a smaller or larger unit."""
        ends = (None if each is None else each * factor for each in (self.low, self.high))
        return ChartValue(self.value * factor, *ends)

    @property
    def words(self) -> str:
        """``412 ±3``, by the wider side of the interval; ``412 ±?`` where that is wider than the figure."""
        if self.low is None and self.high is None:
            return figure(self.value)
        spread = max(self.value - self.least, self.most - self.value)
        is_known = spread <= self.value
        return f"{figure(self.value)} ±{f'{spread:,.{_digits(self.value)}f}' if is_known else '?'}"


@dataclass(frozen=True, slots=True)
class Bars:
    """``title`` says what is measured, in which unit."""

    title: str
    bars: tuple[tuple[str, ChartValue], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """Points sorted by x."""

    label: str
    points: tuple[tuple[float, ChartValue], ...]


@dataclass(frozen=True, slots=True)
class Lines:
    """``x_label`` names the setting; its axis is logarithmic where the values of x span a factor of 8."""

    title: str
    x_label: str
    lines: tuple[Line, ...]


Chart = Bars | Lines


def figure(number: float) -> str:
    """Three digits at least: ``0.82``, ``45.2``, ``412``, ``1,682``."""
    return f"{number:,.{_digits(number)}f}"


def _digits(number: float) -> int:
    """Behind the point."""
    return 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2


def text(chart: Chart, width: int, *, plain: bool = False) -> list[str]:
    """The lines of a terminal that is so wide.  ``plain`` is for one that shows ASCII only."""
    return (
        _bars_text(chart, width, plain=plain) if isinstance(chart, Bars) else _lines_text(chart, width, plain)
    )


def svg_text(charts: Iterable[Chart]) -> str:
    """One picture of these charts, one below the other."""
    parts, height = [], 0.0
    for chart in charts:
        drawn, rows = _bars_svg(chart) if isinstance(chart, Bars) else _lines_svg(chart)
        parts.append(f'<g transform="translate(0 {height:g})">{drawn}</g>')
        height += rows
    body = "\n".join(parts)
    size = f'width="{_SVG_WIDTH}" height="{height:g}" viewBox="0 0 {_SVG_WIDTH} {height:g}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>\n<style>{_STYLE}</style>\n'
        f'<rect class="ground" width="100%" height="100%"/>\n{body}\n</svg>\n'
    )


# --- text


def _bars_text(chart: Bars, width: int, *, plain: bool) -> list[str]:
    """Full up to the lower end of the interval, half full up to the figure, and light up to the upper end."""
    if not chart.bars:
        return []
    full, half, light = "#=-" if plain else "█▓░"
    names = max(len(label) for label, _ in chart.bars)
    room = max(_LEAST_BAR, width - names - max(len(_words(each, plain)) for _, each in chart.bars) - 4)
    most = _end(each for _, each in chart.bars)
    lines = [chart.title]
    for label, each in chart.bars:
        ends = (min(max(0.0, at), most) for at in (each.least, each.value, each.most))
        low, value, high = (round(room * at / most) for at in ends)
        bar = full * low + half * (value - low) + light * (high - value)
        lines.append(f"{label:{names}}  {bar:{room}}  {_words(each, plain)}")
    return lines


def _words(value: ChartValue, plain: bool) -> str:
    return value.words.replace(" ±", "+-") if plain else value.words


def _lines_text(chart: Lines, width: int, plain: bool, height: int = 12) -> list[str]:
    """A grid of characters: marks for the points, dots between them."""
    points = _points(chart)
    if not points:
        return []
    marks, dot, bar, corner, across = (
        ("o+x*#@", ".", "|", "+", "-") if plain else ("●▲■○△□", "·", "│", "└", "─")
    )
    x_axis, ticks = _x_axis(chart), _ticks(_end(each for _, each in points))
    names = max(len(f"{tick:,g}") for tick in ticks)
    columns = max(_LEAST_BAR, width - names - 3)
    grid = [[" "] * columns for _ in range(height)]

    def place(x: float, y: float) -> tuple[int, int]:
        return round(x_axis(x) * (columns - 1)), height - 1 - round(y / ticks[-1] * (height - 1))

    for line in chart.lines:
        placed = [place(x, each.value) for x, each in line.points]
        for (left, upper), (right, lower) in pairwise(placed):
            for column in range(left + 1, right):
                share = (column - left) / (right - left)
                grid[round(upper + share * (lower - upper))][column] = dot
    for number, line in enumerate(chart.lines):
        for x, each in line.points:
            column, row = place(x, each.value)
            grid[row][column] = marks[number % _SERIES]
    at_row = {place(points[0][0], tick)[1]: f"{tick:,g}" for tick in ticks}
    lines = [chart.title]
    lines += [
        f"{at_row.get(row, ''):>{names}} {bar}{''.join(cells).rstrip()}" for row, cells in enumerate(grid)
    ]
    lines.append(f"{'':{names}} {corner}{across * columns}")
    lines.append(f"{'':{names}}  {_x_ticks_text(chart, columns)}".rstrip())
    lines.append(f"{'':{names}}  {chart.x_label}")
    if len(chart.lines) > 1:
        named = (f"{marks[number % _SERIES]} {line.label}" for number, line in enumerate(chart.lines))
        lines.append(f"{'':{names}}  {'   '.join(named)}")
    return lines


def _x_ticks_text(chart: Lines, columns: int) -> str:
    """The values of x below their points, as far as there is room."""
    x_axis, row = _x_axis(chart), ""
    for x in sorted({x for x, _ in _points(chart)}):
        label = f"{x:g}"
        start = max(0, min(columns - len(label), round(x_axis(x) * (columns - 1)) - len(label) // 2))
        if not row or start > len(row) + 1:
            row = f"{row:{start}}{label}"
    return row


# --- what both draw


def _end(values: Iterable[ChartValue]) -> float:
    """Of the scale: intervals that are very wide end there, else no bar would be seen beside them."""
    found = list(values)
    highest = max((each.value for each in found), default=0.0)
    return min(max((each.most for each in found), default=0.0), _WIDEST * highest) or 1.0


def _points(chart: Lines) -> list[tuple[float, ChartValue]]:
    return [point for line in chart.lines for point in line.points]


@dataclass(frozen=True, slots=True)
class _Axis:
    """From a value of x to its place between 0 and 1."""

    low: float
    high: float
    is_log: bool

    def __call__(self, x: float) -> float:
        low, high, at = (math.log(each) if self.is_log else each for each in (self.low, self.high, x))
        return 0.5 if high == low else (at - low) / (high - low)


def _x_axis(chart: Lines) -> _Axis:
    values = [x for x, _ in _points(chart)]
    low, high = min(values), max(values)
    return _Axis(low, high, is_log=low > 0 and high / low >= _LOG_FROM)


def _ticks(most: float) -> list[float]:
    """Round figures from 0 to one that is not below ``most``: three to six of them."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * each for each in _ROUND if power * each >= rough * (1 - 1e-9))
    return [step * count for count in range(math.ceil(most / step - 1e-9) + 1)]


# --- SVG

_LIGHT = ("#0072b2", "#d55e00", "#007a5e", "#a04a83", "#8a6d00", "#555555")
_DARK = ("#56b4e9", "#ff9e4a", "#2fc99d", "#e39cc9", "#f0e442", "#bbbbbb")


def _colours(colours: Sequence[str]) -> str:
    return "".join(
        f".s{number}{{stroke:{colour}}}.f{number}{{fill:{colour}}}" for number, colour in enumerate(colours)
    )


_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.title{font-size:15px;font-weight:600}"
    ".ground{fill:#fff}.grid{stroke:#ddd}.whisker{stroke:#222;stroke-width:1.5}.line{fill:none;stroke-width:2}"
    f"{_colours(_LIGHT)}"
    "@media(prefers-color-scheme:dark){text{fill:#e6e6e6}.ground{fill:#16181c}.grid{stroke:#3a3f47}"
    f".whisker{{stroke:#e6e6e6}}{_colours(_DARK)}}}"
)


def _text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _stroke(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _bars_svg(chart: Bars) -> tuple[str, float]:
    """And its height."""
    height = _TOP + _SVG_ROW * len(chart.bars) + 16
    ticks = _ticks(_end(each for _, each in chart.bars))
    left = 32 + _LETTER * max((len(label) for label, _ in chart.bars), default=0)
    scale = (_SVG_WIDTH - left - _BAR_RIGHT) / ticks[-1]
    parts = [_text(16, 26, chart.title, kind="title")]
    for tick in ticks:
        x = left + tick * scale
        parts += [_stroke("grid", x, _TOP - 4, x, height - 12), _text(x, _TOP - 8, f"{tick:,g}", "middle")]
    for number, (label, each) in enumerate(chart.bars):
        y = _TOP + _SVG_ROW * number
        middle, end = y + _SVG_ROW / 2, left + each.value * scale
        low, high = (left + min(max(0.0, at), ticks[-1]) * scale for at in (each.least, each.most))
        parts += [
            _text(left - 10, middle + 4, label, "end"),
            f'<rect class="f0" x="{left}" y="{y + 5}" width="{end - left:.1f}" height="18"/>',
            *_whisker(low, middle, high, middle),
            _text(max(end, high) + 8, middle + 4, each.words),
        ]
    return "\n".join(parts), height


def _whisker(x1: float, y1: float, x2: float, y2: float) -> Iterator[str]:
    """A stroke with a cap at each end; nothing where the interval is too small to be seen."""
    if abs(x2 - x1) + abs(y2 - y1) < 1:
        return
    across, down = (0, 5) if y1 == y2 else (5, 0)
    yield _stroke("whisker", x1, y1, x2, y2)
    for x, y in ((x1, y1), (x2, y2)):
        yield _stroke("whisker", x - across, y - down, x + across, y + down)


def _lines_svg(chart: Lines) -> tuple[str, float]:
    """And its height."""
    parts = [_text(16, 26, chart.title, kind="title")]
    points = _points(chart)
    if not points:
        return "\n".join([*parts, _text(16, 56, "nothing was measured")]), _TOP + 24
    x_axis, ticks = _x_axis(chart), _ticks(_end(each for _, each in points))
    wide, high = _SVG_WIDTH - _LEFT - _RIGHT, _SVG_HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + 12 + x_axis(x) * (wide - 24), _TOP + high * (1 - min(y, ticks[-1]) / ticks[-1])

    for tick in ticks:
        _, y = place(points[0][0], tick)
        parts += [
            _stroke("grid", _LEFT, y, _SVG_WIDTH - _RIGHT, y),
            _text(_LEFT - 8, y + 4, f"{tick:,g}", "end"),
        ]
    parts += _x_ticks_svg(chart, place)
    for number, line in enumerate(chart.lines):
        colour = number % _SERIES
        placed = [(*place(x, each.value), x, each) for x, each in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in placed)
        parts.append(f'<polyline class="line s{colour}" points="{path}"/>')
        for x, y, at, each in placed:
            parts += _whisker(x, place(at, each.least)[1], x, place(at, each.most)[1])
            parts.append(f'<circle class="f{colour}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
    return "\n".join([*parts, *_legend(chart)]), _SVG_HEIGHT


def _x_ticks_svg(chart: Lines, place: Callable[[float, float], tuple[float, float]]) -> Iterator[str]:
    """The values of x, as far as there is room, and what they are."""
    free = 0.0
    for x in sorted({x for x, _ in _points(chart)}):
        at, bottom = place(x, 0.0)
        half = 4 * len(f"{x:g}")
        if at - half >= free:
            yield _text(at, bottom + 20, f"{x:g}", "middle")
            free = at + half + 8
    yield _text((_LEFT + _SVG_WIDTH - _RIGHT) / 2, _SVG_HEIGHT - 12, chart.x_label, "middle")


def _legend(chart: Lines) -> Iterator[str]:
    x = float(_LEFT)
    for number, line in enumerate(chart.lines if len(chart.lines) > 1 else ()):
        yield f'<circle class="f{number % _SERIES}" cx="{x + 5:.1f}" cy="42" r="5"/>'
        yield _text(x + 16, 46, line.label)
        x += 36 + _LETTER * len(line.label)
