"""The demo on Windows, from an empty home to its end; `bin/test --windows` runs it under Wine."""

from __future__ import annotations

import sys

import psutil
import pytest

from supervisor.home.places import daemon_log
from supervisor.model.demo import DEMO_ANSWER
from supervisor.paths import Paths

from .conftest import PATIENCE, Home, free_port

pytestmark = [
    pytest.mark.skipif(sys.platform != "win32", reason="bin/test --windows runs it under Wine"),
    pytest.mark.network,
]


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path, ("--set", "engine.source=embedded"), free_port())
    yield made
    made.close()


def test_the_demo_starts_answers_survives_a_kill_and_stops(home):
    home.start("demo", "--yes", timeout=PATIENCE * 10)
    before = home.status()["server"]
    assert before["state"] == "ready"
    assert DEMO_ANSWER in home.run("ask", "What are you?").stdout

    psutil.Process(before["pid"]).kill()
    assert DEMO_ANSWER in home.run("ask", "What are you?").stdout
    after = home.status()["server"]
    assert (after["state"], after["restarts"]) == ("ready", 1)

    assert "demo: stopped" in home.run("stop").stdout
    assert not psutil.pid_exists(after["pid"])
    assert "KILL to llama-server" not in daemon_log(Paths.under(home.root)).read_text("utf-8")
    home.run("status", code=3)
