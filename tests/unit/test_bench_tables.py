"""What `bench` shows of results."""

from __future__ import annotations

import pytest

from supervisor.cli.bench_tables import (
    HEADERS,
    below_lines,
    charts,
    compare_json,
    compare_table,
    head_lines,
    interval_words,
    list_table,
    row_label,
    row_line,
)
from supervisor.measure.measurement import Measured, Sample, Workload
from supervisor.measure.record import BenchResult, BenchRow, matched
from supervisor.measure.reported import ReportedSpeed


def row(*speeds, seconds=0.25, disturbed=(), **workload):
    samples = tuple(Sample(speed * 10, speed, seconds, 1.0, disturbed=disturbed) for speed in speeds)
    return BenchRow(
        "chat", Measured(Workload(**{"prompt_tokens": 128, "answer_tokens": 256, **workload}), samples)
    )


def result(id_, *rows, **more):
    about = {
        "machine": "box",
        "fingerprint": "",
        "plan": "d",
        "build": "b1",
        "flavour": "cpu",
        "model": "m",
        "argv": (),
    }
    return BenchResult(profile="p", at="2026-11-30T12:00:00+00:00", rows=rows, id=id_, **about, **more)


@pytest.mark.parametrize(
    ("workload", "label"),
    [
        ({}, "chat: 128 + 256"),
        ({"prompt_tokens": 500, "depth_tokens": 7500}, "chat: 500 + 256 at 7,500"),
        ({"clients": 8, "warm": True}, "chat: 128 warm + 256 x8"),
        ({"prompt_tokens": 0, "text": "An epidemic"}, "chat: text + 256"),
    ],
)
def test_a_workload_has_a_short_name(workload, label):
    assert row_label(row(1.0, **workload)) == label


def test_one_sample_has_no_spread_and_what_was_not_measured_is_a_dash():
    assert interval_words(row(50.0).measured, "generated_per_second") == "50.0"
    assert "±" in interval_words(row(50.0, 51.0, 49.0).measured, "generated_per_second")
    assert interval_words(row().measured, "generated_per_second") == "-"
    assert charts([result("p-1", row())])[0].bars == ()


@pytest.mark.parametrize(("seconds", "shown"), [(0.25, "250 ms"), (0.0123, "12.3 ms"), (2.5, "2.50 s")])
def test_a_time_is_in_milliseconds_below_a_second(seconds, shown):
    assert interval_words(row(50.0, seconds=seconds).measured, "first_token_seconds") == shown


def test_the_lines_of_a_growing_table_are_below_each_other():
    rows = [row(50.0, 51.0, 49.0), row(5.0, 5.1, 4.9, prompt_tokens=32_000, depth_tokens=100_000)]
    asked = [(each.scenario, each.measured.workload) for each in rows]
    header, *lines = [row_line(each, asked) for each in (None, *rows)]
    for name in HEADERS:
        column = header.index(name.upper())
        assert all(line[column - 1] == " " and line[column] != " " for line in lines if column), name


def test_the_devices_that_the_engine_saw_are_above_the_table():
    lines = list(head_lines(result("p-1", devices=("CUDA0: one", "CUDA1: two"))))
    assert lines[1:-1] == ["machine  box", "device   CUDA0: one", "device   CUDA1: two", "model    m"]
    assert list(head_lines(result("p-1")))[1:-1] == ["machine  box", "model    m"]


def test_what_disturbed_and_what_was_reported_is_below_the_table():
    reported = (ReportedSpeed("rx9070-20b", 122.0, "every layer on the GPU"),)
    lines = list(below_lines(result("p-1", row(50.0, 51.0, disturbed=("swapping",)), reported=reported)))
    assert lines[0] == "disturbed  chat: 128 + 256: swapping (2 of 2 runs)"
    assert "the article that rx9070-20b was made from" in lines[1]
    assert "122 tokens/s generated; every layer on the GPU" in lines[2]


def test_disturbances_that_differ_in_their_figures_only_are_one():
    used = ("other programs used {} of 2 processors, most of it make", "{} MiB were swapped")
    samples = [
        Sample(1.0, 1.0, 1.0, 1.0, disturbed=(used[0].format(share), used[1].format(moved)))
        for share, moved in (("1.5", "900"), ("1.3", "1,024"), ("1.6", "5"))
    ]
    disturbed = BenchRow("chat", Measured(Workload(1, 1), (*samples, Sample(1.0, 1.0, 1.0, 1.0))))
    assert list(below_lines(result("p-1", disturbed))) == [
        "disturbed  chat: 1 + 1: other programs used 1.3 to 1.6 of 2 processors, most of it make (3 of 4 runs)",
        "disturbed  chat: 1 + 1: 5 to 1,024 MiB were swapped (3 of 4 runs)",
    ]


def says(first, second):
    one, two = result("p-1", first), result("p-2", second)
    return [
        line.split("  ")[-1].strip() for line in compare_table(matched(one, two), one, two).splitlines()[1:]
    ]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ((50.0, 50.1, 49.9), (60.0, 60.1, 59.9), "p-2 is 20 % faster"),
        ((50.0, 50.1, 49.9), (40.0, 40.1, 39.9), "p-2 is 20 % slower"),
        ((50.0, 50.1, 49.9), (150.0, 150.1, 149.9), "p-2 is 3.0 times as fast"),
        ((50.0, 60.0, 40.0), (52.0, 61.0, 42.0), "no difference seen"),
        ((50.0,), (60.0,), "too few runs to tell"),
        ((), (60.0, 61.0), "not measured in both"),
    ],
)
def test_a_comparison_says_what_it_means(first, second, said):
    assert says(row(*first), row(*second))[1] == said


def test_programs_get_both_figures_and_the_ratio_with_their_intervals():
    one, two = result("p-1", row(50.0, 50.1, 49.9)), result("p-2", row(60.0))
    (compared,) = compare_json(matched(one, two), one, two)["rows"]
    told = compared["generated_per_second"]
    assert told["first_low"] < told["first"] == 50.0 < told["first_high"]
    assert (told["second"], told["second_low"], told["second_high"]) == (60.0, None, None)
    assert (told["ratio"], told["low"]) == (pytest.approx(1.2), None)


def test_a_longer_wait_is_no_speed():
    def timed(*seconds):
        samples = tuple(Sample(None, None, each, 1.0) for each in seconds)
        return BenchRow("chat", Measured(Workload(128, 256), samples))

    assert says(timed(1.0, 1.01, 0.99), timed(1.2, 1.21, 1.19))[2] == "p-2 takes 20 % longer"
    assert says(timed(1.0, 1.01, 0.99), timed(0.8, 0.81, 0.79))[2] == "p-2 takes 20 % less"
    assert says(timed(1.0, 1.01, 0.99), timed(3.0, 3.01, 2.99))[2] == "p-2 takes 3.0 times as long"


def test_a_list_has_a_line_for_each_result_also_for_one_without_figures():
    lines = list_table([result("p-1", row(50.0)), result("p-2", row())]).splitlines()
    assert [line.split()[0] for line in lines] == ["ID", "p-1", "p-2"]
