"""Commands that the daemon runs as jobs and that talk to it themselves: they measure as from a shell."""

from __future__ import annotations

import os
import re
import sys
from contextlib import closing

import pytest

from supervisor.home import client
from supervisor.paths import Paths

from .test_tune import FIXED, TunedHome

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the scripted server is a shell script")

TUNE = {"command": "tune", "arguments": {"profile": "mine", "fix": list(FIXED)}}


@pytest.fixture
def home(tmp_path):
    made = TunedHome(tmp_path)
    made.start("mine")
    yield made
    made.close()


def follow(home, request):
    return client.stream(Paths.under(home.root), {"op": "run", **request})


def ended(home, number):
    home.watch_for(lambda now: any(each["id"] == number and each["ended"] for each in now["jobs"]))
    jobs = home.ask_daemon(op="jobs")["jobs"]
    return next(each for each in jobs if each["id"] == number)


def test_a_bench_as_a_job_says_what_it_does_and_its_result_is_kept(home):
    before = home.running()
    asked = {"command": "bench", "arguments": {"profiles": ["mine"], "scenario": ["chat"], "seconds": "1"}}
    lines = list(follow(home, asked))
    job = lines[-1]["job"]
    assert (job["exit_code"], job["error"], job["words"]) == (0, "", "bench --scenario=chat --seconds=1 mine")
    (result,) = lines[-1]["result"]["results"]
    assert result["profile"] == "mine"
    assert any("requests to mine wait" in each["job"]["line"] for each in lines)
    assert home.running() == before
    (listed,) = list(follow(home, {"command": "bench-ls"}))[-1]["result"]["results"]
    assert listed["id"] == result["id"]
    assert [each["command"] for each in home.status()["jobs"]] == ["bench"]


def test_a_tune_goes_on_without_its_client_and_ctrl_c_puts_all_back(home):
    before = home.running()
    with closing(follow(home, TUNE)) as lines:
        next(lines)
    home.watch_for(lambda now: now["jobs"][-1]["line"].startswith("trial "))
    home.ask_daemon(op="cancel", job=1)
    job = ended(home, 1)
    assert (job["exit_code"], job["error"], job["superseded"]) == (130, "It was cancelled.", False)
    assert home.running() == before
    assert home.journal()


def test_a_tune_that_a_person_ends_by_a_stop_of_its_server_is_superseded(home):
    with closing(follow(home, TUNE)) as lines:
        next(lines)
    home.watch_for(lambda now: now["jobs"][-1]["line"].startswith("trial "))
    home.ask_daemon(op="stop", server="mine")
    job = ended(home, 1)
    assert (job["exit_code"], job["superseded"]) == (12, True)
    assert "mine was stopped" in job["error"] or "default was stopped" in job["error"]


def test_a_daemon_that_is_stopped_ends_after_its_jobs(home):
    with closing(follow(home, TUNE)) as lines:
        next(lines)
    held = home.watch_for(lambda now: now["jobs"][-1]["line"].startswith("trial "))["server"]["held_by"]
    pid = int(re.search(r"pid (\d+)", held["owner"])[1])
    home.run("stop")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert home.journal()
