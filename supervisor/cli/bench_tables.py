"""What `bench` shows of results: table rows, JSON, CSV and charts.  Pure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from ..measure.chart import Bars, ChartValue
from ..measure.measurement import METRICS, Measured, Metric, Workload
from ..measure.record import BenchResult, BenchRow, MatchedRows, differences
from ..measure.reported import SOURCE
from ..measure.statistics import Ratio, ratio, summary
from .output import columns, table

_NAMES: Mapping[Metric, str] = {
    "prompt_per_second": "prompt tok/s",
    "generated_per_second": "gen tok/s",
    "first_token_seconds": "first token",
}
_TITLES: Mapping[Metric, str] = {
    "prompt_per_second": "Prompt, tokens per second",
    "generated_per_second": "Generation, tokens per second",
}
_NUMBER = re.compile(r"\d+(?:[,.]\d+)*")
_ENDS = ("", "_low", "_high")
HEADERS = ("scenario", "prompt", "depth", "answer", "clients", *_NAMES.values(), "runs")
_WIDTHS = (8, 11, 6, 6, 7, 12, 12, 13, 4)  # of what comes line by line, before its rows are known


# --- a result


def interval(measured: Measured, metric: Metric) -> ChartValue | None:
    """The median with its 95 % interval, which one sample does not have; None where nothing was measured."""
    if not (found := measured.values(metric)):
        return None
    middle = summary(found)
    return ChartValue(middle.median, middle.low, middle.high)


def row_line(row: BenchRow | None, workloads: Iterable[tuple[str, Workload]]) -> str:
    """One line of the table, or its headers; all lines of a table are given the same workloads."""
    rows = [_asked(scenario, workload) for scenario, workload in workloads]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    widths = [max(pair) for pair in zip(_WIDTHS, [*widths, *_WIDTHS[len(widths) :]], strict=True)]
    cells = [header.upper() for header in HEADERS] if row is None else row_cells(row)
    return columns(cells, widths)


def row_cells(row: BenchRow) -> list[str]:
    asked = _asked(row.scenario, row.measured.workload)
    figures = [interval_words(row.measured, metric) for metric in METRICS]
    return [*asked, *figures, str(len(row.measured.samples))]


def _asked(scenario: str, workload: Workload) -> list[str]:
    warm = " warm" if workload.warm else ""
    return [
        scenario,
        f"{_tokens(workload)}{warm}",
        f"{workload.depth_tokens:,}",
        f"{workload.answer_tokens:,}",
        str(workload.clients),
    ]


def _tokens(workload: Workload) -> str:
    return f"{workload.prompt_tokens:,}" if workload.prompt_tokens or not workload.text else "text"


def interval_words(measured: Measured, metric: Metric) -> str:
    """``45.2 ±0.8``, ``320 ±12 ms``; a dash where nothing was measured."""
    found = interval(measured, metric)
    if found is None:
        return "-"
    if metric != "first_token_seconds":
        return found.words
    return f"{found.words} s" if found.value >= 1 else f"{found.scaled(1000).words} ms"


def row_label(row: BenchRow) -> str:
    """``agent: 8,192 + 256 at 16,384``: prompt, answer, depth; ``x8`` for eight clients."""
    workload = row.measured.workload
    depth = f" at {workload.depth_tokens:,}" if workload.depth_tokens else ""
    clients = f" x{workload.clients}" if workload.clients > 1 else ""
    warm = " warm" if workload.warm else ""
    return f"{row.scenario}: {_tokens(workload)}{warm} + {workload.answer_tokens:,}{depth}{clients}"


def result_table(result: BenchResult) -> str:
    return table(HEADERS, [row_cells(row) for row in result.rows])


def list_table(results: Iterable[BenchResult]) -> str:
    """The figures are those of the first workload."""
    headers = ("id", "at", "build", "flavour", "scenarios", "prompt tok/s", "gen tok/s")
    return table(headers, [_listed(each) for each in results])


def _listed(result: BenchResult) -> tuple[str, ...]:
    first = result.rows[0].measured if result.rows else None
    metrics: tuple[Metric, ...] = ("prompt_per_second", "generated_per_second")
    figures = [interval_words(first, metric) if first else "-" for metric in metrics]
    return (
        result.id,
        _local(result.at),
        result.build,
        result.flavour,
        ", ".join(result.scenarios),
        *figures,
    )


def _local(at: str) -> str:
    """Of an ISO date and time, by this machine's clock."""
    return datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M")


def head_lines(result: BenchResult) -> Iterator[str]:
    """Above a table that is shown later."""
    yield f"{result.id}: {result.profile} on {result.build} {result.flavour}, {_local(result.at)}"
    yield f"machine  {result.machine}"
    yield from (f"device   {each}" for each in result.devices)
    yield f"model    {result.model}"
    yield ""


def below_lines(result: BenchResult) -> Iterator[str]:
    """Below the table: what disturbed or limited the runs, and what was reported for such a machine."""
    for row in result.rows:
        runs = len(row.measured.samples)
        for why, count in _disturbances(row.measured).items():
            yield f"disturbed  {row_label(row)}: {why} ({count} of {runs} runs)"
    yield from (f"limited    {each}" for each in result.limits)
    for name in dict.fromkeys(each.profile for each in result.reported):
        yield f"reported   {SOURCE.format(name)}:"
        yield from (f"           {each.words}" for each in result.reported if each.profile == name)


def _disturbances(measured: Measured) -> dict[str, int]:
    """How many runs each one disturbed."""
    return counted(why for sample in measured.samples for why in sample.disturbed)


def counted(texts: Iterable[str]) -> dict[str, int]:
    """How often each one is among them; of texts that differ in their figures, one has all of them."""
    alike: dict[str, list[str]] = {}
    for each in texts:
        alike.setdefault(_NUMBER.sub("#", each), []).append(each)
    return {_spanning(found): len(found) for found in alike.values()}


def _spanning(texts: Sequence[str]) -> str:
    """``other programs used 1.3 to 1.6 of 2 processors``."""
    columns = zip(*map(_NUMBER.findall, texts), strict=True)
    ends = [(min(column, key=_amount), max(column, key=_amount)) for column in columns]
    spans = [low if _amount(low) == _amount(high) else f"{low} to {high}" for low, high in ends]
    words = _NUMBER.split(texts[0])
    return "".join(f"{word}{span}" for word, span in zip(words, [*spans, ""], strict=True))


def _amount(number: str) -> float:
    return float(number.replace(",", ""))


def charts(results: Iterable[BenchResult]) -> list[Bars]:
    """The rates of all rows; with several results each bar has its id."""
    found = list(results)
    named = [
        (f"{result.id} {row_label(row)}" if len(found) > 1 else row_label(row), row.measured)
        for result in found
        for row in result.rows
    ]
    return [_bars(metric, named) for metric in _TITLES]


def pair_charts(pairs: MatchedRows, first: str, second: str) -> list[Bars]:
    """The rates of two results side by side, workload by workload."""
    named = [
        (f"{row_label(row)}, {name}", row.measured)
        for pair in pairs.both
        for row, name in zip(pair, (first, second), strict=True)
    ]
    return [_bars(metric, named) for metric in _TITLES]


def _bars(metric: Metric, named: Iterable[tuple[str, Measured]]) -> Bars:
    figures = ((label, interval(measured, metric)) for label, measured in named)
    return Bars(_TITLES[metric], tuple((label, each) for label, each in figures if each is not None))


# --- JSON and CSV


def result_json(result: BenchResult) -> dict[str, Any]:
    """With the medians and intervals, which are not in the history's file."""
    document = {**asdict(result), "scenarios": list(result.scenarios)}
    return {**document, "rows": [_row_json(row) for row in result.rows]}


def _row_json(row: BenchRow) -> dict[str, Any]:
    intervals = {metric: interval(row.measured, metric) for metric in METRICS}
    return {
        "scenario": row.scenario,
        "workload": asdict(row.measured.workload),
        **{metric: _interval_json(each) for metric, each in intervals.items()},
        "samples": [asdict(sample) for sample in row.measured.samples],
        "disturbed": list(_disturbances(row.measured)),
    }


def _interval_json(found: ChartValue | None) -> dict[str, float | None] | None:
    return {"median": found.value, "low": found.low, "high": found.high} if found else None


def csv_text(results: Iterable[BenchResult]) -> str:
    """A line for each workload; what was not measured is empty."""
    workload = ("prompt_tokens", "depth_tokens", "answer_tokens", "clients", "warm")
    ends = [f"{metric}{end}" for metric in METRICS for end in _ENDS]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "at", "profile", "build", "flavour", "scenario", *workload, "runs", *ends))
    for result in results:
        about = (result.id, result.at, result.profile, result.build, result.flavour)
        for row in result.rows:
            asked = [str(getattr(row.measured.workload, name)).lower() for name in workload]
            found = [interval(row.measured, metric) for metric in METRICS]
            figures = [f"{at:.6g}" if at is not None else "" for each in found for at in _ends(each)]
            writer.writerow((*about, row.scenario, *asked, len(row.measured.samples), *figures))
    return text.getvalue()


def _ends(found: ChartValue | None) -> tuple[float | None, ...]:
    return (found.value, found.low, found.high) if found else (None, None, None)


# --- two results


def compared(pair: tuple[BenchRow, BenchRow], metric: Metric) -> Ratio | None:
    """How many times the first one's figure the second one's is; None where one has none."""
    first, second = (row.measured.values(metric) for row in pair)
    return ratio(second, first) if first and second else None


def compare_table(pairs: MatchedRows, first: BenchResult, second: BenchResult) -> str:
    headers = ("workload", "figure", first.id, second.id, "ratio", "which means")
    rows = [
        (
            row_label(pair[0]) if metric == METRICS[0] else "",
            _NAMES[metric],
            *(interval_words(row.measured, metric) for row in pair),
            *_ratio_words(compared(pair, metric), metric, second.id),
        )
        for pair in pairs.both
        for metric in METRICS
    ]
    return table(headers, rows)


def _ratio_words(found: Ratio | None, metric: Metric, second: str) -> tuple[str, str]:
    if found is None:
        return "-", "not measured in both"
    if found.low is None or found.high is None:
        return f"{found.value:.2f}", "too few runs to tell"
    shown = f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"
    if not found.is_seen:
        return shown, "no difference seen"
    return (
        shown,
        f"{second} {_times(found.value) if metric == 'first_token_seconds' else _rates(found.value)}",
    )


def _rates(ratio: float) -> str:
    if ratio >= 2:
        return f"is {ratio:.1f} times as fast"
    return f"is {abs(ratio - 1) * 100:.0f} % {'faster' if ratio > 1 else 'slower'}"


def _times(ratio: float) -> str:
    if ratio >= 2:
        return f"takes {ratio:.1f} times as long"
    return f"takes {abs(ratio - 1) * 100:.0f} % {'longer' if ratio > 1 else 'less'}"


def compare_lines(pairs: MatchedRows, first: BenchResult, second: BenchResult) -> Iterator[str]:
    """Below the table: what else is not the same."""
    for what in differences(first, second):
        yield f"differs   {what}"
    for result, rows in ((first, pairs.only_first), (second, pairs.only_second)):
        yield from (f"only in {result.id}: {row_label(row)}" for row in rows)


def compare_json(pairs: MatchedRows, first: BenchResult, second: BenchResult) -> dict[str, Any]:
    return {
        "first": first.id,
        "second": second.id,
        "differences": differences(first, second),
        "rows": [
            {
                "scenario": pair[0].scenario,
                "workload": asdict(pair[0].measured.workload),
                **{metric: _ratio_json(pair, metric) for metric in METRICS},
            }
            for pair in pairs.both
        ],
        "only_first": [asdict(row.measured.workload) for row in pairs.only_first],
        "only_second": [asdict(row.measured.workload) for row in pairs.only_second],
    }


def _ratio_json(pair: tuple[BenchRow, BenchRow], metric: Metric) -> dict[str, Any] | None:
    found = compared(pair, metric)
    if found is None:
        return None
    first, second = (_ends(interval(row.measured, metric)) for row in pair)
    return {
        **{f"first{end}": at for end, at in zip(_ENDS, first, strict=True)},
        **{f"second{end}": at for end, at in zip(_ENDS, second, strict=True)},
        "ratio": found.value,
        "low": found.low,
        "high": found.high,
        "difference_seen": found.is_seen,
    }
