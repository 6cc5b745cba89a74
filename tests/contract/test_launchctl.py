"""launchctl and schtasks, played by programs that write down what they are asked and answer what they are told to."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from supervisor.errors import NotFound, PermissionDenied, SupervisorError, UsageError
from supervisor.service.contract import Service, ServiceRequest, ServiceStatus
from supervisor.service.launchctl import Launchd
from supervisor.service.schtasks import TaskScheduler

pwd = pytest.importorskip("pwd", reason="not on Windows")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the tools are played by scripts")

PROGRAM = """#!{python} -IS
import json, sys
from pathlib import Path
folder = Path({folder!r})
name, words = Path(sys.argv[0]).name, sys.argv[1:]
with (folder / "asked").open("a") as asked:
    asked.write(json.dumps([name, *words]) + "\\n")
whole = folder / " ".join((name, *words)).replace("/", "_")
script = whole if whole.exists() else folder / f"{{name}} {{words[0].lstrip('/')}}"
answers = json.loads(script.read_text()) if script.exists() else [[0, ""]]
returncode, said = answers[0]
if answers[1:]:
    script.write_text(json.dumps(answers[1:]))
print(said, file=sys.stderr if returncode else sys.stdout)
sys.exit(returncode)
"""

USER = Service("user")
SYSTEM = Service("system")
TARGET = "gui/501/goss-supervisor"
ABSENT = (113, 'Could not find service "goss-supervisor" in domain for user gui: 501')
RUNNING = (0, "gui/501/goss-supervisor = {\n\tstate = running\n\tpid = 4711\n}")
DOWN = (0, "gui/501/goss-supervisor = {\n\tstate = not running\n\tlast exit code = 0\n}")
EIO = (5, "Bootstrap failed: 5: Input/output error")


@dataclass
class Tools:
    """Programs on the PATH, each with a list of answers for each verb; the last one is given for ever."""

    folder: Path

    def play(self, tool, verb, *answers):
        """``verb`` may be the whole command: that goes before."""
        words = verb.replace("/", "_") if " " in verb else verb.lstrip("/")
        (self.folder / f"{tool} {words}").write_text(json.dumps(answers))

    def asked(self, *without):
        """What was asked since the last time."""
        log = self.folder / "asked"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        said = [" ".join(json.loads(line)) for line in lines]
        return [words for words in said if not words.startswith(without or ("nothing",))]


@pytest.fixture
def tools(tmp_path, monkeypatch):
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("launchctl", "schtasks", "goss"):
        program = folder / name
        program.write_text(PROGRAM.format(python=sys.executable, folder=str(folder)))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return Tools(folder)


@pytest.fixture
def request_(tmp_path):
    return ServiceRequest(
        USER,
        ("/opt/python", "-P", "-m", "supervisor", "start"),
        ("/opt/python", "-P", "-m", "supervisor", "reload"),
        stop_seconds=-10.0,  # launchd's own patience is 0 s then
        profile="demo",
        logs=tmp_path / "Library" / "Logs" / "goss",
    )


# --- launchd


@pytest.fixture
def launchd(tmp_path, tools):
    tools.play("launchctl", "print", ABSENT)
    tools.play("launchctl", "print gui/501", (0, "gui/501 = {"))
    tools.play("launchctl", "print system", (0, "system = {"))
    return Launchd(501, tmp_path / "agents", tmp_path / "daemons", pause_seconds=0.01)


@pytest.fixture
def plist(tmp_path):
    return tmp_path / "agents" / "goss-supervisor.plist"


@pytest.fixture
def installed(launchd, tools, request_):
    tuple(launchd.install(request_, force=False))
    tools.play("launchctl", "print", RUNNING)
    tools.asked()
    return launchd


LOOKS = ("launchctl print",)


def test_an_agent_is_written_and_taken_in(launchd, tools, request_, plist):
    assert tuple(launchd.install(request_, force=False)) == (
        f"wrote {plist}",
        "started goss-supervisor, now and with the next login",
    )
    assert tools.asked(*LOOKS) == [f"launchctl bootstrap gui/501 {plist}"]
    assert plist.read_text() == launchd.files(request_)[0].text
    assert plist.stat().st_mode & 0o777 == 0o644
    assert request_.logs.stat().st_mode & 0o777 == 0o700


def test_what_print_shows_is_what_install_does(launchd, tools, request_):
    tuple(launchd.install(request_, force=False))
    shown = [" ".join(command) for command in launchd.commands(request_)]
    assert tools.asked(*LOOKS) == shown


def test_installing_twice_changes_nothing(installed, tools, request_):
    assert tuple(installed.install(request_, force=False)) == ()
    assert tools.asked(*LOOKS) == []


def test_installing_again_starts_what_had_ended_by_itself(installed, tools, request_):
    tools.play("launchctl", "print", DOWN)
    assert tuple(installed.install(request_, force=False)) == ("started goss-supervisor",)
    assert tools.asked(*LOOKS) == [f"launchctl kickstart {TARGET}"]


def test_a_changed_service_is_taken_out_and_gone_before_it_is_taken_in(installed, tools, request_, plist):
    tools.play("launchctl", "print", RUNNING, RUNNING, RUNNING, ABSENT)
    tuple(installed.install(replace(request_, environment={"A": "b"}), force=False))
    asked = tools.asked("launchctl print-disabled")
    assert asked.index(f"launchctl bootout {TARGET}") < asked.index(f"launchctl bootstrap gui/501 {plist}")
    assert asked.count(f"launchctl print {TARGET}") == 5  # loaded; there, there, gone; not loaded


def test_an_input_output_error_of_the_one_that_leaves_is_waited_out(launchd, tools, request_, plist):
    tools.play("launchctl", "bootstrap", EIO, EIO, (0, ""))
    tuple(launchd.install(request_, force=False))
    assert tools.asked(*LOOKS) == [f"launchctl bootstrap gui/501 {plist}"] * 3


def test_an_input_output_error_that_stays_is_said(launchd, tools, request_, plist):
    tools.play("launchctl", "bootstrap", EIO)
    with pytest.raises(SupervisorError, match="5: Input/output error") as told:
        tuple(launchd.install(request_, force=False))
    assert "logged in at the screen" in told.value.hint
    assert tools.asked(*LOOKS) == [f"launchctl bootstrap gui/501 {plist}"] * 5


def test_an_input_output_error_of_one_that_is_there_is_none(launchd, tools, request_):
    tools.play("launchctl", "bootstrap", EIO)
    tools.play("launchctl", "print", ABSENT, ABSENT, RUNNING)
    assert "started goss-supervisor, now and with the next login" in tuple(
        launchd.install(request_, force=False)
    )


def test_another_error_is_said_at_once(launchd, tools, request_):
    tools.play(
        "launchctl", "bootstrap", (125, "Bootstrap failed: 125: Domain does not support specified action")
    )
    with pytest.raises(SupervisorError, match="125"):
        tuple(launchd.install(request_, force=False))
    assert len(tools.asked(*LOOKS)) == 1


def test_what_a_person_had_disabled_is_enabled_first(launchd, tools, request_):
    tools.play("launchctl", "print-disabled", (0, '\t"goss-supervisor" => disabled'))
    tuple(launchd.install(request_, force=False))
    asked = tools.asked("launchctl print")
    assert asked[0] == f"launchctl enable {TARGET}"
    assert asked[1].startswith("launchctl bootstrap")


def test_the_file_of_another_is_left_alone(launchd, tools, request_, plist):
    plist.parent.mkdir()
    plist.write_text("another's")
    with pytest.raises(SupervisorError, match="was not made by"):
        tuple(launchd.install(request_, force=False))
    with pytest.raises(SupervisorError, match="was not made by"):
        tuple(launchd.uninstall(USER, force=False))
    assert plist.read_text() == "another's"
    assert tools.asked(*LOOKS) == []


def test_uninstalling_leaves_nothing(installed, tools, plist):
    tools.play("launchctl", "print", RUNNING, RUNNING, ABSENT)
    done = tuple(installed.uninstall(USER, force=False))
    assert done == ("stopped goss-supervisor; launchd knows it no more", f"removed {plist}")
    assert tools.asked(*LOOKS) == [f"launchctl bootout {TARGET}"]
    assert list(plist.parent.iterdir()) == []
    assert tuple(installed.uninstall(USER, force=False)) == (f"{plist} is not there: nothing to remove",)


def test_one_that_does_not_leave_is_said_and_not_removed(installed, tools, plist):
    tools.play("launchctl", "bootout", (36, "Boot-out failed: 36: Operation now in progress"))
    with pytest.raises(SupervisorError, match="36: Operation now in progress"):
        tuple(installed.uninstall(USER, force=False))
    assert plist.exists()


def test_a_stop_returns_when_it_has_gone(installed, tools):
    tools.play("launchctl", "print", RUNNING, RUNNING, RUNNING, ABSENT)
    assert tuple(installed.stop(USER)) == ("stopped goss-supervisor, until the next login",)
    assert tools.asked()[-4:] == [f"launchctl bootout {TARGET}", *[f"launchctl print {TARGET}"] * 3]
    assert tuple(installed.stop(USER)) == ("goss-supervisor does not run",)


def test_what_was_stopped_is_taken_in_again_by_a_start_and_by_a_restart(installed, tools, plist):
    for begin in (installed.start, installed.restart):
        tools.play("launchctl", "print", ABSENT)
        tuple(begin(USER))
        assert tools.asked(*LOOKS) == [f"launchctl bootstrap gui/501 {plist}"]


def test_what_runs_is_not_started(installed, tools):
    assert tuple(installed.start(USER)) == ("goss-supervisor runs already",)
    assert tools.asked(*LOOKS) == []


def test_a_restart_asks_before_it_kills(installed, tools):
    tools.play("launchctl", "print", RUNNING, RUNNING, RUNNING, DOWN)
    assert tuple(installed.restart(USER)) == ("restarted goss-supervisor",)
    asked = tools.asked()
    assert asked[2:] == [
        f"launchctl kill SIGTERM {TARGET}",
        f"launchctl print {TARGET}",
        f"launchctl print {TARGET}",
        f"launchctl kickstart -k {TARGET}",
    ]


def test_a_restart_kills_what_does_not_leave(installed, tools):
    assert tuple(installed.restart(USER)) == ("restarted goss-supervisor",)
    assert tools.asked(*LOOKS) == [f"launchctl kill SIGTERM {TARGET}", f"launchctl kickstart -k {TARGET}"]


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
def test_what_is_not_installed_cannot_be_changed(launchd, tools, verb):
    with pytest.raises(NotFound, match="is not there"):
        tuple(getattr(launchd, verb)(USER))
    assert tools.asked() == []


def test_a_service_of_the_mac_is_roots(launchd, tools, request_, tmp_path):
    with pytest.raises(PermissionDenied, match="Only root may change"):
        tuple(launchd.install(replace(request_, service=SYSTEM), force=False))
    assert not (tmp_path / "daemons").exists()
    assert tools.asked() == []


def test_roots_service_lives_in_the_systems_domain(launchd, tools, request_, tmp_path):
    tuple(replace(launchd, user=0).install(replace(request_, service=SYSTEM), force=False))
    path = tmp_path / "daemons" / "goss-supervisor.plist"
    assert tools.asked(*LOOKS) == [f"launchctl bootstrap system {path}"]


def test_its_status_is_launchds_word(installed, tools):
    assert installed.status(USER) == ServiceStatus(
        installed=True, running=True, starts_by_itself="at login", state="running", pid=4711
    )
    tools.play("launchctl", "print", DOWN)
    tools.play("launchctl", "print-disabled", (0, '\t"goss-supervisor" => disabled'))
    assert installed.status(USER) == ServiceStatus(
        installed=True, running=False, starts_by_itself="no", state="not running", detail="last exit code: 0"
    )
    tools.play("launchctl", "print", ABSENT)
    assert installed.status(USER).state == "not loaded"


def test_what_is_not_installed_has_a_status_too(launchd, tools):
    assert launchd.status(USER) == ServiceStatus(
        installed=False, running=False, starts_by_itself="no", state="not installed"
    )
    assert tools.asked() == [f"launchctl print {TARGET}"]


def test_a_daemon_starts_at_boot_and_what_launchd_does_not_tell_is_unknown(launchd, tools, request_):
    mac = replace(launchd, user=0)
    tuple(mac.install(replace(request_, service=SYSTEM), force=False))
    assert mac.status(SYSTEM).starts_by_itself == "at boot"
    tools.play("launchctl", "print-disabled", (1, "Usage: launchctl print-disabled"))
    assert mac.status(SYSTEM).starts_by_itself is None


def test_nobody_logged_in_at_the_screen_is_said_before_anything_is_done(launchd, tools, request_, plist):
    tools.play("launchctl", "print gui/501", (125, "Domain does not support specified action"))
    for act in (launchd.refuse, launchd.install):
        with pytest.raises(SupervisorError, match="does not support") as told:
            tuple(act(request_, force=False) or ())
        assert "logged in at the screen" in told.value.hint
    assert not plist.exists()


def test_what_install_would_refuse_is_refused_before(launchd, tools, request_, plist):
    launchd.refuse(request_, force=False)
    plist.parent.mkdir()
    plist.write_text("another's")
    with pytest.raises(SupervisorError, match="was not made by"):
        launchd.refuse(request_, force=False)
    launchd.refuse(request_, force=True)
    with pytest.raises(PermissionDenied, match="Only root may change"):
        launchd.refuse(replace(request_, service=SYSTEM), force=True)
    assert tools.asked(*LOOKS) == []


def test_missing_rights_are_told_from_other_failures(installed, tools):
    tools.play("launchctl", "print", DOWN)
    tools.play("launchctl", "kickstart", (1, "Could not kickstart service: 1: Operation not permitted"))
    with pytest.raises(PermissionDenied, match="not permitted"):
        tuple(installed.start(USER))
    tools.play("launchctl", "kickstart", (3, "Could not find service"))
    with pytest.raises(SupervisorError, match="Could not find") as told:
        tuple(installed.start(USER))
    assert told.value.exit_code == 1


def test_what_runs_on_without_its_file_is_told_and_taken_out(installed, tools, plist):
    plist.unlink()
    left = installed.status(USER)
    assert (left.installed, left.running, left.pid) == (False, True, 4711)
    assert "service uninstall --user" in left.detail
    tools.asked()
    tools.play("launchctl", "print", RUNNING, RUNNING, ABSENT)
    assert tuple(installed.uninstall(USER, force=False)) == (
        "stopped goss-supervisor; launchd knows it no more",
    )
    assert tools.asked(*LOOKS) == [f"launchctl bootout {TARGET}"]
    assert installed.status(USER).state == "not installed"


def test_a_service_of_that_name_from_another_file_is_not_touched(launchd, tools, plist):
    tools.play("launchctl", "print", (0, f"{TARGET} = {{\n\tpath = /opt/other.plist\n\tpid = 12\n}}"))
    assert launchd.status(USER).state == "not installed"
    assert tuple(launchd.uninstall(USER, force=False)) == (f"{plist} is not there: nothing to remove",)
    assert tools.asked(*LOOKS) == []


def test_each_step_is_said_as_it_is_done(launchd, tools, request_, plist):
    tools.play("launchctl", "bootstrap", (125, "Bootstrap failed: 125"))
    said = []
    with pytest.raises(SupervisorError, match="125"):
        said.extend(launchd.install(request_, force=False))
    assert said == [f"wrote {plist}"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="needs root to give a folder away")
def test_the_folder_of_logs_is_given_to_the_services_user(launchd, request_, tmp_path):
    tuple(replace(launchd, user=0).install(replace(request_, service=SYSTEM, user="daemon"), force=False))
    assert request_.logs.stat().st_uid == pwd.getpwnam("daemon").pw_uid


def test_there_is_no_log_of_what_is_not_installed(launchd):
    with pytest.raises(NotFound, match="is not there"):
        launchd.logs(USER, lines=None, follow=False)


def test_both_logs_are_shown(installed, request_):
    logs = (str(request_.logs / "launchd.log"), str(request_.logs / "daemon.log"))
    assert installed.logs(USER, lines=20, follow=True) == ("tail", "-n", "20", "-F", *logs)
    assert installed.logs(USER, lines=None, follow=False) == ("tail", "-n", "+1", *logs)


def test_a_system_without_launchctl_is_said(launchd, request_, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFound, match="no launchctl"):
        tuple(launchd.install(request_, force=False))


# --- Windows

OURS = (
    0,
    "<Task><RegistrationInfo><Source>goss-supervisor service install</Source></RegistrationInfo></Task>",
)
NONE = (1, "FEHLER: Das System kann die angegebene Datei nicht finden.")
NOT_UP = (3, "error: No goss-supervisor daemon is running here.")
UP = (0, json.dumps({"daemon": {"pid": 4711}}))


@pytest.fixture
def scheduler(tmp_path, tools):
    tools.play("schtasks", "/query", NONE)
    tools.play("goss", "status", NOT_UP)
    tools.play("goss", "stop", NOT_UP)
    return TaskScheduler(
        "DESK\\ada", tmp_path / "service", tmp_path / "ada's logs", ourselves=("goss",), pause_seconds=0.01
    )


@pytest.fixture
def task(tmp_path):
    return tmp_path / "service" / "goss-supervisor.xml"


@pytest.fixture
def registered(scheduler, tools, request_):
    tuple(scheduler.install(request_, force=False))
    tools.play("schtasks", "/query", OURS)
    tools.play("goss", "status", UP)
    tools.play("goss", "stop", (0, "stopped"))
    tools.asked()
    return scheduler


QUERIES = ("schtasks /query", "goss status")


def test_a_task_is_written_registered_and_run(scheduler, tools, request_, task):
    assert tuple(scheduler.install(request_, force=False)) == (
        f"wrote {task}",
        "registered the task goss-supervisor: it starts with the next logon",
        "started goss-supervisor",
    )
    shown = [" ".join(command) for command in scheduler.commands(request_)]
    assert tools.asked(*QUERIES, "goss stop") == shown
    assert shown[0] == f"schtasks /create /tn goss-supervisor /xml {task} /f"


def test_the_task_is_in_the_encoding_that_it_names(scheduler, request_, task):
    tuple(scheduler.install(request_, force=False))
    written = task.read_bytes()
    assert written[:2] in {b"\xff\xfe", b"\xfe\xff"}
    assert 'encoding="UTF-16"' in written.decode("utf-16").splitlines()[0]


def test_registering_twice_changes_nothing(registered, tools, request_):
    assert tuple(registered.install(request_, force=False)) == ()
    assert tools.asked(*QUERIES) == []


def test_a_changed_task_is_stopped_by_its_daemon_first(registered, tools, request_):
    tools.play("goss", "status", NOT_UP)
    tuple(registered.install(replace(request_, command=("/opt/python", "other")), force=False))
    verbs = [words.split(" /tn")[0] for words in tools.asked(*QUERIES)]
    assert verbs == ["goss stop", "schtasks /create", "schtasks /run"]


def test_a_task_that_a_person_removed_is_registered_again(registered, tools, request_):
    tools.play("schtasks", "/query", NONE)
    assert "registered the task goss-supervisor: it starts with the next logon" in tuple(
        registered.install(request_, force=False)
    )


def test_another_task_of_the_name_is_left_alone(scheduler, tools, request_, task):
    tools.play("schtasks", "/query", (0, "<Task><Source>another's</Source></Task>"))
    with pytest.raises(SupervisorError, match="was not made by"):
        tuple(scheduler.install(request_, force=False))
    with pytest.raises(NotFound):
        tuple(scheduler.stop(USER))
    assert tuple(scheduler.uninstall(USER, force=False)) == (f"{task} is not there: nothing to remove",)
    assert tools.asked(*QUERIES) == []
    assert not task.exists()


def test_what_a_task_cannot_carry_is_said(scheduler, request_):
    done = tuple(
        scheduler.install(replace(request_, environment={"GOSS_SUPERVISOR_HOME": "D:\\goss"}), force=False)
    )
    assert "setx" in done[-1]
    assert "GOSS_SUPERVISOR_HOME" in done[-1]


def test_unregistering_leaves_nothing(registered, tools, task):
    assert tuple(registered.uninstall(USER, force=False)) == (
        "stopped goss-supervisor, until the next logon",
        "removed the task goss-supervisor",
        f"removed {task}",
    )
    assert tools.asked(*QUERIES) == ["goss stop", "schtasks /delete /tn goss-supervisor /f"]
    assert list(task.parent.iterdir()) == []


def test_a_task_is_stopped_by_its_daemon_and_never_ended(registered, tools):
    assert tuple(registered.stop(USER)) == ("stopped goss-supervisor, until the next logon",)
    assert tools.asked(*QUERIES) == ["goss stop"]
    tools.play("goss", "stop", NOT_UP)
    assert tuple(registered.stop(USER)) == ("goss-supervisor does not run",)


def test_a_daemon_that_cannot_be_stopped_is_said_and_its_task_stays(registered, tools, task):
    tools.play("goss", "stop", (1, "error: The server could not be stopped."))
    with pytest.raises(SupervisorError, match="could not be stopped"):
        tuple(registered.uninstall(USER, force=False))
    assert task.exists()
    assert "schtasks /delete /tn goss-supervisor /f" not in tools.asked()


def test_a_restarted_task_is_stopped_and_run(registered, tools):
    tuple(registered.restart(USER))
    assert tools.asked(*QUERIES) == ["goss stop", "schtasks /run /tn goss-supervisor"]


def test_a_task_is_run_again_only_when_it_has_ended(registered, tools):
    under_way = (0, '"DESK","\\\\goss-supervisor","N/A","Wird ausgeführt","21.11.2026 16:00:00","267009"')
    ended = (0, '"DESK","\\\\goss-supervisor","N/A","Bereit","21.11.2026 16:00:00","0"')
    tools.play("schtasks", "/query", OURS, under_way, under_way, ended)
    tuple(registered.restart(USER))
    looks = ["schtasks /query /tn goss-supervisor /v /fo csv /nh"] * 3
    asked = tools.asked("schtasks /query /tn goss-supervisor /xml")
    assert asked == ["goss stop", *looks, "schtasks /run /tn goss-supervisor"]


def test_a_task_that_runs_is_not_started(registered, tools):
    assert tuple(registered.start(USER)) == ("goss-supervisor runs already",)
    assert tools.asked(*QUERIES) == []


def test_a_tasks_status_is_the_daemons_word(registered, tools):
    assert registered.status(USER) == ServiceStatus(
        installed=True, running=True, starts_by_itself="at login", state="running", pid=4711
    )
    tools.play("goss", "status", NOT_UP)
    tools.play("schtasks", "/query", (0, f"{OURS[1]}<Enabled>false</Enabled>"))
    assert registered.status(USER) == ServiceStatus(
        installed=True, running=False, starts_by_itself="no", state="not running"
    )


def test_what_is_not_registered_has_a_status_too(scheduler):
    assert scheduler.status(USER) == ServiceStatus(
        installed=False, running=False, starts_by_itself="no", state="not installed"
    )


def test_there_is_no_log_of_what_is_not_registered(scheduler):
    with pytest.raises(NotFound, match="no task"):
        scheduler.logs(USER, lines=None, follow=False)


def test_what_the_scheduler_would_refuse_is_refused_before(scheduler, tools, request_, task):
    scheduler.refuse(request_, force=False)
    tools.play("schtasks", "/query", (0, "<Task><Source>another's</Source></Task>"))
    with pytest.raises(SupervisorError, match="was not made by"):
        scheduler.refuse(request_, force=False)
    scheduler.refuse(request_, force=True)
    assert tools.asked(*QUERIES) == []
    assert not task.exists()


def test_each_step_of_a_registration_is_said_as_it_is_done(scheduler, tools, request_, task):
    tools.play("schtasks", "/create", (1, "ERROR: Access is denied."))
    said = []
    with pytest.raises(PermissionDenied, match="denied"):
        said.extend(scheduler.install(request_, force=False))
    assert said == [f"wrote {task}"]


def test_a_name_with_a_quote_stays_one_word_for_powershell(registered):
    *_, script = registered.logs(USER, lines=5, follow=True)
    assert "ada''s logs" in script
    assert script.endswith("-Tail 5 -Wait")


def test_a_service_of_the_whole_of_windows_is_refused_with_what_there_is(scheduler, tools, request_):
    with pytest.raises(UsageError) as told:
        tuple(scheduler.install(replace(request_, service=SYSTEM), force=False))
    assert "WinSW" in told.value.hint
    assert tools.asked() == []
