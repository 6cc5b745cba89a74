"""systemd as a manager in states that are out of the ordinary, with its tools played."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.errors import NotFound, PermissionDenied, StartFailed, SupervisorError
from supervisor.service.contract import Service, ServiceRequest
from supervisor.service.systemctl import Systemd

from ..fakes import systemd_tools

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd")

SYSTEM, USER = Service("system"), Service("user")
UNIT = "goss-supervisor.service"
DENIED = "Failed to start goss-supervisor.service: Interactive authentication required."
NOT_READY = "Job for goss-supervisor.service failed because the control process exited with error code."


@pytest.fixture
def installed(manager, played) -> Systemd:
    tuple(manager.install(request(), force=False))
    played.forget()
    return manager


def request(service: Service = USER, **changes) -> ServiceRequest:
    user = "ann" if service.scope == "system" else ""
    made = ServiceRequest(
        service,
        ("/bin/true", "start"),
        ("/bin/true", "reload"),
        28.0,
        profile="demo",
        logs=Path("/tmp"),
        user=user,
    )
    return replace(made, **changes)


def unit_of(manager: Systemd) -> Path:
    return manager.user_folder / UNIT


# --- what runs, and what does not


def test_a_unit_in_its_restart_loop_does_not_run_and_is_started_at_once(installed, played):
    played.say(active="activating", sub="auto-restart", result="exit-code", code=1)
    now = installed.status(USER)
    assert (now.running, now.pid) == (False, None)
    assert now.state == "down, to be tried again: activating (auto-restart)"
    assert now.detail == "ended with exit-code 1"
    assert tuple(installed.install(request(), force=False)) == (f"{UNIT}: started, and ready",)
    # a start would wait until systemd tries again by itself
    assert played.changes == [f"systemctl --user reset-failed {UNIT}", f"systemctl --user restart {UNIT}"]


def test_a_unit_that_starts_is_starting_and_install_waits_for_it(installed, played):
    played.say(active="activating", text="demo: loading")
    now = installed.status(USER)
    assert (now.running, now.pid) == (True, 4711)
    assert (now.state, now.detail) == ("starting: activating (start)", "demo: loading")
    tuple(installed.install(request(), force=False))
    assert played.changes == [f"systemctl --user reset-failed {UNIT}", f"systemctl --user start {UNIT}"]


def test_a_service_that_needs_a_login_says_so(installed, played):
    assert installed.status(USER).starts_by_itself == "at boot"
    played.say(linger=False)
    assert installed.status(USER).starts_by_itself == "at login"
    played.say(enabled=False)
    assert installed.status(USER).starts_by_itself == "no"


def test_what_an_install_that_was_cut_short_wrote_is_read_by_systemd_and_runs_anew(installed, played):
    played.say(outdated=True)
    tuple(installed.install(request(), force=False))
    assert played.changes == [
        "systemctl --user daemon-reload",
        f"systemctl --user reset-failed {UNIT}",
        f"systemctl --user restart {UNIT}",
    ]


# --- what is found out before anything is done


def test_what_install_would_refuse_is_refused_before(manager, played):
    manager.refuse(request(), force=False)
    unit_of(manager).parent.mkdir(parents=True)
    unit_of(manager).write_text("[Service]\n")
    with pytest.raises(SupervisorError, match="not made by goss-supervisor"):
        manager.refuse(request(), force=False)
    manager.refuse(request(), force=True)
    played.say(running="offline")
    with pytest.raises(SupervisorError, match="does not run this system"):
        manager.refuse(request(), force=True)
    assert played.changes == []
    assert unit_of(manager).read_text() == "[Service]\n"


def test_a_folder_that_may_not_be_written_to_is_found_out_before(manager, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(PermissionDenied, match="may not be written"):
        manager.refuse(request(SYSTEM), force=False)


# --- errors


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
def test_missing_rights_are_told_from_other_failures(installed, played, verb):
    played.say(fails={verb: DENIED})
    with pytest.raises(PermissionDenied, match="authentication required"):
        tuple(getattr(installed, verb)(USER))
    played.say(fails={verb: "Failed to do it: Connection timed out"})
    with pytest.raises(SupervisorError, match="timed out") as failed:
        tuple(getattr(installed, verb)(USER))
    assert failed.value.exit_code == 1


def test_each_step_is_said_as_it_is_done_and_that_systemd_goes_on_trying(manager, played):
    played.say(
        linger=True,
        fails={"start": NOT_READY},
        after_failing={"active": "activating", "sub": "auto-restart"},
    )
    said: list[str] = []
    with pytest.raises(StartFailed, match="systemd goes on trying"):
        said.extend(manager.install(request(), force=False))
    assert said == [
        f"wrote {unit_of(manager)}",
        f"enabled {UNIT}: it starts with the next boot or login",
    ]


def test_what_stays_down_is_not_said_to_be_tried_again(installed, played):
    played.say(fails={"start": NOT_READY}, after_failing={"active": "failed"})
    with pytest.raises(StartFailed, match=r"did not become ready\.$"):
        tuple(installed.start(USER))


# --- without its file


def test_what_runs_on_without_its_file_is_told_and_removed(installed, played):
    unit_of(installed).unlink()
    played.say(file=str(unit_of(installed)))
    left = installed.status(USER)
    assert (left.installed, left.running, left.pid) == (False, True, 4711)
    assert "service uninstall --user" in left.detail
    assert f"stopped and disabled {UNIT}" in tuple(installed.uninstall(USER, force=False))
    assert played.changes == [
        f"systemctl --user disable --now {UNIT}",
        "systemctl --user daemon-reload",
        f"systemctl --user reset-failed {UNIT}",
    ]
    assert installed.status(USER).state == "not installed"
    assert "nothing to remove" in next(installed.uninstall(USER, force=False))


def test_an_uninstall_that_was_cut_before_systemd_heard_of_it_is_finished(installed, played):
    unit_of(installed).unlink()
    played.say(active="inactive", enabled=False, load="loaded", file=str(unit_of(installed)))
    tuple(installed.uninstall(USER, force=False))
    assert "systemctl --user daemon-reload" in played.changes


def test_a_link_that_is_left_is_removed_without_stopping_what_systemd_does_not_know(manager, played):
    wants = manager.user_folder / "default.target.wants"
    wants.mkdir(parents=True)
    (wants / UNIT).symlink_to(unit_of(manager))
    tuple(manager.uninstall(USER, force=False))
    assert played.changes[0] == f"systemctl --user disable {UNIT}"


def test_a_unit_of_that_name_from_elsewhere_is_not_touched(manager, played):
    played.say(active="active", file="/usr/lib/systemd/user/goss-supervisor.service")
    assert manager.status(USER).state == "not installed"
    assert "nothing to remove" in next(manager.uninstall(USER, force=False))
    assert played.changes == []


def test_without_a_manager_what_has_no_file_is_not_installed(manager, played):
    played.say(running="", fails={"show": systemd_tools.NO_BUS})
    assert manager.status(USER).state == "not installed"
    assert "nothing to remove" in next(manager.uninstall(USER, force=False))


def test_there_is_no_log_of_what_is_not_installed_but_what_an_earlier_one_said(manager):
    with pytest.raises(NotFound, match="not there") as absent:
        manager.logs(USER, lines=None, follow=False)
    assert f"journalctl --user --unit {UNIT}" in absent.value.hint
