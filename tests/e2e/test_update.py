"""
An update as a user sees it, under a client that keeps asking.

The builds come from a GitHub on loopback.  Each is a script that says its own number and becomes the scripted
llama-server, which says how fast it is; the bad ones have a twist that shows only under the supervisor
(``--metrics``), so that they pass the proof.
"""

from __future__ import annotations

import http.client
import json
import shutil
import sys
import threading
from itertools import groupby

import pytest

from ..fakes.binaries import fake_server
from .conftest import free_port
from .offered import OfferedHome, launched, offer

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the builds are shell scripts in Linux archives"
)

PROFILE = "extends: demo\nrestart: {{max: 2, backoff: 100ms}}\nserver: {{slot-prompt-similarity: {}}}\n"
SIMILARITY = {"mine": 0.2, "two": 0.3, "three": 0.2}  # by which a build can tell two from the others

CRASHES = """case "$*" in *--metrics*) echo 'ggml_abort: no kernel' >&2; exit 3;; esac"""
DIES_ON_TWO = """case "$*" in *--metrics*similarity\\ 0.3*|*similarity\\ 0.3*--metrics*)
    until [ -e "{gate}" ]; do /bin/sleep 0.05; done; exit 3;; esac"""
SPEEDS = {"prompt": 400.0, "answer": 40.0}
LACKS_A_FLAG = 'case "$1" in --help) "$REAL" --help | /bin/grep -v slot-prompt-similarity; exit 0;; esac'


def release(home: OfferedHome, number: int, twist: str = "") -> None:
    offer(home, f"b{number}", twist, becomes=home.root / "engine" / "llama-server")


def builds(home: OfferedHome) -> dict[str, dict]:
    return {each["tag"]: each for each in home.engines()}


@pytest.fixture
def offering(tmp_path):
    """A home of the nightly channel with profiles of the demo model; nothing is released or runs yet."""
    home = OfferedHome(tmp_path, (), free_port())
    fake_server(tmp_path / "engine" / "llama-server", speeds=SPEEDS)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("engine: {channel: nightly}\n")
    for name, similarity in SIMILARITY.items():
        home.profile(name, PROFILE.format(similarity))
    try:
        yield home
    finally:
        home.close()


@pytest.fixture
def fed(offering):
    """There, b12001 runs."""
    release(offering, 12001)
    offering.start("mine")
    return offering


def running(home: OfferedHome) -> dict[str, str]:
    """The build of each server, by profile, and its state where that is not ready."""
    servers = home.status()["servers"]
    return {
        each["profile"]: each["build"] if each["state"] == "ready" else f"{each['build']} {each['state']}"
        for each in servers
    }


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


def test_an_update_is_announced_taken_by_all_servers_and_rolled_back(fed):
    assert "nothing newer than b12001" in fed.run("engine", "update", "--check").stdout
    fed.run("load", "two")
    fed.run("load", "three")
    fed.run("unload", "three")
    release(fed, 12002)
    checked = json.loads(fed.run("engine", "update", "--check", "--json").stdout)
    assert (checked["available"], checked["current"], checked["channel"]) == ("b12002", "b12001", "nightly")
    assert "update    b12002 is there: goss-supervisor engine update" in fed.run("status").stdout
    updated = fed.run("engine", "update").stdout.splitlines()
    assert updated[0].startswith("mine and two run on b12002 now; compared on mine (it is the main server): ")
    assert [line.split()[:3] for line in updated[3:]] == [
        ["mine", "b12002", "compared"],
        ["two", "b12002", "compared"],
        ["three", "b12001", "next"],
    ]
    assert running(fed) == {"mine": "b12002", "two": "b12002", "three": "b12002 sleeping"}
    assert fed.status()["update"]["available"] is None
    assert builds(fed)["b12002"]["channels"] == ["nightly"]

    back = json.loads(fed.run("engine", "rollback", "--json").stdout)
    assert "back to b12001" in back["text"]
    assert [each["result"] for each in back["servers"]] == ["moved", "moved", "next load"]
    assert running(fed) == {"mine": "b12001", "two": "b12001", "three": "b12001 sleeping"}
    again = fed.run("engine", "update")
    assert "nothing newer than b12001" in again.stdout
    assert "b12002: its cpu build is marked bad" in again.stdout
    assert "is not taken" in fed.run("engine", "use", "b12002", code=1).stderr
    fed.run("engine", "use", "b12002", "--force")
    fed.run("restart")
    assert fed.status()["server"]["build"] == "b12002"


def test_a_bad_build_is_taken_back_and_marked(fed):
    reason = "ended before it was ready (exit code 3)"
    release(fed, 12002, CRASHES)
    with Asking(fed.port) as client:
        last = fed.ask_daemon(op="run", command="engine-update")  # as the page does it
    job, result = last["job"], last["result"]
    assert (job["exit_code"], job["superseded"]) == (10, False)
    assert "b12002 (cpu) was taken back, and b12001 runs again" in job["error"]
    assert reason in job["error"]
    assert reason in result["why"]
    assert fed.status()["server"]["build"] == "b12001"
    assert fed.status()["server"]["state"] == "ready"
    assert client.answered[0]
    assert client.answered[-1]
    assert client.pauses <= 1

    assert reason in builds(fed)["b12002"]["bad"]
    assert "nothing newer than b12001" in fed.run("engine", "update").stdout
    assert builds(fed)["b12001"]["running"]


def test_an_update_that_is_killed_between_two_servers_can_be_repeated_and_takes_all_back_for_one(fed):
    fed.run("load", "two")
    gate = fed.root / "gate"
    release(fed, 12002, DIES_ON_TWO.format(gate=gate))
    with launched(fed, "engine", "update") as update:
        fed.watch_for(lambda now: [each["build"] for each in now["servers"]] == ["b12002", "b12002"])
        update.process.kill()
        update.process.wait()
        gate.touch()
        back = fed.watch_for(
            lambda now: (now["servers"][1]["build"], now["servers"][1]["state"]) == ("b12001", "ready")
        )
    assert "ended before it was ready (exit code 3)" in back["servers"][1]["last_failure"]["message"]
    assert running(fed) == {"mine": "b12002", "two": "b12001"}
    assert builds(fed)["b12002"]["bad"] is None  # nobody was there to judge

    with Asking(fed.port) as client:
        tried = fed.run("engine", "update", code=10)
    assert "an update was broken off: first mine back to b12001" in tried.stderr
    assert "b12002 (cpu) was taken back" in tried.stderr
    assert "ended before it was ready (exit code 3)" in builds(fed)["b12002"]["bad"]
    assert builds(fed)["b12002"]["bad"].endswith(", on two")
    assert running(fed) == {"mine": "b12001", "two": "b12001"}
    assert client.pauses <= 3, "back, forth and back again"


def test_a_build_that_lacks_a_flag_of_the_profile_stops_nothing_and_what_runs_is_not_removed(fed):
    pid = fed.status()["server"]["pid"]
    release(fed, 12002, LACKS_A_FLAG)
    with Asking(fed.port) as client:
        refused = fed.run("engine", "update", code=78)
    assert "slot-prompt-similarity" in refused.stderr
    assert client.pauses == 0
    assert fed.status()["server"]["pid"] == pid
    assert "runs now (mine)" in fed.run("engine", "remove", "b12001", code=1).stderr
    assert "removed" in fed.run("engine", "remove", "b12002").stdout
    assert list(builds(fed)) == ["b12001"]


def test_without_a_server_the_newest_is_installed_and_taken_at_the_next_start(offering):
    release(offering, 12001)
    offering.run("engine", "install")
    assert "the only build that works" in offering.run("engine", "remove", "b12001", code=1).stderr
    release(offering, 12002)
    assert "the next start takes it" in offering.run("engine", "update").stdout
    assert "b12002" in offering.run("engine", "path").stdout
    offering.start("mine")
    assert offering.status()["server"]["build"] == "b12002"

    offering.github.close()  # a quiet check is silent then, and recorded
    for code in (0, 8):  # with what GitHub said at the start, and without
        checked = offering.run("engine", "update", "--check", "--quiet", code=code)
        assert (checked.stdout, checked.stderr) == ("", "")
        assert offering.status()["update"]["problem"]
        shutil.rmtree(offering.root / "data" / "cache", ignore_errors=True)
    assert "update " not in offering.run("status").stdout
