"""What is kept of a bench, and which rows of two results may be compared."""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import replace

import pytest

from supervisor.errors import ConfigError, NotFound
from supervisor.hardware.detection import detect
from supervisor.measure import record
from supervisor.measure.measurement import Measured, Sample, Workload
from supervisor.measure.record import (
    BenchHistory,
    BenchResult,
    BenchRow,
    differences,
    machine_words,
    matched,
    options_changed,
    result_of,
)
from supervisor.measure.reported import ReportedSpeed
from supervisor.plan.launch import LaunchPlan

from .hardware.recorded import load

CHAT = Workload(128, 256)
SAMPLES = (Sample(400.5, 45.25, 0.32, 6.1, 128, 256), Sample(None, 44.0, None, 6.3, disturbed=("swapping",)))


def row(workload=CHAT, scenario="chat"):
    return BenchRow(scenario, Measured(workload, SAMPLES))


def result(profile="demo", at="2026-11-30T12:00:00+00:00", rows=None, **more):
    fields = {
        "machine": "a box",
        "fingerprint": "no GPU",
        "plan": "d1",
        "build": "b1",
        "flavour": "cpu",
        "model": "m",
    }
    argv = ("llama-server", "-m", "m", "--ctx-size", "4096", "--seed", "-1")
    return BenchResult(
        **{"profile": profile, "at": at, "argv": argv, "rows": tuple(rows or [row()]), **fields, **more}
    )


@pytest.fixture
def history(tmp_path):
    return BenchHistory(tmp_path / "bench")


def test_a_result_is_read_as_it_was_kept(history):
    kept = history.keep(result(reported=(ReportedSpeed("rx9070-20b", 122.0, "all layers"),)))
    assert kept.id == "demo-1"
    assert history.all() == ([kept], [])
    file = history.folder / "demo-1.json"
    assert json.loads(file.read_text())["schema"] == 1
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_each_profile_counts_its_own_results(history):
    for profile in ("demo", "demo", "demo-1", "a.b"):
        history.keep(result(profile))
    assert history.ids() == ["a.b-1", "demo-1", "demo-1-1", "demo-2"]
    assert history.find("demo").id == "demo-2"
    assert history.find("demo-1").profile == "demo", "an id goes before a profile of the same name"
    with pytest.raises(NotFound, match="No result is called other"):
        history.find("other")


def test_what_cannot_be_read_is_skipped_with_a_sentence_and_can_be_removed(history):
    kept = history.keep(result())
    (history.folder / "bad-1.json").write_text("{")
    (history.folder / "new-1.json").write_text('{"schema": 99}')
    (history.folder / "odd-1.json").write_text('{"schema": 1, "profile": 3}')
    found, skipped = history.all()
    assert found == [kept]
    assert [sentence.partition(".json: ")[0].rpartition(os.sep)[2] for sentence in skipped] == [
        "bad-1",
        "new-1.json was written by a newer goss-supervisor (schema 99).",
        "odd-1",
    ]
    with pytest.raises(ConfigError) as caught:
        history.find("bad-1")
    assert "goss-supervisor bench rm bad-1" in caught.value.hint
    history.remove("bad-1")
    assert history.ids() == ["demo-1", "new-1", "odd-1"]
    with pytest.raises(NotFound):
        history.remove("demo-1", "../demo-1")
    assert "demo-1" in history.ids(), "all of them, or none"


def test_the_oldest_results_go_first(history, monkeypatch):
    monkeypatch.setattr(record, "MOST_RESULTS", 2)
    for day in (3, 1, 2):
        history.keep(result(at=f"2026-11-0{day}T12:00:00+00:00"))
    assert history.ids() == ["demo-1", "demo-3"]
    assert history.keep(result(at="2026-11-09T12:00:00+00:00")).id == "demo-4", "no id comes twice"


def test_a_result_says_what_ran_and_where(tmp_path):
    hardware = detect(tmp_path, load("ryzen-9700x-rx9070"))
    plan = LaunchPlan(
        "p", ("x", "-c", "1"), {}, "", 0, "b2", "vulkan", "", "model.gguf", "digest", secrets={"KEY": "s3"}
    )
    seen = "Vulkan0: Radeon RX 9070 (RADV GFX1201)"
    plan = replace(plan, devices=(f"{seen} (16304 MiB, 15312 MiB free)", "RPC0: odd"))
    found = result_of(plan, hardware, [row()], "2026-11-30T12:00:00+00:00")
    assert found.devices == (seen, "RPC0: odd"), "how much is free is different each time"
    assert (found.profile, found.plan, found.build, found.flavour) == ("p", "digest", "b2", "vulkan")
    assert found.machine == machine_words(hardware)
    assert "9700X" in found.machine
    assert "RX 9070" in found.machine
    assert "s3" not in repr(found)


def test_only_rows_of_the_same_workload_are_compared():
    story = Workload(0, 256, text="An epidemic")
    first = result(
        rows=[row(), row(replace(CHAT, clients=8)), row(replace(story, prompt_tokens=90), "article")]
    )
    second = result(
        rows=[row(replace(CHAT, warm=True)), row(replace(story, prompt_tokens=101), "article"), row()]
    )
    found = matched(first, second)
    assert [(one.scenario, two.scenario) for one, two in found.both] == [
        ("chat", "chat"),
        ("article", "article"),
    ]
    assert [each.measured.workload.clients for each in found.only_first] == [8]
    assert [each.measured.workload.warm for each in found.only_second] == [True]


def test_what_may_explain_a_difference_is_named():
    assert differences(result(), result()) == []
    other = result(
        build="b2", machine="another", argv=("x", "-m", "n", "--ctx-size", "8192", "--seed", "-1", "--mlock")
    )
    assert differences(result(), other) == [
        "machine: a box; another",
        "build: b1 cpu; b2 cpu",
        "--ctx-size: 4096; 8192",
        "--mlock: not set; on",
    ]
    assert options_changed(("x", "--port", "1", "--a", "1", "2"), ("y", "--port", "2", "--a", "1", "3")) == [
        "--a: 1 2; 1 3"
    ]
