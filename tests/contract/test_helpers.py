"""Programs that the daemon runs for itself: what they came to is their JSON on stdout, and nothing else."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace

import pytest

from supervisor.daemon import helpers
from supervisor.daemon.helpers import LOAD, LOOK_FOR_UPDATE, RELOAD, Helper, Reloads, why_not
from supervisor.home.places import HELPER_VARIABLE

from ..fakes.launching import BOUND_SECONDS, program, until
from ..fakes.loops import run_story

pytestmark = pytest.mark.usefixtures("each_loop")

WRITES = "import json, os, sys; file = open(sys.argv[1], 'w'); "


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(helpers, "LOOK_SECONDS", 0.005)


async def answer_of(command, *more, helper=LOAD):
    async with asyncio.timeout(BOUND_SECONDS):
        return await replace(helper, words=()).run(*more, program=command)


def said(text, code=0):
    return program(f"import sys; sys.stdout.write({text!r}); sys.exit({code})")


def outcome(result, **more):
    return json.dumps({"schema": 1, "outcome": {"result": result, **more}}) + "\n"


@pytest.mark.parametrize("result", ["ready", "degraded", "unchanged", "asleep"])
@pytest.mark.parametrize("code", [0, 1])
def test_what_serves_has_come_about_whatever_the_exit_code(result, code):
    """`degraded` ends with 1, and was taken for a failure by that."""
    assert why_not(run_story(answer_of(said(outcome(result), code)))) == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (outcome("rolled back", why="It died.", hint="logs"), "It died. logs"),
        (outcome("superseded", why="superseded by a stop"), "superseded by a stop"),
        (outcome("failed", why="no model") + '{"error": "said after it"}\n', "no model"),
        ('{"error": "no model\\n  | tail", "hint": "make one"}\n', "no model | tail make one"),
        ("engine: x\n[1]\nnot JSON {\n" + '{"error": "wrong"}', "wrong"),
        (json.dumps({"error": "x" * 10_000}), "x" * 2000),
    ],
)
def test_why_it_did_not_come_about_is_told_with_what_to_do(text, why):
    assert why_not(run_story(answer_of(said(text, 3)))) == why


@pytest.mark.parametrize(
    ("code", "ended"),
    [
        ("import sys; sys.stderr.write('error: for people'); sys.exit(3)", 3),
        ("import os; os.write(1, b'\\xff\\xfe' + b'[' * 200_000); os._exit(1)", 1),
        ("import os; os.kill(os.getpid(), 9)", 9 if sys.platform == "win32" else -9),
    ],
)
def test_one_that_says_nothing_in_json_has_failed_with_how_it_ended(code, ended):
    helper = replace(LOAD, words=("load",))
    answer = run_story(helper.run(program=[*program(code), "--"]))
    assert answer["error"] == f"goss-supervisor load ended with {ended}."


def test_a_program_that_cannot_be_run_is_an_answer_too(tmp_path):
    answer = run_story(answer_of([str(tmp_path / "gone")]))
    why = {"linux": "No such file or directory."}.get(sys.platform, "")
    assert answer["error"].startswith(f"goss-supervisor cannot be run: {why}")


def test_a_profile_is_one_word_whatever_is_in_it(tmp_path):
    file = tmp_path / "words"
    run_story(answer_of([*program(WRITES + "json.dump(sys.argv[2:], file)"), str(file)], "a b; $(c) --json"))
    assert json.loads(file.read_text()) == ["a b; $(c) --json"]


def test_it_is_run_as_a_person_would_run_it_and_no_secret_is_among_the_words(tmp_path):
    """Whatever is secret is asked for at the control socket."""
    assert tuple(helpers._PROGRAM) == (sys.executable, "-I", "-m", "supervisor")
    assert LOAD.words == ("load", "--json")
    assert RELOAD.words == ("reload", "--json")
    assert LOOK_FOR_UPDATE.words == ("engine", "update", "--quiet", "--json")
    file = tmp_path / "seen"
    leads = "sys.platform == 'win32' or os.getsid(0) == os.getpid()"
    seen = f"json.dump([{leads}, sys.stdin.read(), os.environ[{HELPER_VARIABLE!r}]], file)"
    run_story(answer_of([*program(WRITES + seen), str(file)]))
    assert json.loads(file.read_text()) == [True, "", "1"]


def test_an_error_of_the_real_program_is_json(tmp_path):
    """No daemon runs here, which the helper is told as any client."""
    env = {"GOSS_SUPERVISOR_HOME": str(tmp_path), HELPER_VARIABLE: "1", "PATH": ""}
    words = [*helpers._PROGRAM, *LOAD.words, "demo"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60)
    assert "No goss-supervisor daemon is running here" in why_not(json.loads(done.stdout))
    assert done.returncode == 3


LIVES = program(
    "import os, sys, time; from pathlib import Path\n"
    "new = Path(sys.argv[1] + '.new'); new.write_text(str(os.getpid())); new.rename(sys.argv[1])\n"
    "while True: time.sleep(3600)"
)


@pytest.mark.parametrize(("helper", "lives_on"), [(LOAD, True), (RELOAD, False)])
def test_a_load_outlives_the_daemon_and_a_reload_does_not(tmp_path, monkeypatch, helper, lives_on):
    """A load that has begun asks the daemon, and hears from it; a reload may be downloading."""
    pid = tmp_path / "pid"
    children, launch = [], Helper._launch

    def noted(*args):
        children.append(launch(*args))
        return children[0]

    monkeypatch.setattr(Helper, "_launch", noted)

    async def story():
        running = asyncio.create_task(replace(helper, words=()).run(program=[*LIVES, str(pid)]))
        await until(pid.exists)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run_story(story())
    with children[0] as child:
        assert (child.poll() is None) is lives_on
        child.kill()


# --- reloads


class Reloading:
    """Reloads with what they tell; each waits until it is let go."""

    def __init__(self, *answers):
        self.told: list[str] = []
        self.answers = list(answers)
        self.tasks: list[asyncio.Task] = []
        self.reloads = Reloads(
            lambda: self.told.append("begins"), lambda: self.told.append("over"), self.begin, self.run
        )

    def begin(self, work):
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    async def run(self):
        self.told.append("reload")
        await asyncio.sleep(0)
        return self.answers.pop(0) if self.answers else {"outcome": {"result": "unchanged"}}


def test_reloads_follow_each_other_and_a_storm_is_two():
    """A profile may have been read before it was changed, so what was asked for meanwhile is done once more."""

    async def story():
        it = Reloading()
        for _ in range(10):
            it.reloads.ask()
        await asyncio.sleep(0)  # the first is on its way
        for _ in range(10):
            it.reloads.ask()
        await it.tasks[0]
        assert it.told == ["begins", "reload", "reload", "over"]
        it.reloads.ask()
        await it.tasks[1]
        assert it.told[4:] == ["begins", "reload", "over"]

    run_story(story())


def test_a_reload_that_failed_is_over_and_its_reason_is_in_the_log(caplog):
    async def story():
        it = Reloading({"error": "p.yaml:3: wrong", "hint": ""})
        it.reloads.ask()
        await it.tasks[0]
        assert it.told[-1] == "over"

    run_story(story())
    assert "the reload failed: p.yaml:3: wrong" in caplog.text
