"""What a person sees of `service …` where it does not go smoothly, and where a manager does not wait."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.cli import service
from supervisor.cli.app import main
from supervisor.cli.service import until_ready, with_home
from supervisor.errors import StartFailed
from supervisor.paths import Paths
from supervisor.service.contract import NOT_INSTALLED, Service, ServiceRequest

from ..fakes.binaries import script
from ..fakes.launching import until
from .test_service_cli import PATIENCE, Machine, machine  # noqa: F401 - a fixture

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="systemd")
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="needs a Unix socket and a shell")

INSTALL = ("install", "--user", "--profile", "mine")


@contextmanager
def begun(on: Machine, *words: str):
    """As in a terminal of its own, which sends Ctrl+C to all that runs there."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "supervisor", "service", *words],
        env={
            "PATH": f"{on.played.folder}:/usr/bin:/bin",
            "HOME": str(on.root / "nobody"),
            "XDG_CONFIG_HOME": str(on.root / "config"),
            "GOSS_SUPERVISOR_HOME": str(on.home),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate(timeout=PATIENCE)


@linux_only
@pytest.mark.parametrize("why", ["another's unit", "no bus", "a container"])
def test_what_cannot_be_installed_is_found_out_before_anything_is_prepared(machine, why):  # noqa: F811
    machine.unit.parent.mkdir(parents=True)
    if why == "another's unit":
        machine.unit.write_text("[Service]\n")
    else:
        machine.played.say(running="" if why == "no bus" else "offline")
    (machine.home / "config" / "profiles" / "mine.yaml").write_text(
        "extends: demo\nengine: {source: path, path: /no/such/engine}\n"  # preparing would end with 5
    )
    failed = machine.run(*INSTALL, code=1)
    assert "/no/such/engine" not in failed.stderr
    assert failed.stdout == ""
    assert machine.played.changes == []


@linux_only
def test_who_leaves_an_install_knows_what_was_done_and_how_to_undo_it(machine):  # noqa: F811
    machine.played.say(hangs="start")
    started = f"systemctl --user start {machine.unit.name}"
    with begun(machine, *INSTALL) as child:
        said = [child.stdout.readline(), child.stdout.readline(), child.stdout.readline()]
        asyncio.run(until(lambda: started in machine.played.changes))
        os.killpg(child.pid, signal.SIGINT)
        out, err = child.communicate(timeout=PATIENCE)
    assert [line.split()[0] for line in said] == ["wrote", "enabled", "enabled"]
    assert out == ""
    assert "to undo this: goss-supervisor service uninstall --user" in err
    assert "the service manager carries on: goss-supervisor service status --user" in err
    assert child.returncode == 130


@linux_only
def test_a_start_that_fails_says_what_was_done_before_and_that_systemd_goes_on(machine):  # noqa: F811
    why = "Job for goss-supervisor.service failed because the control process exited with error code."
    machine.played.say(fails={"start": why}, after_failing={"active": "activating", "sub": "auto-restart"})
    failed = machine.run(*INSTALL, code=10)
    assert f"wrote {machine.unit}" in failed.stdout
    assert "to undo this: goss-supervisor service uninstall --user" in failed.stderr
    assert "systemd goes on trying" in failed.stderr
    told = machine.run("status", "--user", code=3).stdout
    assert "down, to be tried again: activating (auto-restart)" in told


@linux_only
def test_missing_rights_end_with_11(machine):  # noqa: F811
    machine.run(*INSTALL)
    machine.played.say(fails={"stop": "Failed to stop goss-supervisor.service: Access denied"})
    assert "Access denied" in machine.run("stop", "--user", code=11).stderr


@linux_only
def test_status_shows_the_daemons_own_line_and_when_it_starts(machine):  # noqa: F811
    machine.run(*INSTALL)
    machine.played.say(text="mine: failed (6 restarts in 10 minutes)")
    rows = dict(line.split("  ", 1) for line in machine.run("status", "--user").stdout.splitlines())
    rows = {name.strip(): text.strip() for name, text in rows.items()}
    assert rows["says"] == "mine: failed (6 restarts in 10 minutes)"
    assert rows["starts by itself"] == "at boot"
    assert json.loads(machine.run("status", "--user", "--json").stdout)["starts_by_itself"] == "at boot"


@linux_only
def test_a_service_the_file_of_which_was_deleted_is_removed(machine):  # noqa: F811
    machine.run(*INSTALL)
    machine.unit.unlink()
    told = machine.run("status", "--user", code=5).stdout
    assert "active (running)" in told
    assert "its unit file is gone" in told
    machine.run("uninstall", "--user")
    assert machine.played.state["active"] == "inactive"
    assert "not installed" in machine.run("status", "--user", code=5).stdout


@linux_only
def test_the_journal_takes_the_place_of_this_program(machine):  # noqa: F811
    machine.run(*INSTALL)
    script(machine.played.folder / "journalctl", "echo $$\ngrep ^SigIgn: /proc/$$/status\n")
    with begun(machine, "logs", "--user") as child:
        out, _ = child.communicate(timeout=PATIENCE)
    pid, ignored = out.splitlines()
    assert int(pid) == child.pid
    assert not int(ignored.split()[1], 16) & (1 << (signal.SIGPIPE - 1))  # `| head` ends it quietly


@linux_only
def test_there_is_no_log_of_what_is_not_installed(machine):  # noqa: F811
    assert "is not there" in machine.run("logs", "--user", code=5).stderr


# --- what to put before a command


def request(data: str, user: str = "") -> ServiceRequest:
    return ServiceRequest(
        Service("system"),
        ("/bin/true",),
        ("/bin/true",),
        1.0,
        profile="demo",
        logs=Path("/"),
        user=user,
        data=Path(data),
    )


@posix_only
def test_a_shell_takes_the_home_that_is_printed(monkeypatch):
    monkeypatch.delenv("SUDO_USER", raising=False)
    home = "/Library/Application Support/goss-supervisor's"
    line = f"{with_home(request(home), 'darwin')} printenv GOSS_SUPERVISOR_HOME"
    assert subprocess.run(["sh", "-c", line], capture_output=True, text=True).stdout == f"{home}\n"
    assert with_home(request("/srv/goss", "ann"), "linux") == "sudo -u ann env GOSS_SUPERVISOR_HOME=/srv/goss"


def test_powershell_has_its_own_way():
    line = with_home(request("D:\\ada's goss"), "win32")
    assert line == "$env:GOSS_SUPERVISOR_HOME = 'D:\\ada''s goss';"


# --- a manager that does not wait

LOADING = {"status": {"server": {"profile": "demo", "state": "loading", "why": ""}}}
SERVER = {"profile": "demo", "state": "ready", "why": "", "url": "http://127.0.0.1:8080"}


def outcome(result: str, why: str = "") -> dict:
    said = {"result": result, "why": why, "profile": "demo", "hint": ""}
    return {"outcome": said, "status": {"server": SERVER}, "final": True}


@contextmanager
def played_daemon(paths: Paths, *conversations: list[dict]):
    """Answers each connection with its messages, and hangs up."""
    paths.runtime.mkdir(parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(paths.runtime / "control.sock"))
    listener.listen()
    listener.settimeout(PATIENCE)

    def serve() -> None:
        for messages in conversations:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as asked:
                assert json.loads(asked.readline())["op"] == "wait"
                connection.sendall("".join(f"{json.dumps(each)}\n" for each in messages).encode())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join(PATIENCE)
        listener.close()


@posix_only
def test_the_daemon_is_asked_until_it_is_ready(tmp_path, capsys):
    with played_daemon(Paths.under(tmp_path), [LOADING, outcome("ready")]):
        until_ready(Paths.under(tmp_path), "user")
    told = capsys.readouterr()
    assert told.out == "demo is ready at http://127.0.0.1:8080\n"
    assert "demo: loading" in told.err


@posix_only
def test_a_daemon_that_appears_late_or_is_started_again_is_waited_for(tmp_path, monkeypatch, capsys):
    paths = Paths.under(tmp_path)
    appears = iter([played_daemon(paths, [LOADING], [outcome("ready")])])
    open_ones = []

    def look(_seconds: float) -> None:
        for daemon in appears:
            daemon.__enter__()
            open_ones.append(daemon)

    monkeypatch.setattr(service.time, "sleep", look)
    until_ready(paths, "user")
    open_ones[0].__exit__(None, None, None)
    assert "demo is ready" in capsys.readouterr().out


@posix_only
def test_a_start_that_fails_is_an_error_there_too(tmp_path):
    with (
        played_daemon(Paths.under(tmp_path), [outcome("failed", "the port is taken")]),
        pytest.raises(StartFailed, match="the port is taken"),
    ):
        until_ready(Paths.under(tmp_path), "user")


@posix_only
def test_a_daemon_that_never_comes_is_not_waited_for_for_ever(tmp_path):
    with pytest.raises(StartFailed, match="no daemon") as told:
        until_ready(Paths.under(tmp_path), "system", appears_seconds=0.0)
    assert "service logs --system" in told.value.hint


class Impatient:
    """A manager that returns at once."""

    waits = False

    def start(self, service):
        yield f"started {service.name}"

    restart = start

    def status(self, service):
        return NOT_INSTALLED


@posix_only
@pytest.mark.parametrize("verb", ["start", "restart"])
def test_where_the_manager_returns_at_once_the_command_does_not(tmp_path, monkeypatch, capsys, verb):
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path))
    monkeypatch.setattr("supervisor.cli.service.chosen", lambda _platform: Impatient())
    with played_daemon(Paths.under(tmp_path), [LOADING, outcome("ready")]):
        assert main(["service", verb, "--user"]) == 0
    assert capsys.readouterr().out == "started goss-supervisor\ndemo is ready at http://127.0.0.1:8080\n"
