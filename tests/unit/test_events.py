"""Events as lines, what a server's changes tell, runs made of them, and refused keys in few lines."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest

from supervisor.cli import logs
from supervisor.daemon.announcements import Announcements, usual_rate
from supervisor.gateway.api.routes import Trouble
from supervisor.gateway.request_record import PAUSE_SECONDS, RefusedKeys
from supervisor.gateway.telemetry.activity import Activity, RequestRecord
from supervisor.home.event_log import (
    EventFormatter,
    about,
    event_in,
    events_before,
    events_file,
    read_events,
    record_event,
)
from supervisor.home.run_history import RUNS_TO_KNOW, Run, runs_in, with_notes
from supervisor.paths import Paths
from supervisor.server.diagnosis import Diagnosis
from supervisor.server.lifecycle_table import State


@pytest.fixture
def heard(caplog):
    """What was logged since, as events."""
    caplog.set_level(logging.INFO)
    return lambda: [json.loads(EventFormatter().format(each)) for each in caplog.records]


def answer(rate=20.0, tokens=100, at=10.0, profile="chat"):
    return RequestRecord(
        at=at,
        caller="",
        method="POST",
        endpoint="chat",
        profile=profile,
        model=profile,
        stream=True,
        status=200,
        result="answered",
        seconds=1.0,
        output_tokens=tokens,
        tokens_per_second=rate,
    )


# --- lines


def test_a_message_becomes_a_line_with_the_fields_of_its_kind(heard):
    logging.getLogger("any").warning("no %s", "disk", extra=about("update", build="b1"))
    logging.getLogger("any").info("plain")
    first, second = heard()
    assert first.pop("at").endswith("Z")
    assert first == {"level": "warning", "kind": "update", "text": "no disk", "build": "b1"}
    assert (second["level"], second["kind"], second["text"]) == ("info", "message", "plain")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"at": 1, "level": "", "kind": "", "text": ""}',
        b'{"at": "soon", "level": "", "kind": "", "text": ""}',
        b'{"at": "2026-11-30", "level": "", "kind": ""}',
        b"[" * 100_000,
    ],
)
def test_a_line_that_is_no_event_is_none(line):
    assert event_in(line) is None


def test_they_are_read_from_both_files_and_a_torn_line_is_left_out(tmp_path):
    paths = Paths.under(tmp_path)
    assert list(read_events(paths)) == []
    record_event(paths, "download", "first")
    events_file(paths).rename(events_before(paths))
    record_event(paths, "download", "second", file="x.gguf")
    with events_file(paths).open("ab") as file:
        file.write(b'{"at": "2026-11-30T1')
    assert [each["text"] for each in read_events(paths)] == ["first", "second"]
    if sys.platform != "win32":
        assert events_file(paths).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("make", [Path.mkdir, getattr(os, "mkfifo", Path.mkdir)])
def test_what_is_no_file_in_its_place_holds_up_nobody(tmp_path, make):
    paths = Paths.under(tmp_path)
    record_event(paths, "download", "first")
    events_file(paths).rename(events_before(paths))
    make(events_file(paths))
    record_event(paths, "download", "lost")
    assert [each["text"] for each in read_events(paths)] == ["first"]


@pytest.mark.skipif(sys.platform == "win32", reason="a file that is open cannot be renamed there")
def test_a_file_that_is_put_aside_or_emptied_is_followed_on(tmp_path, monkeypatch):
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"before\n")

    def empty():
        file.write_bytes(b"one\n")

    def put_aside():
        with file.open("ab") as last:
            last.write(b"last\n")
        file.rename(tmp_path / "events.jsonl.1")
        file.write_bytes(b"next\n")

    steps, look = iter((empty, put_aside)), logs._is_another

    def happens_first(*seen):  # in the moment after a read that found nothing
        next(steps)()
        return look(*seen)

    monkeypatch.setattr(logs, "_is_another", happens_first)
    with closing(logs.follow_lines(file)) as lines:
        assert list(islice(lines, 3)) == [b"one", b"last", b"next"]


def test_a_command_goes_on_where_its_event_cannot_be_written(tmp_path):
    paths = Paths.under(tmp_path / "file")
    (tmp_path / "file").touch()
    record_event(paths, "download", "no folder")
    assert list(read_events(paths)) == []
    assert (tmp_path / "file").read_bytes() == b""


# --- what a server tells


class Fake(SimpleNamespace):
    def resident_bytes(self):
        return 5


def instance(**now):
    plan = SimpleNamespace(is_trial=False, build="b1", flavour="cpu", digest="d", profile="chat")
    child = SimpleNamespace(identity=SimpleNamespace(pid=7))
    server = Fake(
        state=State.PREPARING, plan=plan, child=child, failed_at=None, failure=None, why="", survivor=None
    )
    vars(server).update(now)
    return SimpleNamespace(name="default", profile="chat", server=server)


def test_a_server_tells_each_change_once_with_what_is_known(heard):
    activity = Activity()
    announcements, it = Announcements(lambda: activity), instance()
    assert announcements.tell(it, "preparing")
    assert not announcements.tell(it, "preparing")
    for state in (State.STARTING, State.READY, State.DRAINING, State.STOPPED):
        it.server.state = state
        announcements.tell(it, state.value)
        activity.add(answer(at=2e9))
    found = {each["state"]: each for each in heard()}
    assert [each["before"] for each in heard()] == ["stopped", "preparing", "starting", "ready", "draining"]
    ready = found["ready"]
    assert (ready["pid"], ready["build"], ready["memory_bytes"]) == (7, "b1", 5)
    assert ready["load_seconds"] >= 0
    assert "served_seconds" not in found["draining"], "it still answers"
    assert (found["stopped"]["tokens_per_second"], found["stopped"]["kind"]) == (20.0, "state")


def test_what_was_taken_over_was_not_loaded_by_this_daemon(caplog):
    announcements, it = Announcements(lambda: None), instance(survivor=object())
    with caplog.at_level(logging.INFO):
        for it.server.state in (State.STARTING, State.READY):
            announcements.tell(it, f"p: {it.server.state}")
    assert caplog.records[-1].event["pid"] == it.server.child.identity.pid
    assert caplog.records[-1].event["load_seconds"] is None


def test_a_death_is_one_with_its_cause_and_told_once(heard):
    announcements, it = Announcements(lambda: None), instance(state=State.READY)
    announcements.tell(it, "ready")
    it.server.failure, it.server.failed_at = Diagnosis("signal", "it was killed", ""), 1.0
    it.server.state = State.BACKOFF
    announcements.tell(it, "backoff")
    it.server.state = State.PREPARING
    announcements.tell(it, "preparing")
    _, death, after = heard()
    assert (death["kind"], death["level"], death["cause"]) == ("death", "warning", "signal")
    assert (death["message"], death["text"]) == ("it was killed", "backoff (it was killed)")
    assert after["kind"] == "state"


def test_the_usual_rate_is_of_long_answers_of_this_profile_since_then():
    activity = Activity()
    assert usual_rate(None, "chat", 0.0) is None
    for each in (
        answer(rate=99.0, at=1.0),
        answer(rate=99.0, tokens=4),
        answer(rate=99.0, profile="other"),
        replace(answer(), tokens_per_second=None),
    ):
        activity.add(each)
    assert usual_rate(activity, "chat", 5.0) is None
    for rate in (10.0, 20.0, 60.0):
        activity.add(answer(rate=rate))
    assert usual_rate(activity, "chat", 5.0) == 20.0


# --- runs


def ready(server="default", **more):
    fields = {"profile": "chat", "build": "b1", "flavour": "cpu", "digest": "d", "load_seconds": 2.0}
    event = {"kind": "state", "server": server, "state": "ready", "at": "2026-11-30T08:00:00.000Z"}
    return {**event, **fields, "memory_bytes": 5, **more}


def over(server="default", **more):
    event = {"kind": "state", "server": server, "state": "stopped", "why": "asked to stop"}
    return {**event, "served_seconds": 9.0, "tokens_per_second": 20.0, **more}


def test_a_run_goes_from_ready_to_its_end():
    found = list(runs_in([ready(), ready("b"), over("b", cause="signal", kind="death"), over(), over()]))
    assert [(run.server, run.ended, run.served_seconds) for run in found] == [
        ("default", "asked to stop", 9.0),
        ("b", "signal", 9.0),
    ]


def test_a_run_of_a_daemon_that_was_killed_has_no_end_and_a_trial_is_none():
    begins = {"kind": "daemon", "text": "begins"}
    first, second = runs_in([ready(), begins, ready(), over(), ready(trial=True), over()])
    assert (first.ended, first.served_seconds) == ("", None)
    assert second.ended == "asked to stop"


def run_of(load=2.0, rate=20.0, **more):
    return replace(Run("default", "chat", "", "b1", "cpu", "d", load, 5), tokens_per_second=rate, **more)


def test_a_run_is_slower_than_usual_only_by_enough_others_like_it():
    def note(slow, *before):
        return list(with_notes([*before, slow]))[-1].note

    usual = [run_of() for _ in range(RUNS_TO_KNOW)]
    assert note(run_of(rate=14.9), *usual) == "answered slower than usual (20.0 tok/s)"
    assert note(run_of(load=9.0), *usual) == "loaded slower than usual (2.0 s)"
    assert note(run_of(rate=15.0, load=2.9), *usual) == ""
    assert note(run_of(rate=1.0), *usual[1:]) == ""
    assert note(run_of(rate=1.0, build="b2"), *usual) == ""
    assert note(run_of(rate=None, load=None), *usual) == ""


# --- keys


def test_refused_keys_are_told_once_a_minute_with_their_number(heard):
    now = 0.0
    refused = RefusedKeys(lambda: now)
    unknown, missing = Trouble(401, "invalid_api_key", "No."), Trouble(404, "not_found", "What?")
    for each in (missing, unknown, unknown, unknown):
        refused.note(each)
    assert [each["text"] for each in heard()] == ["refused: No."]
    now = PAUSE_SECONDS
    refused.note(unknown)
    assert heard()[-1]["text"] == "refused, 3 requests: No."
    assert heard()[-1]["requests"] == {"invalid_api_key": 3}


def test_a_run_is_compared_with_the_last_ones_alone():
    at = "2026-11-30"
    runs = [Run("s", "p", at, "b", "f", "d", seconds, None) for seconds in [1.0] * 50 + [9.0] * 60]
    assert "slower" in list(with_notes(runs))[50].note
    assert runs[-1].note == ""


def test_what_another_version_wrote_of_a_run_is_unknown():
    begun = {
        "at": "2026-11-30",
        "level": "info",
        "kind": "state",
        "text": "",
        "server": "s",
        "state": "ready",
    }
    ended = {**begun, "state": [], "served_seconds": "long", "cause": 7}
    runs = list(
        with_notes(runs_in([{**begun, "digest": 1, "load_seconds": "x", "memory_bytes": True}, ended]))
    )
    assert [(each.profile, each.load_seconds, each.memory_bytes, each.served_seconds) for each in runs] == [
        ("", None, None, None)
    ]
