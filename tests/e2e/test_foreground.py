"""Under other supervisors, by the very texts that docs/service.md gives."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import PATIENCE, Home, is_free, until

PAGE = Path(__file__).parents[2] / "docs" / "service.md"
SECTION = "## Without a service manager of ours"
WRONG = "extends: demo\nserver:\n  ctx-sizes: 1\n"

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="the texts change the user: needs root"),
]


def texts(supervisor: str) -> list[str]:
    """The scripts of the page for one supervisor, in order."""
    page = PAGE.read_text(encoding="utf-8").partition(SECTION)[2]
    about = page.partition(f"\n**{supervisor}**")[2].partition("\n**")[0]
    return re.findall(r"```sh\n(.*?)```", about, re.DOTALL)


def fitted(text: str, **words: str) -> str:
    """With what is this machine's in place of the page's words, each of which has to be there."""
    for word, ours in words.items():
        theirs = PAGE_WORDS[word]
        assert theirs in text, f"{theirs!r} is no longer in docs/service.md"
        text = text.replace(theirs, ours)
    return text


PAGE_WORDS = {
    "home": "/var/lib/goss-supervisor",
    "profile": "--profile NAME",
    "chpst": "chpst -u goss-supervisor ",
    "setuidgid": "s6-setuidgid goss-supervisor ",
    "program": "/usr/local/bin/goss-supervisor",
    "user": "command_user=goss-supervisor",
    "owner": "--owner goss-supervisor",
    "log": "/var/log/goss-supervisor.log",
    "delay": "respawn_delay=10",
}


def needs(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


def script(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    file.chmod(0o755)
    return file


@pytest.fixture
def ours(built_home: Home, monkeypatch) -> Home:
    """A home with a profile of its own, and goss-supervisor on PATH."""
    engine = os.environ["GOSS_TEST_LLAMA_SERVER"]
    (built_home.root / "config").mkdir()
    settings = f"engine: {{source: path, path: {engine}}}\n"
    (built_home.root / "config" / "config.yaml").write_text(settings, encoding="utf-8")
    built_home.profile("ours", f"extends: demo\nlisten:\n  port: {built_home.port}\n")
    words = " ".join(f'"{word}"' for word in built_home.command())
    program = script(built_home.root / "bin" / "goss-supervisor", f'#!/bin/sh\nexec {words} "$@"\n')
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return built_home


def done(*words: str | Path) -> str:
    ran = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE * 2)
    assert ran.returncode == 0, f"{words}: {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout.strip()


def ready_pid(home: Home) -> int:
    """The daemon's, once its model is ready; 0 before."""
    told = home.status()
    ready = (told.get("server") or {}).get("state") == "ready"
    return int(told["daemon"]["pid"]) if ready else 0


def is_killed_and_comes_back(home: Home) -> None:
    first = ready_pid(home)
    assert first
    os.kill(first, signal.SIGKILL)
    until(lambda: ready_pid(home) not in {0, first}, "it does not come back")


# --- runit


@contextmanager
def runit(home: Home) -> Iterator[Path]:
    """Its service, with the log in a file beside it."""
    needs("runsv", "sv", "chpst")
    folder = home.root / "sv" / "goss-supervisor"
    run, finish = texts("runit")
    words = {"home": str(home.root), "chpst": f"chpst -u {getpass.getuser()} ", "profile": "--profile ours"}
    script(folder / "run", fitted(run, **words))
    script(folder / "finish", finish)
    with (folder.parent / "log").open("wb") as log:
        process = subprocess.Popen(["runsv", folder], stdout=log, stderr=log)
    try:
        until((folder / "supervise" / "ok").exists, "runsv does not begin")
        yield folder
    finally:
        process.send_signal(signal.SIGTERM)  # stops the service, and then itself
        assert process.wait(PATIENCE) == 0


def log_of(folder: Path) -> str:
    return (folder.parent / "log").read_text(encoding="utf-8", errors="replace")


def test_runit_runs_it_starts_it_again_and_stops_it(ours):
    with runit(ours) as folder:
        until(lambda: ready_pid(ours) != 0, "it is not ready")
        is_killed_and_comes_back(ours)
        done("sv", "-w", "60", "stop", folder)
        assert is_free(ours.port)
    assert log_of(folder).count("ours: ready at") == 2
    assert "ours: stopped" in log_of(folder)


def test_under_runit_a_wrong_profile_stays_down(ours):
    ours.profile("ours", WRONG)
    with runit(ours) as folder:
        until(lambda: "ours.yaml:3:3" in log_of(folder), "it does not say what is wrong")
        until(lambda: stays_down(done("sv", "status", folder)), "it is tried again")
    assert log_of(folder).count("ours.yaml:3:3") == 1


def stays_down(status: str) -> bool:
    """``down: …, normally up``; what is to be started again says ``want up``."""
    return status.startswith("down:") and "want up" not in status


# --- s6


@contextmanager
def s6(home: Home) -> Iterator[Path]:
    needs("s6-svscan", "s6-svwait", "s6-setuidgid")
    folder = home.root / "scan" / "goss-supervisor"
    run, finish = texts("s6")
    user = f"s6-setuidgid {getpass.getuser()} "
    script(folder / "run", fitted(run, home=str(home.root), setuidgid=user, profile="--profile ours"))
    script(folder / "finish", finish)
    (folder / "notification-fd").write_text("3\n")
    (folder / "timeout-kill").write_text("60000\n")
    with (home.root / "log").open("wb") as log:
        process = subprocess.Popen(["s6-svscan", folder.parent], stdout=log, stderr=log)
    try:
        until((folder / "supervise" / "status").exists, "s6-supervise does not begin")
        yield folder
    finally:
        done("s6-svscanctl", "-t", folder.parent)
        process.wait(PATIENCE)


def test_s6_is_told_when_it_is_ready_starts_it_again_and_stops_it(ours):
    with s6(ours) as folder:
        done("s6-svwait", "-U", "-t", "60000", folder)
        assert ours.status()["server"]["state"] == "ready", "s6 was told too early"
        is_killed_and_comes_back(ours)
        done("s6-svwait", "-U", "-t", "60000", folder)
        done("s6-svc", "-wD", "-T", "60000", "-d", folder)
        assert is_free(ours.port)


def test_under_s6_a_wrong_profile_stays_down(ours):
    ours.profile("ours", WRONG)
    with s6(ours) as folder:
        until(lambda: "ours.yaml:3:3" in (ours.root / "log").read_text(), "it does not say what is wrong")
        until(
            lambda: done("s6-svstat", "-o", "up,wantedup", folder) == "false false",
            "it is tried again",
        )
    assert (ours.root / "log").read_text().count("ours.yaml:3:3") == 1


# --- OpenRC


class OpenRC:
    """A shell in mounts of its own, where OpenRC believes that it has started this system."""

    def __init__(self, services: Path) -> None:
        self._shell = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        states = (
            "daemons exclusive failed hotplugged inactive options scheduled started starting stopping tmp"
        )
        folders = " ".join(f"/run/openrc/{state}" for state in (*states.split(), "wasinactive"))
        made = self.run(
            f"mount -t tmpfs tmpfs /run && mkdir -p /run/lock {folders} && echo default > /run/openrc/softlevel"
            f" && mount --bind '{services}' /etc/init.d"
        )
        if made[0]:
            self.close()
            pytest.skip(f"no mounts of our own here: {made[1]}")

    def run(self, command: str) -> tuple[int, str]:
        """Its exit code, and what it said."""
        self._shell.stdin.write(f'{command} </dev/null\necho "  ended with $?"\n')
        self._shell.stdin.flush()
        said = ""
        for line in self._shell.stdout:
            if line.startswith("  ended with "):
                return int(line.split()[-1]), said
            said += line
        return 1, said

    def service(self, word: str) -> str:
        code, said = self.run(f"timeout {PATIENCE:.0f} rc-service goss-supervisor {word}")
        assert code == 0, said
        return said

    def close(self) -> None:
        self._shell.communicate()


@pytest.fixture
def openrc(ours) -> Iterator[OpenRC]:
    needs("openrc-run", "supervise-daemon", "rc-service", "unshare")
    (text,) = texts("OpenRC")
    user = getpass.getuser()
    text = fitted(
        text,
        program=str(ours.root / "bin" / "goss-supervisor"),
        user=f"command_user={user}",
        owner=f"--owner {user}",
        log=str(ours.root / "error.log"),
        home=str(ours.root),
        profile="--profile ours",
        delay="respawn_delay=1",
    )
    init = OpenRC(script(ours.root / "init.d" / "goss-supervisor", text).parent)
    yield init
    init.run("timeout 60 rc-service goss-supervisor stop")
    init.close()


def test_openrc_runs_it_starts_it_again_and_stops_it(ours, openrc):
    openrc.service("start")
    until(lambda: ready_pid(ours) != 0, "it is not ready")
    assert "started" in openrc.service("status")
    is_killed_and_comes_back(ours)
    openrc.service("stop")
    assert is_free(ours.port)
    assert "ours: ready" not in (ours.root / "error.log").read_text(), "the log has no end there"


def test_openrc_gives_a_wrong_profile_up(ours, openrc):
    ours.profile("ours", WRONG)
    openrc.service("start")
    said = ours.root / "error.log"
    until(lambda: said.read_text().count("ours.yaml:3:3") == 6, "it is tried five times more")
    until(lambda: openrc.run("rc-service goss-supervisor status")[0] != 0, "it is not given up")
    assert said.read_text().count("ours.yaml:3:3") == 6, "it is tried once more, given up or not"
