"""
A tuning as a user sees it: the server is a script whose speed its options decide, so a whole one takes seconds.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from supervisor.errors import SupervisorError
from supervisor.measure.session import opened
from supervisor.paths import Paths
from supervisor.prepare.variants import variants_of
from supervisor.profile.resolve import resolve
from supervisor.profile.store import ProfileStore
from supervisor.progress import Silent

from ..fakes.binaries import fake_server
from .conftest import PATIENCE, Home, free_port, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the scripted server is a shell script")

SPEEDS = {
    "prompt": 400.0,
    "answer": 40.0,
    "noise": 0.005,
    "rules": [["--ubatch-size", "1024", 1.5, 1.0], ["--ubatch-size", "2048", 2.0, 1.0]],
    "dies": [["--ubatch-size", "256"]],
}
FIXED = ("batch-size", "threads", "threads-batch", "poll", "flash-attn", "repack", "load-mode")
TUNE = ("tune", "mine", "--yes", *(word for key in FIXED for word in ("--fix", key)))


class TunedHome(Home):
    def __init__(self, root):
        super().__init__(root, port=free_port())
        engine = fake_server(root / "engine" / "llama-server", speeds=SPEEDS)
        self.profile(
            "mine",
            f"model: demo\nengine: {{source: path, path: {engine}}}\nserver: {{ctx-size: 8192, batch-size: 4096}}\n",
        )

    def running(self):
        """What the main server has loaded, and whether it is ready for everybody."""
        server = self.status()["server"]
        return server["profile"], server["state"], server["digest"], server["held_by"]

    def tuned(self):
        """The options that the written profile adds; None where none was written."""
        store = ProfileStore(Paths.under(self.root).profiles)
        if "mine-tuned" not in store.names():
            return None
        found, base = resolve("mine-tuned", store).server, resolve("mine", store).server
        return {key: value for key, value in found.items() if base.get(key) != value}

    def journal(self):
        files = list((self.root / "state" / "tune").glob("mine-*.ndjson"))
        return files[0].read_bytes().splitlines() if files else []

    def tune(self):
        return subprocess.Popen(
            self.command(*TUNE), env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def until_the_journal_has(self, lines, process):
        until(lambda: len(self.journal()) >= lines or process.poll() is not None)


@pytest.fixture
def home(tmp_path):
    made = TunedHome(tmp_path)
    yield made
    made.close()


def test_it_finds_the_fastest_setting_writes_it_and_the_server_of_the_user_is_back(home):
    home.start("mine")
    before = home.running()
    done = home.run(*TUNE, "--svg", str(home.root / "chart.svg"), "--explain")
    assert home.running() == before
    assert home.tuned() == {"ubatch-size": 2048}
    assert "ubatch-size" in done.stdout
    assert "start it: goss-supervisor start mine-tuned" in done.stdout
    assert "prompt batch:" in done.stdout
    assert "disturbs  mine: requests wait" in done.stderr
    assert "ubatch-size 256: died: llama-server found itself in an impossible state" in done.stderr
    assert (home.root / "chart.svg").read_text().startswith("<svg")

    again = home.run(*TUNE, "--json")
    found = json.loads(again.stdout)
    assert (found["result"], found["settings"][0]["is"]) == ("faster", "2048")
    assert len(home.journal()) == len(set(home.journal())), "nothing was measured again"
    assert home.running() == before


def test_killed_at_any_step_it_goes_on_and_finds_the_same(home):
    home.start("mine")
    before = home.running()
    lines = 0
    for more in (2, 1, 1, 4):  # after the first look, in the first trial, behind it, and later
        process = home.tune()
        lines += more
        home.until_the_journal_has(lines, process)
        process.kill()
        process.communicate()
        lines = len(home.journal())
        home.watch_for(lambda now: now["server"]["digest"] == before[2] and now["server"]["state"] == "ready")
    done = home.run(*TUNE)
    assert "of an earlier run" in done.stderr
    assert home.tuned() == {"ubatch-size": 2048}
    assert home.running() == before
    ended = [json.loads(line)["ended"] for line in home.journal() if b'"ended"' in line]
    assert [row["number"] for row in ended] == list(range(len(ended))), "each trial ended once"


def test_ctrl_c_puts_the_server_back_and_says_how_to_go_on(home):
    home.start("mine")
    before = home.running()
    process = home.tune()
    home.until_the_journal_has(5, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "the same command, with the same options, goes on where it was" in said
    assert home.running() == before
    assert home.tuned() is None


def test_a_person_who_stops_the_server_ends_the_tuning(home):
    home.start("mine")
    process = home.tune()
    home.until_the_journal_has(3, process)
    home.run("stop")
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode in {3, 12}, said
    assert "Traceback" not in said


def test_a_trial_that_takes_the_memory_is_ended_in_the_middle_of_its_load_and_the_next_one_runs(home):
    """What the guard does."""
    home.start("mine")
    before = home.running()
    paths = Paths.under(home.root)
    variants = variants_of("mine", paths)
    with opened(
        paths, variants.plan({}), owner="test", why="tests", progress=Silent(), waiting=quiet
    ) as session:
        ender = threading.Thread(target=lambda: (home.watch_for(is_loading), session.stop()))
        ender.start()
        with pytest.raises(SupervisorError):
            session.run(variants.plan({"env.FAKE_LOAD_GATE": str(home.root / "never")}))
        ender.join()
        assert session.run(variants.plan({"ubatch-size": "1024"})).url
    assert home.running() == before


def is_loading(now):
    return any(each["state"] == "starting" for each in now["servers"])


@contextmanager
def quiet(_):
    yield Silent()
