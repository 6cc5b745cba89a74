"""A switch that a client's request asks for: carried out by a program, and its end told in one sentence."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from supervisor.daemon import switching
from supervisor.daemon.switching import Switching

from ..fakes.launching import BOUND_SECONDS, program, until
from ..fakes.loops import run_story

pytestmark = pytest.mark.usefixtures("each_loop")

WRITES = "import json, os, sys; file = open(sys.argv[1], 'w'); "


async def end_of(command, profile="other"):
    """What the switch to this profile came to."""
    told: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
    it = Switching(lambda *said: told.set_result(said), command)
    it.begin(profile)
    async with asyncio.timeout(BOUND_SECONDS):
        return await told


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(switching, "LOOK_SECONDS", 0.005)


def test_a_switch_that_came_about_has_nothing_to_say():
    quiet = program("import sys; print('ready'); print('engine: x', file=sys.stderr)")
    assert run_story(end_of(quiet)) == ("other", "")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("engine: x\\nerror: no model\\nhint: make one\\n", "no model hint: make one"),
        ("warning: an error: of old\\nerror: It died:\\n  | tail\\n", "It died: | tail"),
        (
            "error: It failed: error: bad --x\\n  | error: bad --x\\n",
            "It failed: error: bad --x | error: bad --x",
        ),
        ("Killed\\n", "it ended with 3"),
        ("", "it ended with 3"),
        ("error: " + "x" * 10_000, "x" * 2000),
    ],
)
def test_why_it_failed_is_told_with_what_to_do_and_without_what_was_said_on_the_way(said, why):
    failing = program(f"import sys; sys.stderr.write('{said}'); sys.exit(3)")
    assert run_story(end_of(failing)) == ("other", why)


def test_what_is_no_text_harms_nobody():
    failing = program("import os, sys; os.write(2, b'error: \\xff\\xfe'); sys.exit(1)")
    assert run_story(end_of(failing)) == ("other", "\ufffd\ufffd")


def test_a_death_by_a_signal_is_told():
    assert run_story(end_of(program("import os; os.kill(os.getpid(), 9)"))) == ("other", "it ended with -9")


def test_a_program_that_cannot_be_run_is_named(tmp_path):
    profile, why = run_story(end_of([str(tmp_path / "gone")]))
    assert (profile, why) == ("other", "goss-supervisor switch cannot be run: No such file or directory")


def test_the_profile_is_one_word_whatever_is_in_it(tmp_path):
    file = tmp_path / "words"
    run_story(end_of([*program(WRITES + "json.dump(sys.argv[2:], file)"), str(file)], "a b; $(c) --json"))
    assert json.loads(file.read_text()) == ["a b; $(c) --json"]


def test_it_is_run_as_a_person_would_run_it_and_no_secret_is_among_the_words(tmp_path):
    """Whatever is secret is asked for at the control socket."""
    *words, by_request = switching._COMMAND
    assert (Path(words[0]), words[1:], by_request) == (
        Path(sys.executable),
        ["-P", "-m", "supervisor", "switch"],
        "--by-request",
    )
    file = tmp_path / "seen"
    seen = "json.dump([os.getsid(0) == os.getpid(), sys.stdin.read()], file)"
    run_story(end_of([*program(WRITES + seen), str(file)]))
    is_leader, given = json.loads(file.read_text())
    assert (is_leader, given) == (True, "")


def test_the_loop_goes_on_meanwhile_and_a_switch_outlives_the_daemon(tmp_path, monkeypatch):
    """Who has begun asks the daemon, and hears from it; nobody is left behind when the daemon ends."""
    pid = tmp_path / "pid"
    lives = program(
        "import os, sys, time; from pathlib import Path\n"
        "new = Path(sys.argv[1] + '.new'); new.write_text(str(os.getpid())); new.rename(sys.argv[1])\n"
        "while True: time.sleep(3600)"
    )
    told, children, launch = [], [], switching._launch

    def noted(*args):
        children.append(launch(*args))
        return children[0]

    monkeypatch.setattr(switching, "_launch", noted)

    async def story():
        it = Switching(lambda *said: told.append(said), [*lives, str(pid)])
        it.begin("other")
        await until(pid.exists)
        it.close()

    run_story(story())
    with children[0] as child:
        assert (child.poll(), told) == (None, [])
        child.kill()
