"""
A service of the system under real systemd: installed, booted, killed, frozen, reloaded, stopped, removed.

All on one machine, in a second or two each.  A drop-in of the test shortens the watchdog and the pause
before a restart, and keeps what `status` says at the moment of READY: ExecStartPost= runs right then.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from supervisor.model.demo import DEMO_ANSWER

from .conftest import BUILT
from .systemd_machine import HOME, UNIT, Machine, goss, until, why_not

PROJECT = Path(__file__).parents[2]
PROFILE = """
extends: demo
engine: {{source: path, path: "{engine}"}}
server: {{ctx-size: {context}}}
stop: {{grace: {grace}s, insist: 1s}}
"""
DROP_IN = f"""
[Service]
WatchdogSec=5
RestartSec=100ms
LimitCORE=0
ExecStartPost=/bin/sh -c '{shlex.join(goss("status", "--json"))} > {HOME}/at-ready.json'
"""
INSTALL = ("service", "install", "--system", "--profile", "night", "--run-as", "root")
START_LIMIT = 5  # as in the unit


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    if reason := why_not():
        pytest.skip(reason)
    if BUILT not in os.environ:
        pytest.skip(f"{BUILT} is not set: run bin/test")
    programs = (PROJECT, Path(sys.prefix), Path(sys.base_prefix), Path(os.environ[BUILT]).parent)
    made = Machine(tmp_path_factory.mktemp("machine"), programs)
    (made.root / "test" / f"{UNIT}.d").mkdir(parents=True)
    kept = "".join(f"BindReadOnlyPaths={path}\n" for path in made.kept)  # PrivateTmp= would hide them
    (made.root / "test" / f"{UNIT}.d" / "test.conf").write_text(DROP_IN + kept)
    made.home.mkdir(parents=True, mode=0o700)
    try:
        made.boot()
        yield made
    finally:
        made.power_off()


@pytest.fixture
def service(machine):
    """The machine with the service installed, as if it had never failed, and up."""
    write_profile(machine)
    machine.goss(*INSTALL)
    machine.run("systemctl", "reset-failed", UNIT)
    assert machine.show("ActiveState") == "active"
    return machine


def write_profile(machine: Machine, *, context: int = 4096, grace: int = 20, engine: str = "") -> None:
    file = machine.home / "config" / "profiles" / "night.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(PROFILE.format(engine=engine or os.environ[BUILT], context=context, grace=grace))


def answers(machine: Machine) -> bool:
    return machine.goss("ask", "What are you?").stdout.strip() == DEMO_ANSWER


def at_ready(machine: Machine) -> dict:
    """What `status --json` said when systemd heard READY."""
    return json.loads((machine.home / "at-ready.json").read_text())


def back_after(machine: Machine, old_pid: str) -> dict[str, str]:
    """What systemd shows when the service is up again, as another process."""

    def is_back() -> dict[str, str]:
        now = machine.shows("ActiveState", "MainPID", "NRestarts")
        return now if now["ActiveState"] == "active" and now["MainPID"] != old_pid else {}

    return until(is_back)


def ask_a_frozen_engine(machine: Machine):
    """A question under way that no byte of an answer has come to; and the engine's pid."""
    engine = machine.status()["server"]["pid"]
    machine.kill("STOP", engine)
    asked = machine.begin(*goss("ask", "What are you?"))
    until(lambda: machine.status()["gateway"]["requests_under_way"] == 1)
    return asked, engine


# From the installation to the next boot


def test_install_returns_when_the_model_answers(service):
    assert at_ready(service)["server"]["state"] == "ready"
    assert answers(service)
    told = service.goss("service", "status", "--system").stdout
    assert re.search(r"state +active \(running\)", told)
    assert re.search(r"at boot +yes", told)


def test_installed_again_nothing_changes(service):
    before = service.shows("MainPID", "ActiveEnterTimestampMonotonic")
    assert "nothing to do" in service.goss(*INSTALL).stdout
    assert service.shows("MainPID", "ActiveEnterTimestampMonotonic") == before


def test_it_starts_at_boot_and_is_ready_only_when_the_model_answers(service):
    (service.home / "at-ready.json").unlink()
    service.power_off()
    service.boot()
    assert service.show("ActiveState") == "active"
    assert at_ready(service)["server"]["state"] == "ready"
    assert answers(service)


# What dies or hangs comes back


def test_a_killed_engine_is_the_daemons_matter_and_the_unit_stays_up(service):
    before = service.shows("MainPID", "ActiveEnterTimestampMonotonic")
    engine = service.status()["server"]["pid"]
    service.kill("KILL", engine)
    until(lambda: service.status()["server"]["restarts"] == 1)
    until(lambda: service.status()["server"]["state"] == "ready")
    assert service.shows("MainPID", "ActiveEnterTimestampMonotonic") == before
    assert service.show("NRestarts") == "0"
    assert answers(service)


def test_a_killed_daemon_comes_back_without_the_old_engine(service):
    pid = service.show("MainPID")
    service.kill("KILL", pid)
    assert back_after(service, pid)["NRestarts"] == "1"
    assert at_ready(service)["server"]["state"] == "ready"
    assert service.processes() == 2  # a daemon and its engine
    assert answers(service)


def test_a_daemon_that_hangs_is_ended_by_the_watchdog_and_comes_back(service):
    pid = service.show("MainPID")
    service.kill("STOP", pid)
    assert back_after(service, pid)["NRestarts"] == "1"
    assert service.processes() == 2
    assert answers(service)


# It is told to do something


def test_reload_returns_when_the_changed_profile_runs(service):
    pid, digest = service.show("MainPID"), service.status()["server"]["digest"]
    write_profile(service, context=2048)
    service.run("systemctl", "reload", UNIT)
    now = service.status()["server"]
    assert now["state"] == "ready"
    assert now["digest"] != digest
    assert service.shows("MainPID", "ActiveState") == {"MainPID": pid, "ActiveState": "active"}


def test_a_stop_lets_a_request_under_way_end(service):
    asked, engine = ask_a_frozen_engine(service)
    service.run("systemctl", "stop", "--no-block", UNIT)
    until(lambda: service.show("ActiveState") == "deactivating")
    service.kill("CONT", engine)
    answer, _ = asked.communicate(timeout=60)
    assert DEMO_ANSWER in answer
    until(lambda: service.show("ActiveState") == "inactive")
    assert service.show("Result") == "success"
    assert service.processes() == 0


def test_a_stop_cuts_what_does_not_end_and_leaves_nothing(service):
    write_profile(service, grace=1)
    service.goss(*INSTALL)
    asked, _ = ask_a_frozen_engine(service)
    service.goss("service", "stop", "--system")
    said, _ = asked.communicate(timeout=60)
    assert asked.returncode != 0
    assert "error:" in said
    assert service.show("Result") == "success"
    assert service.processes() == 0
    service.goss("service", "status", "--system", code=3)


# It fails


def test_a_wrong_profile_stays_down(service):
    (service.home / "config" / "profiles" / "night.yaml").write_text("extends: demo\nsever: {}\n")
    service.goss("service", "restart", "--system", code=10)
    wanted = {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0", "Result": "exit-code"}
    assert service.shows(*wanted) == wanted
    assert "ended with exit-code 78" in service.goss("service", "status", "--system", code=3).stdout
    write_profile(service)
    service.goss("service", "start", "--system")
    assert answers(service)


def test_what_fails_too_often_stays_down_until_a_person_starts_it(service):
    for _ in range(START_LIMIT):
        pid = service.show("MainPID")
        service.kill("KILL", pid)
        back_after(service, pid)
    service.kill("KILL", service.show("MainPID"))
    until(lambda: service.show("ActiveState") == "failed")
    assert service.processes() == 0
    service.goss("service", "start", "--system")
    assert answers(service)


# It goes


def test_uninstall_leaves_no_unit_no_link_and_no_process(service):
    service.goss("service", "uninstall", "--system")
    left = [path for path in (service.root / "units").rglob("*") if not path.is_dir()]
    assert left == []
    assert service.processes() == 0
    assert service.show("LoadState") == "not-found"
    assert Path(service.home / "config" / "profiles" / "night.yaml").exists()
    service.goss("service", "status", "--system", code=5)
