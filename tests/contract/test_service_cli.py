"""``goss-supervisor service …`` as a person runs it, with systemd's tools played by scripts on PATH."""

from __future__ import annotations

import grp
import json
import os
import pwd
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from supervisor.errors import NotFound, PermissionDenied, StartFailed, SupervisorError, UsageError
from supervisor.model.demo import ensure_demo
from supervisor.profile.types import Gateway, Listen, Profile, Stop
from supervisor.service import systemctl
from supervisor.service.account import Account, account_of_system, make_home, run_for
from supervisor.service.systemctl import Systemd, found
from supervisor.service.types import Request, Service

from ..fakes import systemd_tools
from ..fakes.binaries import fake_server
from ..fakes.launching import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd")

PATIENCE = 60.0
SYSTEM, USER = Service("system"), Service("user")


@pytest.fixture
def played(tmp_path, monkeypatch) -> systemd_tools.Played:
    tools = systemd_tools.install(tmp_path / "tools")
    monkeypatch.setenv("PATH", f"{tools.folder}:/usr/bin:/bin")
    return tools


@pytest.fixture
def manager(played, tmp_path) -> Systemd:
    there = found({"XDG_CONFIG_HOME": str(tmp_path / "config")})
    return replace(there, system_folder=tmp_path / "etc")


def request(service: Service = USER, **changes) -> Request:
    made = Request(
        service=service,
        command=("/bin/true", "start"),
        stop_seconds=28.0,
        home=Path("/home/ann"),
        logs=Path("/tmp"),
        user="ann" if service.scope == "system" else "",
    )
    return replace(made, **changes)


def unit_of(manager: Systemd, service: Service = USER) -> Path:
    folder = manager.system_folder if service.scope == "system" else manager.user_folder
    return folder / "goss-supervisor.service"


def test_the_version_that_is_there_is_rendered_for(tmp_path, monkeypatch):
    tools = systemd_tools.install(tmp_path / "tools", version=257)
    monkeypatch.setenv("PATH", f"{tools.folder}:/usr/bin:/bin")
    assert found().title == "systemd 257"
    assert "Type=notify-reload" in found().files(request())[0].text


def test_install_writes_enables_and_starts_and_says_so(manager, played):
    done = manager.install(request(SYSTEM), force=False)
    assert [line.split()[0] for line in done] == ["wrote", "enabled", "goss-supervisor.service:"]
    assert played.changes == [
        "systemctl daemon-reload",
        "systemctl enable goss-supervisor.service",
        "systemctl start goss-supervisor.service",
    ]
    assert unit_of(manager, SYSTEM).stat().st_mode & 0o777 == 0o644


def test_what_print_promises_is_what_install_does(manager, played):
    for service in (SYSTEM, USER):
        played.say(active="inactive", enabled=False, linger=False)
        played.forget()
        (file,) = manager.files(request(service))
        promised = [" ".join(command) for command in manager.commands(request(service))]
        assert not file.path.exists()
        manager.install(request(service), force=False)
        assert file.path.read_text() == file.text
        assert played.changes == promised


def test_installing_twice_changes_nothing(manager, played):
    manager.install(request(), force=False)
    before = unit_of(manager).stat()
    played.forget()
    assert manager.install(request(), force=False) == ()
    assert played.changes == []
    assert unit_of(manager).stat().st_mtime_ns == before.st_mtime_ns
    assert unit_of(manager).stat().st_ino == before.st_ino


def test_installing_something_else_restarts_what_runs(manager, played):
    manager.install(request(), force=False)
    played.forget()
    manager.install(request(stop_seconds=99.0), force=False)
    assert played.changes == [
        "systemctl --user daemon-reload",
        "systemctl --user restart goss-supervisor.service",
    ]


def test_a_unit_of_somebody_else_is_not_overwritten_or_removed(manager, played):
    unit_of(manager).parent.mkdir(parents=True)
    unit_of(manager).write_text("[Service]\nExecStart=/bin/false\n")
    for act in (
        lambda: manager.install(request(), force=False),
        lambda: manager.uninstall(USER, force=False),
    ):
        with pytest.raises(SupervisorError, match="not made by goss-supervisor") as refused:
            act()
        assert "--force" in refused.value.hint
    assert unit_of(manager).read_text() == "[Service]\nExecStart=/bin/false\n"
    assert played.changes == []
    manager.install(request(), force=True)
    assert "goss-supervisor service install" in unit_of(manager).read_text()


def test_a_change_by_hand_is_not_overwritten(manager):
    manager.install(request(), force=False)
    with unit_of(manager).open("a") as unit:
        unit.write("# mine\n")
    with pytest.raises(SupervisorError, match="changed by hand"):
        manager.install(request(stop_seconds=99.0), force=False)
    assert unit_of(manager).read_text().endswith("# mine\n")


def test_uninstall_stops_first_and_leaves_nothing_of_its_own(manager, played):
    manager.install(request(SYSTEM), force=False)
    played.forget()
    manager.uninstall(SYSTEM, force=False)
    assert played.changes == [
        "systemctl disable --now goss-supervisor.service",
        "systemctl daemon-reload",
        "systemctl reset-failed goss-supervisor.service",
    ]
    assert list(manager.system_folder.iterdir()) == []
    assert "nothing to remove" in manager.uninstall(SYSTEM, force=False)[0]


def test_a_drop_in_of_the_user_stays_and_is_named(manager):
    manager.install(request(), force=False)
    drop_in = unit_of(manager).with_name("goss-supervisor.service.d")
    drop_in.mkdir()
    assert any(str(drop_in) in line for line in manager.uninstall(USER, force=False))
    assert drop_in.exists()


def test_a_unit_stays_where_the_service_cannot_be_stopped(manager, played):
    manager.install(request(), force=False)
    played.say(fails={"disable": "Failed to disable unit: Access denied"})
    with pytest.raises(PermissionDenied, match="Access denied"):
        manager.uninstall(USER, force=False)
    assert unit_of(manager).exists()


def test_lingering_is_enabled_once_and_said_and_how_to_end_it(manager, played):
    assert any("without a login" in line for line in manager.install(request(), force=False))
    assert played.state["linger"]
    assert any("loginctl disable-linger" in line for line in manager.uninstall(USER, force=False))
    assert played.state["linger"]


def test_without_the_right_to_linger_the_service_runs_and_it_is_said(manager, played):
    played.say(fails={"enable-linger": "Could not enable linger: Access denied"})
    said = "\n".join(manager.install(request(), force=False))
    assert "while you are logged in only" in said
    assert "sudo loginctl enable-linger" in said
    assert played.state["active"] == "active"
    assert manager.status(USER).at_boot is False


def test_a_service_of_the_system_needs_no_lingering(manager, played):
    manager.install(request(SYSTEM), force=False)
    assert not any(call.startswith("loginctl") for call in played.calls)


def test_a_start_that_does_not_become_ready_names_the_log_and_the_way_back(manager, played):
    why = "Job for goss-supervisor.service failed because the control process exited with error code."
    played.say(fails={"start": why})
    with pytest.raises(StartFailed, match="did not become ready") as failed:
        manager.install(request(), force=False)
    assert "service logs --user" in failed.value.hint
    assert "service uninstall --user" in failed.value.hint


def test_a_container_is_told_to_run_it_in_the_foreground(manager, played):
    played.say(running="offline")
    with pytest.raises(SupervisorError, match="does not run this system") as refused:
        manager.install(request(SYSTEM), force=False)
    assert "in the foreground" in refused.value.hint
    assert not unit_of(manager, SYSTEM).exists()


def test_without_systemd_at_all_it_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SupervisorError, match="no systemd") as refused:
        found()
    assert "in the foreground" in refused.value.hint


def test_without_a_session_it_is_said_how_to_get_one(manager, played):
    played.say(running="")
    with pytest.raises(SupervisorError, match="No medium found") as refused:
        manager.install(request(), force=False)
    assert "enable-linger" in refused.value.hint
    assert not unit_of(manager).exists()


def test_what_is_not_installed_is_not_started(manager):
    with pytest.raises(NotFound, match="not there"):
        manager.start(USER)
    assert not manager.status(USER).installed


def test_status_is_what_systemd_says(manager, played):
    manager.install(request(), force=False)
    played.say(text="demo: ready at http://127.0.0.1:8080")
    told = manager.status(USER)
    assert (told.installed, told.running, told.at_boot, told.pid) == (True, True, True, 4711)
    assert told.state == "active (running)"
    assert told.detail == "demo: ready at http://127.0.0.1:8080"
    played.say(active="failed", result="watchdog")  # its last words are still there
    assert manager.status(USER).detail == "ended with watchdog"
    played.say(result="exit-code", code=78)
    assert manager.status(USER).detail == "ended with exit-code 78"


def test_a_person_may_start_what_has_reached_its_start_limit(manager, played):
    manager.install(request(), force=False)
    played.say(active="failed", result="start-limit-hit")
    played.forget()
    manager.start(USER)
    assert played.changes == [
        "systemctl --user reset-failed goss-supervisor.service",
        "systemctl --user start goss-supervisor.service",
    ]


def test_logs_are_the_journals(manager):
    assert manager.logs(SYSTEM, lines=None, follow=False) == (
        "journalctl",
        "--unit",
        "goss-supervisor.service",
    )
    shown = manager.logs(USER, lines=5, follow=True)
    assert shown == ("journalctl", "--user", "--unit", "goss-supervisor.service", "--lines", "5", "--follow")


def test_only_groups_of_this_system_are_known(manager):
    there = {group.gr_name for group in grp.getgrall()}
    assert set(systemctl.found().facts.groups) == there & {"render", "video"}


# --- whose it is


def test_a_service_of_the_system_is_that_of_who_said_sudo():
    someone = pwd.getpwuid(os.getuid()).pw_name
    assert account_of_system(someone, {}).name == someone
    assert account_of_system(None, {"SUDO_USER": "daemon"}).name == "daemon"


def test_root_is_never_guessed():
    for environ in ({}, {"SUDO_USER": "root"}):
        with pytest.raises(UsageError) as refused:
            account_of_system(None, environ)
        assert "--run-as" in refused.value.hint
    assert account_of_system("root", {}).name == "root"


def test_a_user_who_does_not_exist_is_named():
    with pytest.raises(NotFound, match="no-such-user"):
        account_of_system("no-such-user", {})


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
def test_preparing_is_done_as_the_services_own_user(tmp_path):
    tmp_path.chmod(0o777)
    for parent in list(tmp_path.parents)[:-2]:  # pytest's own, which it keeps private
        parent.chmod(0o755)
    account = account_of_system("daemon", {})
    code = "id -un > who; id -Gn > groups; env > env"
    run_for(account, ("/bin/sh", "-c", f"cd {tmp_path} && {code}"), {"GOSS_SUPERVISOR_HOME": "/h"}, "It")
    assert (tmp_path / "who").read_text() == "daemon\n"
    assert "root" not in (tmp_path / "groups").read_text().split()
    assert {"HOME=" + str(account.home), "GOSS_SUPERVISOR_HOME=/h"} <= set(
        (tmp_path / "env").read_text().splitlines()
    )


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give a folder away")
def test_the_home_of_a_system_service_is_its_users_alone(tmp_path):
    daemon, other = account_of_system("daemon", {}), account_of_system("nobody", {})
    make_home(tmp_path / "new" / "home", daemon)
    made = (tmp_path / "new" / "home").stat()
    assert (made.st_mode & 0o777, made.st_uid) == (0o700, pwd.getpwnam("daemon").pw_uid)
    make_home(tmp_path / "new" / "home", daemon)
    with pytest.raises(PermissionDenied, match="not to nobody") as refused:
        make_home(tmp_path / "new" / "home", other)
    assert "chown -R" in refused.value.hint


def test_a_program_that_fails_passes_its_exit_code_on():
    with pytest.raises(SupervisorError, match="see above") as failed:
        run_for(Account(Path("/")), ("/bin/sh", "-c", "exit 7"), {}, "Preparing")
    assert failed.value.exit_code == 7


# --- what a profile asks of a service


def test_the_time_for_a_stop_counts_every_step_of_the_ladder():
    from supervisor.cli.service_request import stop_seconds

    profile = Profile("p", stop=Stop(grace_seconds=10, insist_seconds=3))
    assert stop_seconds(profile) == 10 + 10 + 3 + 5
    assert stop_seconds(replace(profile, gateway=Gateway(mode="off"))) == 10 + 3 + 5


@pytest.mark.parametrize(
    ("host", "needs"),
    [
        ("127.0.0.1", False),
        ("localhost", False),
        ("::1", False),
        ("/run/x.sock", False),
        ("192.168.1.4", True),
        ("0.0.0.0", True),
    ],
)
def test_the_network_is_needed_for_an_address_of_it(host, needs):
    from supervisor.cli.service_request import request_of

    profile = Profile("p", listen=Listen(host))
    assert request_of("user", profile, Account(Path("/home/ann"))).needs_network is needs


# --- the whole command


@dataclass
class Machine:
    """One user's machine with systemd played; the engine is scripted, the demo model is there."""

    root: Path
    played: systemd_tools.Played
    port: int = field(default_factory=free_port)

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def unit(self) -> Path:
        return self.root / "config" / "systemd" / "user" / "goss-supervisor.service"

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": f"{self.played.folder}:/usr/bin:/bin",
            "HOME": str(self.root / "nobody"),
            "XDG_CONFIG_HOME": str(self.root / "config"),
            "GOSS_SUPERVISOR_HOME": str(self.home),
            "HF_TOKEN": "hf_secret",
        }
        done = subprocess.run(
            [sys.executable, "-P", "-m", "supervisor", "service", *words],
            env=env,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done


@pytest.fixture
def machine(tmp_path) -> Machine:
    made = Machine(tmp_path, systemd_tools.install(tmp_path / "tools"))
    engine = fake_server(tmp_path / "llama-server")
    profiles = made.home / "config" / "profiles"
    profiles.mkdir(parents=True)
    (profiles / "mine.yaml").write_text(
        f"extends: demo\nengine: {{source: path, path: {engine}}}\nlisten: {{port: {made.port}}}\n"
    )
    ensure_demo(made.home / "data" / "models")
    return made


def test_print_shows_all_and_writes_nothing(machine):
    shown = machine.run("print", "--user", "--profile", "mine").stdout
    assert f"# file {machine.unit}" in shown
    assert "start --profile mine" in shown
    assert f"Environment=GOSS_SUPERVISOR_HOME={machine.home}" in shown
    assert "loginctl enable-linger" in shown
    assert "hf_secret" not in shown
    assert not machine.unit.exists()
    assert machine.played.changes == []


def test_print_json_is_one_object_with_the_very_same_file(machine):
    shown = json.loads(machine.run("print", "--user", "--profile", "mine", "--json").stdout)
    assert (shown["schema"], shown["manager"]) == (1, "systemd 252")
    (file,) = shown["files"]
    assert (file["path"], file["mode"]) == (str(machine.unit), "0644")
    machine.run("install", "--user", "--profile", "mine")
    assert machine.unit.read_text() == file["text"]


def test_install_status_logs_and_uninstall_are_a_whole(machine):
    installed = machine.run("install", "--user", "--profile", "mine")
    assert f"wrote {machine.unit}" in installed.stdout
    assert "to undo this: goss-supervisor service uninstall --user" in installed.stderr
    again = machine.run("install", "--user", "--profile", "mine")
    assert again.stdout == "nothing to do: it is installed so, and runs\n"
    told = json.loads(machine.run("status", "--user", "--json").stdout)
    assert (told["schema"], told["running"], told["state"]) == (1, True, "active (running)")
    assert machine.run("logs", "--user").stdout == "the log\n"
    machine.run("stop", "--user")
    assert "inactive" in machine.run("status", "--user", code=3).stdout
    machine.run("start", "--user")
    machine.run("restart", "--user")
    removed = machine.run("uninstall", "--user")
    assert f"removed {machine.unit}" in removed.stdout
    assert str(machine.home / "config") in removed.stderr
    assert (machine.home / "config" / "profiles" / "mine.yaml").exists()
    machine.run("status", "--user", code=5)
    machine.run("uninstall", "--user")


def test_a_profile_that_cannot_be_prepared_installs_nothing(machine):
    profiles = machine.home / "config" / "profiles"
    (profiles / "broken.yaml").write_text("extends: mine\nengine: {path: /no/such/engine}\n")
    failed = machine.run("install", "--user", "--profile", "broken", code=5)
    assert "/no/such/engine" in failed.stderr
    assert not machine.unit.exists()
    assert machine.played.changes == []


def test_an_unknown_profile_names_where_the_services_own_ones_are(machine):
    failed = machine.run("install", "--user", "--profile", "nothing", code=5)
    assert str(machine.home / "config" / "profiles") in failed.stderr


def test_run_as_is_for_a_service_of_the_system(machine):
    assert "--run-as" in machine.run("install", "--user", "--run-as", "daemon", code=2).stderr
