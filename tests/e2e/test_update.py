"""
An update as a user sees it, under a client that keeps asking.

The builds come from a GitHub on loopback.  Each is a script that says its own number and becomes the real
llama-server; the bad ones have a twist that shows only under the supervisor (``--metrics``), so that they
pass the proof.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import sys
import threading
from itertools import groupby

import pytest

from .conftest import BUILT, free_port
from .offered import OfferedHome, launched, offer

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(sys.platform != "linux", reason="the builds are shell scripts in Linux archives"),
]

PROFILE = "extends: demo\nhealth: {start-timeout: 1s}\nserver: {slot-prompt-similarity: 0.2}\n"

ONLY_SUPERVISED = 'case "$*" in *--metrics*) %s;; esac'
CRASHES = ONLY_SUPERVISED % "echo 'ggml_abort: no kernel' >&2; exit 3"
HANGS = ONLY_SUPERVISED % "exec /bin/sleep 600"
# Eight threads for each core wait for each other at every step, however much else the machine does.
IS_SLOW = ONLY_SUPERVISED % f'set -- "$@" --threads {min(8 * (os.cpu_count() or 1), 512)}'
LACKS_A_FLAG = 'case "$1" in --help) "$REAL" --help | /bin/grep -v slot-prompt-similarity; exit 0;; esac'


def release(home: OfferedHome, number: int, twist: str = "") -> None:
    offer(home, f"b{number}", twist)


def builds(home: OfferedHome) -> dict[str, dict]:
    return {each["tag"]: each for each in home.engines()}


@pytest.fixture
def fed(request, tmp_path):
    """b12001 of the nightly channel, with the twist that a test gives it, runs a profile of the demo model."""
    if not os.environ.get(BUILT):
        pytest.skip(f"{BUILT} is not set: run bin/test")
    home = OfferedHome(tmp_path, (), free_port())
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("engine: {channel: nightly}\n")
    home.profile("mine", PROFILE)
    release(home, 12001, getattr(request, "param", ""))
    try:
        home.start("mine")
        yield home
    finally:
        home.close()


class Asking:
    """A client that asks without end; ``answered`` is whether it got its tokens, question by question."""

    def __init__(self, port: int) -> None:
        self.port, self.answered, self.over = port, [], threading.Event()
        self.thread = threading.Thread(target=self._ask)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    @property
    def pauses(self) -> int:
        return sum(not answered for answered, _ in groupby(self.answered))

    def _ask(self) -> None:
        while not self.over.is_set():
            self.answered.append(self._one())
            self.over.wait(0.01)

    def _one(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(
                "POST",
                "/completion",
                json.dumps({"prompt": "Hi", "n_predict": 1}),
                {"Content-Type": "text/json"},
            )
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


@pytest.mark.parametrize("fed", [IS_SLOW], indirect=True)  # so that the next one is never slower by chance
def test_an_update_is_announced_taken_and_rolled_back(fed):
    assert "nothing newer than b12001" in fed.run("engine", "update", "--check").stdout
    release(fed, 12002)
    checked = json.loads(fed.run("engine", "update", "--check", "--json").stdout)
    assert (checked["available"], checked["current"], checked["channel"]) == ("b12002", "b12001", "nightly")
    assert "update    b12002 is there: goss-supervisor engine update" in fed.run("status").stdout
    updated = fed.run("engine", "update")
    assert "mine runs on b12002 (cpu) now" in updated.stdout
    assert fed.status()["server"]["build"] == "b12002"
    assert fed.status()["update"]["available"] is None
    assert builds(fed)["b12002"]["channels"] == ["nightly"]

    assert "back to b12001" in fed.run("engine", "rollback").stdout
    assert fed.status()["server"]["build"] == "b12001"
    again = fed.run("engine", "update")
    assert "nothing newer than b12001" in again.stdout
    assert "b12002: its cpu build is marked bad" in again.stdout
    assert "is not taken" in fed.run("engine", "use", "b12002", code=1).stderr
    fed.run("engine", "use", "b12002", "--force")
    fed.run("restart")
    assert fed.status()["server"]["build"] == "b12002"


@pytest.mark.parametrize(
    ("twist", "reason", "pauses"),
    [
        pytest.param(CRASHES, "ended before it was ready (exit code 3)", 1, id="crashes"),
        pytest.param(HANGS, "made no progress while loading", 1, id="hangs"),
        # there and back again; in between the slow one answers
        pytest.param(IS_SLOW, "% of the", 2, id="is-slower"),
    ],
)
def test_a_bad_build_is_taken_back_and_marked(fed, twist, reason, pauses):
    release(fed, 12002, twist)
    with Asking(fed.port) as client:
        tried = fed.run("engine", "update", code=10)
    assert "b12002 (cpu) was taken back, and b12001 runs again" in tried.stderr
    assert reason in tried.stderr
    assert fed.status()["server"]["build"] == "b12001"
    assert fed.status()["server"]["state"] == "ready"
    assert client.answered[0]
    assert client.answered[-1]
    assert client.pauses <= pauses

    assert reason in builds(fed)["b12002"]["bad"]
    assert "nothing newer than b12001" in fed.run("engine", "update").stdout
    assert builds(fed)["b12001"]["running"]


def test_an_update_that_is_killed_in_the_switch_leaves_a_server_that_comes_back_and_can_be_repeated(fed):
    release(fed, 12002, HANGS)
    with launched(fed, "engine", "update") as update:
        fed.watch_for(lambda now: now["server"]["build"] == "b12002")
        update.process.kill()
        update.process.wait()
        back = fed.watch_for(
            lambda now: now["server"]["build"] == "b12001" and now["server"]["state"] == "ready"
        )
    assert "made no progress while loading" in back["server"]["last_failure"]["message"]
    assert builds(fed)["b12002"]["bad"] is None  # nobody was there to judge
    assert "b12002 (cpu) was taken back" in fed.run("engine", "update", code=10).stderr
    assert builds(fed)["b12002"]["bad"]


def test_a_build_that_lacks_a_flag_of_the_profile_stops_nothing(fed):
    pid = fed.status()["server"]["pid"]
    release(fed, 12002, LACKS_A_FLAG)
    with Asking(fed.port) as client:
        refused = fed.run("engine", "update", code=78)
    assert "slot-prompt-similarity" in refused.stderr
    assert client.pauses == 0
    assert fed.status()["server"]["pid"] == pid


def test_a_quiet_check_without_a_network_is_silent_and_recorded(fed):
    fed.github.close()
    for code in (0, 8):  # with what GitHub said at the start, and without
        checked = fed.run("engine", "update", "--check", "--quiet", code=code)
        assert (checked.stdout, checked.stderr) == ("", "")
        assert fed.status()["update"]["problem"]
        shutil.rmtree(fed.root / "data" / "cache", ignore_errors=True)
    assert "update " not in fed.run("status").stdout


def test_what_runs_or_is_the_only_one_is_not_removed(fed):
    assert "runs now (mine)" in fed.run("engine", "remove", "b12001", code=1).stderr
    fed.run("stop")
    assert "the only build that works" in fed.run("engine", "remove", "b12001", code=1).stderr
    release(fed, 12002)
    fed.run("engine", "install", "b12002")
    assert "removed" in fed.run("engine", "remove", "b12002").stdout
    assert list(builds(fed)) == ["b12001"]


def test_without_a_server_the_newest_is_installed_and_taken_at_the_next_start(fed):
    fed.run("stop")
    release(fed, 12002)
    assert "the next start takes it" in fed.run("engine", "update").stdout
    assert "b12002" in fed.run("engine", "path").stdout
    fed.start("mine")
    assert fed.status()["server"]["build"] == "b12002"
