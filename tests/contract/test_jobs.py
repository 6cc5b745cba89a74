"""Jobs of the daemon: real small programs, what their clients see of them, and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest

from supervisor.cli import output
from supervisor.daemon import jobs as of_jobs
from supervisor.daemon.job_commands import CheckedCommand
from supervisor.daemon.jobs import MOST_JOBS, MOST_KEPT, MOST_READS, Jobs, last_line
from supervisor.errors import NotFound, SupervisorError
from supervisor.home.places import HELPER_VARIABLE

from ..fakes.launching import BOUND_SECONDS, PYTHON, until, wait_until_gone
from ..fakes.loops import run_story

pytestmark = [
    pytest.mark.usefixtures("each_loop"),
    pytest.mark.skipif(sys.platform == "win32", reason="Ctrl+C is another signal there"),
]


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(of_jobs, "LOOK_SECONDS", 0.005)
    monkeypatch.setattr(of_jobs, "REPEAT_SECONDS", 0.05)


class Told:
    """Jobs that run Python code; it counts the changes that are told."""

    def __init__(self):
        self.changes = 0
        self.jobs = Jobs(self.note, PYTHON)

    def note(self):
        self.changes += 1

    async def run(self, code, name="pull", **more):
        return [each async for each in self.follow(code, name, **more)]

    def follow(self, code, name="pull", **more):
        return self.jobs.run(CheckedCommand(name, ("-c", code), **more))


def end_of(code, **more):
    """The last line about a job with this code."""

    async def story():
        async with asyncio.timeout(BOUND_SECONDS):
            return (await Told().run(code, **more))[-1]

    return run_story(story())


def says(*objects, code=0):
    lines = "".join(json.dumps(each) + "\n" for each in objects)
    return f"import sys; sys.stdout.write({lines!r}); sys.exit({code})"


GATE = "import sys, time; from pathlib import Path\ndef wait(name):\n  while not Path(name).exists(): time.sleep(0.005)\n"
LIVES = "import os, sys, time; os.write(2, f'lives {os.getpid()}\\n'.encode())\nwhile True: time.sleep(60)"


def test_its_progress_comes_line_by_line_and_its_last_object_at_the_end(tmp_path):
    code = GATE + (
        f"print('first', file=sys.stderr, flush=True); wait({str(tmp_path / 'go')!r})\n"
        "print('second', file=sys.stderr); print('not JSON'); print('{\"a\": 1}'); print('{\"b\": 2}')"
    )

    async def story():
        told, seen = Told(), []
        async with asyncio.timeout(BOUND_SECONDS):
            async for line in told.follow(code):
                seen.append(line)
                if line["job"]["line"] == "first":
                    assert told.jobs.listed(results=True) == [line["job"]]
                    (tmp_path / "go").touch()
        last = seen[-1]
        assert all(each["again_seconds"] for each in seen[:-1])
        assert last["final"]
        assert last["result"] == last["job"]["result"] == {"b": 2}
        job = last["job"]
        assert (job["id"], job["command"], job["line"], job["exit_code"]) == (1, "pull", "second", 0)
        assert (job["error"], job["hint"], job["superseded"]) == ("", "", False)
        assert job["since"] <= job["ended"]
        assert told.jobs.listed(results=True) == [job]
        assert told.jobs.listed(results=False) == [{**job, "result": None}]
        assert told.changes >= 3

    run_story(story())


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (says({"error": "no model", "hint": "make one", "exit_code": 5}, code=5), (5, "no model", "make one", False)),
        (says({"tag": "b1"}, {"error": "slower", "hint": ""}, code=10), (10, "slower", "", False)),
        (says({"error": "over", "hint": "status"}, code=12), (12, "over", "status", True)),
        (says({"outcome": {"result": "superseded"}}, {"error": "by a stop", "hint": ""}, code=1), (1, "by a stop", "", True)),
        (says({"outcome": {"result": "degraded"}}, code=1), (1, "", "", False)),
        ("import sys; print('Error: no such option', file=sys.stderr); sys.exit(2)", (2, "Error: no such option", "", False)),
        ("import os; os.kill(os.getpid(), 9)", (-9, "", "", False)),
    ],
)  # fmt: skip
def test_what_went_wrong_is_told_as_the_program_says_it(code, told):
    job = end_of(code)["job"]
    error = told[1] or (f"{job['words']} ended with -9." if told[0] == -9 else "")
    assert (job["exit_code"], job["error"], job["hint"], job["superseded"]) == (told[0], error, *told[2:])


def test_an_outcome_is_kept_without_the_status_and_a_large_result_only_for_who_follows():
    last = end_of(says({"outcome": {"result": "ready"}, "servers": [1]}))
    assert last["result"]["servers"] == [1]
    assert last["job"]["result"] == {"outcome": {"result": "ready"}}
    last = end_of(says({"text": "x" * 70_000}))
    assert len(last["result"]["text"]) == 70_000
    assert last["job"]["result"] is None


def test_a_program_that_cannot_be_run_is_told_as_an_error(tmp_path):
    async def story():
        jobs = Jobs(lambda: None, [str(tmp_path / "gone")])
        return [each async for each in jobs.run(CheckedCommand("pull", ("model", "pull")))][-1]["job"]

    job = run_story(story())
    assert job["error"] == "model pull cannot be run: No such file or directory."
    assert job["ended"]


def test_it_is_a_helper_in_a_session_of_its_own_with_the_text_as_its_input():
    code = f"import json, os, sys; print(json.dumps([os.environ[{HELPER_VARIABLE!r}], os.getsid(0) == os.getpid(), sys.stdin.read()]).join(['{{\"a\":', '}}']))"
    assert end_of(code, stdin="model: demo\n")["result"] == {"a": ["job", True, "model: demo\n"]}


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (b"one\ntwo\n", "two"),
        (b"one\ntwo", "two"),
        (b"10 %\r20 %\r\x1b[2K 30 %", "30 %"),
        (b"done\n\r\x1b[2K\r\n  \n", "done"),
        (b"\x1b[31mred\x1b[0m \x07\x00bell\xff\n", "red bell\N{REPLACEMENT CHARACTER}"),
        ("gr\u00fc\u00df\u202e Gott\n".encode(), "gr\u00fc\u00df Gott"),
        (b"x" * 1000, "x" * 299 + "\N{HORIZONTAL ELLIPSIS}"),
        (b"", ""),
    ],
)
def test_the_last_line_is_plain_and_bounded(said, line):
    assert last_line(said) == line


async def pid_of(told, number):
    """Of the job that runs `LIVES`, once it says it."""

    def line():
        return next((each["line"] for each in told.jobs.listed(results=False) if each["id"] == number), "")

    await until(lambda: line().startswith("lives"))
    return int(line().split()[1])


def test_it_goes_on_without_its_client_and_another_one_finds_it():
    async def story():
        told = Told()
        follows = told.follow(LIVES)
        await anext(follows)
        pid = await pid_of(told, 1)
        await follows.aclose()
        os.kill(pid, 0)
        again = told.follow(LIVES)
        assert (await anext(again))["job"]["id"] == 1  # the same command is not run twice
        told.jobs.cancel(1)
        assert [each async for each in again][-1]["job"]["error"] == "It was cancelled."
        assert wait_until_gone(pid)
        assert (await anext(told.follow(LIVES)))["job"]["id"] == 2
        await told.jobs.finish()

    run_story(story())


def test_one_that_only_reads_is_not_listed_and_ends_with_its_client():
    async def story():
        told = Told()
        follows = told.follow(LIVES, "detect", is_job=False)
        lines = [await anext(follows)]
        while not lines[-1]["job"]["line"]:
            lines.append(await anext(follows))
        assert told.jobs.listed(results=True) == []
        await follows.aclose()
        pid = int(lines[-1]["job"]["line"].split()[1])
        assert await asyncio.to_thread(wait_until_gone, pid)
        assert told.changes == 0
        assert told.jobs.listed(results=True) == []

    run_story(story())


STUBBORN = "import signal; signal.signal(signal.SIGINT, lambda *_: os.write(2, b'no\\n'))\n"


def test_cancel_is_ctrl_c_and_the_second_one_kills():
    async def story():
        told = Told()
        follows = told.follow(STUBBORN + LIVES)
        await anext(follows)
        pid = await pid_of(told, 1)
        assert told.jobs.cancel(1)["ended"] is None
        async for line in follows:
            if line["job"]["line"] == "no":
                told.jobs.cancel(1)
        assert (line["job"]["exit_code"], line["job"]["error"]) == (-signal.SIGKILL, "It was cancelled.")
        assert wait_until_gone(pid)
        assert told.jobs.cancel(1) == line["job"]  # it has ended, and that is no error
        with pytest.raises(NotFound, match="no job 7"):
            told.jobs.cancel(7)

    run_story(story())


@pytest.mark.parametrize("stubborn", ["", STUBBORN])
def test_at_the_daemon_s_end_each_gets_ctrl_c_and_who_stays_is_killed(monkeypatch, stubborn):
    monkeypatch.setattr(of_jobs, "GRACE_SECONDS", 0.05 if stubborn else BOUND_SECONDS)

    async def story():
        told = Told()
        await anext(told.follow(stubborn + LIVES))
        pid = await pid_of(told, 1)
        told.jobs.stop()
        await told.jobs.finish()
        assert wait_until_gone(pid)
        with pytest.raises(SupervisorError, match="is being stopped"):
            await anext(told.follow(LIVES))

    run_story(story())


@pytest.mark.parametrize(("most", "is_job"), [(MOST_JOBS, True), (MOST_READS, False)])
def test_only_so_many_run_at_once_and_the_next_one_is_refused_with_their_names(most, is_job):
    async def story():
        told = Told()
        follows = [told.follow(f"{LIVES} # {number}", "x", is_job=is_job) for number in range(most)]
        for each in follows:
            await anext(each)
        with pytest.raises(SupervisorError, match=f"{most} commands are running already"):
            await anext(told.follow(LIVES, is_job=is_job))
        await anext(told.follow(LIVES, is_job=not is_job))  # these are counted on their own
        await told.jobs.finish()

    run_story(story())


def test_of_those_that_have_ended_the_last_are_kept(monkeypatch):
    monkeypatch.setattr(of_jobs, "MOST_KEPT", 2)
    assert MOST_KEPT == 50

    async def story():
        told = Told()
        for number in range(3):
            await told.run(says({"number": number}))
        assert [each["result"]["number"] for each in told.jobs.listed(results=True)] == [1, 2]

    run_story(story())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_job_dies_with_a_daemon_that_is_killed():
    code = (
        "import asyncio, sys\nfrom supervisor.daemon.jobs import Jobs\n"
        "from supervisor.daemon.job_commands import CheckedCommand\n"
        "async def main():\n"
        f"  async for each in Jobs(lambda: None, [sys.executable]).run(CheckedCommand('pull', ('-c', {LIVES!r}))):\n"
        "    print(each['job']['line'], flush=True)\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as daemon:
        pid = next(int(line.split()[1]) for line in daemon.stdout if line.startswith("lives"))
        daemon.kill()
    assert wait_until_gone(pid)


@pytest.mark.parametrize(("helper", "lines"), [("job", 10), ("1", 1), (None, 1)])
def test_the_progress_of_a_job_is_said_each_second_since_somebody_watches(monkeypatch, capsys, helper, lines):
    if helper is None:
        monkeypatch.delenv(HELPER_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(HELPER_VARIABLE, helper)
    clock = iter(range(100, 200))
    monkeypatch.setattr(output.time, "monotonic", lambda: next(clock))
    progress = output.StderrProgress()
    for percent in range(10):
        progress.update(percent / 100)
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_a_program_of_ours_says_its_errors_to_a_job():
    done = subprocess.run(
        [*of_jobs._PROGRAM, "profile", "show", "--json", "--", "no-such-profile"],
        env={"PATH": "", HELPER_VARIABLE: "job"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "There is no profile no-such-profile" in json.loads(done.stdout)["error"]
