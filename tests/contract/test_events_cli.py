"""``events`` and ``history``: of a daemon that ran, was stopped, and whose server was killed."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys

import psutil
import pytest
from click.testing import CliRunner

from supervisor.cli.events import events, history
from supervisor.errors import UsageError
from supervisor.home.event_log import events_file, record_event
from supervisor.home.places import daemon_log

from ..fakes.launching import BOUND_SECONDS, end_daemon
from .test_session import home  # noqa: F401 - a fixture


def run(command, *words):
    return CliRunner().invoke(command, words, catch_exceptions=False).stdout


def test_what_happened_is_there_after_the_daemon_has_gone(home):  # noqa: F811
    home.start(home.plan("p"))
    first = home.ask("status")["status"]["servers"][0]["pid"]
    psutil.Process(first).kill()
    home.watch(
        lambda now: now["servers"][0]["pid"] not in {None, first} and now["servers"][0]["state"] == "ready"
    )
    home.load(home.plan("q"))
    end_daemon(home.root)
    for each in home.daemons:
        each.wait(BOUND_SECONDS)

    found = [json.loads(line) for line in run(events, "--json").splitlines()]
    assert [each["text"].split()[0] for each in found if each["kind"] == "daemon"] == ["goss-supervisor"] * 2
    assert [each["kind"] for each in found if each.get("cause")] == ["death"]
    assert "p: backoff (" in run(events, "--kind", "death")
    assert run(events, "-n", "1").endswith("goss-supervisor ends\n")
    assert run(events, "--since", "2100-01-01") == ""
    runs = json.loads(run(history, "--json"))["runs"]
    assert [each["profile"] for each in runs] == ["p", "p", "q"]
    assert [bool(each["ended"]) for each in runs] == [True] * 3
    assert runs[0]["ended"] != runs[1]["ended"]
    assert all(each["load_seconds"] is not None and each["memory_bytes"] for each in runs)
    assert len(run(history, "q").splitlines()) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes of POSIX")
def test_a_pipe_in_place_of_the_file_keeps_no_daemon_from_starting(home):  # noqa: F811
    events_file(home.paths).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(events_file(home.paths))
    home.start(home.plan("p"))
    assert "events are not kept" in daemon_log(home.paths).read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="select knows sockets only there")
def test_what_comes_is_followed_and_shown_harmless(home):  # noqa: F811
    command = [sys.executable, "-m", "supervisor", "events", "--follow", "--kind", "download"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        record_event(home.paths, "update", "not this")
        while not select.select([following.stdout], [], [], 0.1)[0]:  # it looks only for what comes after it
            record_event(home.paths, "download", "got \x1b[31mit")
        line = following.stdout.readline()
        following.send_signal(signal.SIGINT)
        following.communicate(timeout=BOUND_SECONDS)
    assert line.endswith("download  got  [31mit\n")


@pytest.mark.parametrize("words", [["--since", "yesterday"], ["--since", "0d"], ["--since", "2026-13-01"]])
def test_a_time_that_is_none_is_named(home, words):  # noqa: F811
    with pytest.raises(UsageError, match="is not a time"):
        run(events, *words)
