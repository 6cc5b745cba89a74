"""``goss-supervisor service …`` as a person runs it, with systemd's tools played by scripts on PATH."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

pytest.importorskip("grp", reason="systemd")

import grp
import pwd

from supervisor.cli import service_request
from supervisor.cli.app import main
from supervisor.errors import NotFound, PermissionDenied, StartFailed, SupervisorError
from supervisor.hardware.hardware import Cpu, Hardware
from supervisor.hardware.wire import to_json
from supervisor.model.demo import ensure_demo
from supervisor.profile.definition import GatewaySettings, ListenSettings, Profile, Stop
from supervisor.service import systemctl
from supervisor.service.contract import Service, ServiceRequest
from supervisor.service.systemctl import Systemd, found

from ..fakes import systemd_tools
from ..fakes.binaries import fake_server, script
from ..fakes.hub import FakeHub
from ..fakes.launching import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd")

PATIENCE = 60.0
SYSTEM, USER = Service("system"), Service("user")


def request(service: Service = USER, **changes) -> ServiceRequest:
    made = ServiceRequest(
        service=service,
        command=("/bin/true", "start"),
        reload=("/bin/true", "reload"),
        stop_seconds=28.0,
        logs=Path("/tmp"),
        profile="demo",
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
    done = tuple(manager.install(request(SYSTEM), force=False))
    assert [line.split()[0] for line in done] == ["wrote", "enabled", "goss-supervisor.service:"]
    assert played.changes == [
        "systemctl daemon-reload",
        "systemctl enable goss-supervisor.service",
        "systemctl reset-failed goss-supervisor.service",
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
        tuple(manager.install(request(service), force=False))
        assert file.path.read_text() == file.text
        assert [call for call in played.changes if "reset-failed" not in call] == promised


def test_installing_twice_changes_nothing(manager, played):
    tuple(manager.install(request(), force=False))
    before = unit_of(manager).stat()
    played.forget()
    assert tuple(manager.install(request(), force=False)) == ()
    assert played.changes == []
    assert unit_of(manager).stat().st_mtime_ns == before.st_mtime_ns
    assert unit_of(manager).stat().st_ino == before.st_ino


def test_installing_something_else_restarts_what_runs(manager, played):
    tuple(manager.install(request(), force=False))
    played.forget()
    tuple(manager.install(request(stop_seconds=99.0), force=False))
    assert played.changes == [
        "systemctl --user daemon-reload",
        "systemctl --user reset-failed goss-supervisor.service",
        "systemctl --user restart goss-supervisor.service",
    ]


def test_a_unit_of_somebody_else_is_not_overwritten_or_removed(manager, played):
    unit_of(manager).parent.mkdir(parents=True)
    unit_of(manager).write_text("[Service]\nExecStart=/bin/false\n")
    for act in (
        lambda: tuple(manager.install(request(), force=False)),
        lambda: tuple(manager.uninstall(USER, force=False)),
    ):
        with pytest.raises(SupervisorError, match="not made by goss-supervisor") as refused:
            act()
        assert "--force" in refused.value.hint
    assert unit_of(manager).read_text() == "[Service]\nExecStart=/bin/false\n"
    assert played.changes == []
    tuple(manager.install(request(), force=True))
    assert "goss-supervisor service install" in unit_of(manager).read_text()


def test_a_change_by_hand_is_not_overwritten(manager):
    tuple(manager.install(request(), force=False))
    with unit_of(manager).open("a") as unit:
        unit.write("# mine\n")
    with pytest.raises(SupervisorError, match="changed by hand"):
        tuple(manager.install(request(stop_seconds=99.0), force=False))
    assert unit_of(manager).read_text().endswith("# mine\n")


def test_uninstall_stops_first_and_leaves_nothing_of_its_own(manager, played):
    tuple(manager.install(request(SYSTEM), force=False))
    played.forget()
    tuple(manager.uninstall(SYSTEM, force=False))
    assert played.changes == [
        "systemctl disable --now goss-supervisor.service",
        "systemctl daemon-reload",
        "systemctl reset-failed goss-supervisor.service",
    ]
    assert list(manager.system_folder.iterdir()) == []
    assert "nothing to remove" in next(manager.uninstall(SYSTEM, force=False))


def test_a_drop_in_of_the_user_stays_and_is_named(manager):
    tuple(manager.install(request(), force=False))
    drop_in = unit_of(manager).with_name("goss-supervisor.service.d")
    drop_in.mkdir()
    assert any(str(drop_in) in line for line in tuple(manager.uninstall(USER, force=False)))
    assert drop_in.exists()


def test_a_unit_stays_where_the_service_cannot_be_stopped(manager, played):
    tuple(manager.install(request(), force=False))
    played.say(fails={"disable": "Failed to disable unit: Access denied"})
    with pytest.raises(PermissionDenied, match="Access denied"):
        tuple(manager.uninstall(USER, force=False))
    assert unit_of(manager).exists()


def test_lingering_is_enabled_once_and_said_and_how_to_end_it(manager, played):
    assert any("without a login" in line for line in tuple(manager.install(request(), force=False)))
    assert played.state["linger"]
    assert any("loginctl disable-linger" in line for line in tuple(manager.uninstall(USER, force=False)))
    assert played.state["linger"]


def test_without_the_right_to_linger_the_service_runs_and_it_is_said(manager, played):
    played.say(fails={"enable-linger": "Could not enable linger: Access denied"})
    said = "\n".join(tuple(manager.install(request(), force=False)))
    assert "while you are logged in only" in said
    assert "sudo loginctl enable-linger" in said
    assert played.state["active"] == "active"
    assert manager.status(USER).starts_by_itself == "at login"


def test_a_service_of_the_system_needs_no_lingering(manager, played):
    tuple(manager.install(request(SYSTEM), force=False))
    assert not any(call.startswith("loginctl") for call in played.calls)


def test_a_start_that_does_not_become_ready_names_the_log_and_the_way_back(manager, played):
    why = "Job for goss-supervisor.service failed because the control process exited with error code."
    played.say(fails={"start": why})
    with pytest.raises(StartFailed, match="did not become ready") as failed:
        tuple(manager.install(request(), force=False))
    assert "service logs --user" in failed.value.hint
    assert "service uninstall --user" in failed.value.hint


def test_a_container_is_told_to_run_it_in_the_foreground(manager, played):
    played.say(running="offline")
    with pytest.raises(SupervisorError, match="does not run this system") as refused:
        tuple(manager.install(request(SYSTEM), force=False))
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
        tuple(manager.install(request(), force=False))
    assert "enable-linger" in refused.value.hint
    assert not unit_of(manager).exists()


def test_what_is_not_installed_is_not_started(manager):
    with pytest.raises(NotFound, match="not there"):
        tuple(manager.start(USER))
    assert not manager.status(USER).installed


def test_status_is_what_systemd_says(manager, played):
    tuple(manager.install(request(), force=False))
    played.say(text="demo: ready at http://127.0.0.1:8080")
    told = manager.status(USER)
    assert (told.installed, told.running, told.starts_by_itself, told.pid) == (True, True, "at boot", 4711)
    assert told.state == "active (running)"
    assert told.detail == "demo: ready at http://127.0.0.1:8080"
    played.say(active="failed", result="watchdog")  # its last words are still there
    assert manager.status(USER).detail == "ended with watchdog"
    played.say(result="exit-code", code=78)
    assert manager.status(USER).detail == "ended with exit-code 78"


@pytest.mark.parametrize("verb", ["start", "restart"])
@pytest.mark.parametrize("active", ["failed", "inactive", "active"])
def test_the_start_limit_is_not_for_people_in_whatever_state_it_is(manager, played, verb, active):
    tuple(manager.install(request(), force=False))
    played.say(active=active)
    played.forget()
    tuple(getattr(manager, verb)(USER))
    assert played.changes == [
        "systemctl --user reset-failed goss-supervisor.service",
        f"systemctl --user {verb} goss-supervisor.service",
    ]


def test_logs_are_the_journals(manager):
    for service in (SYSTEM, USER):
        tuple(manager.install(request(service), force=False))
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


# --- what a profile asks of a service


def test_the_time_for_a_stop_counts_every_step_of_the_ladder():
    from supervisor.cli.service_request import stop_seconds

    profile = Profile("p", stop=Stop(grace_seconds=10, insist_seconds=3))
    assert stop_seconds(profile) == 10 + 10 + 3 + 5
    assert stop_seconds(replace(profile, gateway=GatewaySettings(mode="off"))) == 10 + 3 + 5


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

    profile = Profile("p", listen=ListenSettings(host))
    assert request_of("user", profile, "").needs_network is needs


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

    def run(self, *words: str, code: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": f"{self.played.folder}:/usr/bin:/bin",
            "HOME": str(self.root / "nobody"),
            "XDG_CONFIG_HOME": str(self.root / "config"),
            "GOSS_SUPERVISOR_HOME": str(self.home),
            "HF_TOKEN": "hf_secret",
            **environ,
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


def test_a_worker_is_prepared_and_started_with_its_options(machine):
    engine = fake_server(machine.root / "llama-server")
    script(machine.root / "ggml-rpc-server", "exit 0\n")
    (machine.home / "config" / "profiles" / "worker.yaml").write_text(
        f"extends: worker\nengine: {{source: path, path: {engine}}}\n"
    )
    words = ("--user", "--worker", "--listen", "127.0.0.1:50059", "--devices", "CPU")
    machine.run("install", *words)
    command = "worker --listen 127.0.0.1:50059 --devices CPU"
    assert any(
        line.startswith("ExecStart=") and line.endswith(command)
        for line in machine.unit.read_text().splitlines()
    )
    assert machine.run("install", *words).stdout == "nothing to do: it is installed like this and runs\n"


def test_a_worker_of_a_service_needs_an_address_that_strangers_do_not_reach(machine):
    assert "--listen needs --worker" in machine.run("print", "--user", "--listen", "10.0.0.3", code=2).stderr
    assert "A worker needs the address" in machine.run("print", "--user", "--worker", code=2).stderr
    public = machine.run("install", "--user", "--worker", "--listen", "8.8.8.8", code=2).stderr
    assert "neither keys nor encryption" in public
    both = machine.run("print", "--user", "--worker", "--profile", "mine", code=2).stderr
    assert "omit --profile" in both
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
    assert again.stdout == "nothing to do: it is installed like this and runs\n"
    told = json.loads(machine.run("status", "--user", "--json").stdout)
    assert (told["schema"], told["running"], told["state"]) == (1, True, "active (running)")
    assert machine.run("logs", "--user").stdout == "the log\n"
    machine.run("stop", "--user")
    assert "inactive" in machine.run("status", "--user", code=3).stdout
    machine.run("start", "--user")
    machine.run("restart", "--user")
    removed = machine.run("uninstall", "--user")
    assert f"removed {machine.unit}" in removed.stdout
    assert f"profiles, models and other files are still in {machine.home}\n" in removed.stderr
    assert (machine.home / "config" / "profiles" / "mine.yaml").exists()
    machine.run("status", "--user", code=5)
    machine.run("uninstall", "--user")


def test_a_profile_that_cannot_be_prepared_installs_nothing(machine):
    profiles = machine.home / "config" / "profiles"
    (profiles / "broken.yaml").write_text("extends: mine\nengine: {path: /no/such/engine}\n")
    failed = machine.run("install", "--user", "--profile", "broken", code=5)
    assert "/no/such/engine" in failed.stderr
    assert failed.stderr.count("error: ") == 1
    assert not machine.unit.exists()
    assert machine.played.changes == []


def test_an_unknown_profile_names_where_the_services_own_ones_are(machine):
    failed = machine.run("install", "--user", "--profile", "nothing", code=5)
    assert str(machine.home / "config" / "profiles") in failed.stderr


def test_run_as_is_for_a_service_of_the_system(machine):
    assert "--run-as" in machine.run("install", "--user", "--run-as", "daemon", code=2).stderr


def test_the_hint_of_an_unknown_profile_ends_with_the_command(machine):
    failed = machine.run("print", "--user", "--profile", "nothing", code=5)
    hint = failed.stderr.splitlines()[-1]
    assert hint.startswith(f"hint: This service's own profiles are in {machine.home}/config/profiles. ")
    assert hint.endswith("goss-supervisor profile ls")


def test_an_engine_that_only_the_terminals_path_leads_to_is_refused_and_named(machine, tmp_path):
    engine = fake_server(tmp_path / "brew" / "llama-server")
    profile = machine.home / "config" / "profiles" / "brewed.yaml"
    profile.write_text("extends: mine\nengine: {source: system}\n")
    path = f"{machine.played.folder}:{engine.parent}:/usr/bin:/bin"
    failed = machine.run("install", "--user", "--profile", "brewed", code=5, PATH=path)
    assert "There is no llama-server on the PATH that a service has: /usr/local/sbin:" in failed.stderr
    assert f"engine: {{source: path, path: {engine}}}" in failed.stderr
    assert machine.played.changes == []


def test_preparing_finds_what_the_service_will_find(machine, tmp_path):
    """The engine writes down what it has; nothing of it may be of this shell alone."""
    engine = tmp_path / "llama-server"
    real = engine.rename(tmp_path / "real-server")
    script(engine, f'env >> {tmp_path}/env\nexec {real} "$@"\n')
    elsewhere = {"HF_HOME": str(tmp_path / "hf"), "LD_LIBRARY_PATH": "/elsewhere", "TMPDIR": str(tmp_path)}
    machine.run("install", "--user", "--profile", "mine", **elsewhere)
    seen = (tmp_path / "env").read_text().splitlines()
    assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" in seen
    assert f"HF_HOME={elsewhere['HF_HOME']}" in seen
    assert not [line for line in seen if line.startswith(("LD_LIBRARY_PATH=", "TMPDIR="))]
    assert f"Environment=HF_HOME={elsewhere['HF_HOME']}" in machine.unit.read_text()


def test_the_folder_of_logs_is_there_before_the_service(machine):
    machine.run("install", "--user", "--profile", "mine")
    assert (machine.home / "logs").stat().st_mode & 0o777 == 0o700


# --- gigabytes that nobody asked for

REPO, FILE = "ggml-org/gpt-oss-20b-GGUF", "gpt-oss-20b-mxfp4.gguf"
GIB = 1024**3


@pytest.fixture
def unnamed(machine, tmp_path):
    """`service install` without a profile, on a machine that one with a large model fits."""
    ours = (machine.home / "config" / "profiles" / "mine.yaml").read_text()
    mine = machine.home / "config" / "profiles" / "gpt-oss-20b.yaml"
    mine.write_text(ours.replace("extends: demo", "extends: gpt-oss-20b"))
    box = tmp_path / "box.json"
    cpu = Cpu("Some CPU", 8, 8, 16, ("avx2",))
    there = Hardware("linux", "x86_64", cpu=cpu, ram_bytes=32 * GIB, available_bytes=32 * GIB)
    box.write_text(json.dumps(to_json(there)))
    with FakeHub() as hub:
        hub.add(REPO, {FILE: ensure_demo(tmp_path / "made").read_bytes()})
        environ = {"GOSS_SUPERVISOR_HARDWARE": str(box), **hub.env}

        def install(*words: str, size_bytes: int = 12_100_000_000, code: int = 0) -> str:
            hub._entries[REPO][1]["size"] = size_bytes
            return machine.run("install", "--user", *words, code=code, **environ).stderr

        yield install


def test_without_a_terminal_gigabytes_of_a_profile_that_nobody_named_are_refused(machine, unnamed):
    refused = unnamed(code=2)
    assert "profile: gpt-oss-20b, which fits this machine best" in refused
    assert f"model    {REPO}, {FILE}: 12.1 GB to download" in refused
    assert "there is no terminal to ask on" in refused
    assert (
        "hint: goss-supervisor service install --yes, or goss-supervisor service install --profile" in refused
    )
    assert not (machine.home / "data" / "models" / REPO).exists()
    assert machine.played.changes == []


def test_yes_goes_past_that_question_and_nothing_else(machine, unnamed):
    said = unnamed("--yes", size_bytes=ensure_demo(machine.root / "made").stat().st_size)
    assert "MB to download" in said
    assert (machine.home / "data" / "models" / REPO / FILE).exists()
    assert "start --profile gpt-oss-20b" in machine.unit.read_text()


def test_a_profile_that_was_named_is_not_asked_about(machine, unnamed):
    said = unnamed("--profile", "gpt-oss-20b", size_bytes=ensure_demo(machine.root / "made").stat().st_size)
    assert "to download" not in said
    assert machine.unit.exists()


# --- without the rights


@pytest.fixture
def ordinary(monkeypatch):
    """This process, as if it were not root's."""
    monkeypatch.setattr(service_request, "is_root", lambda: False)
    monkeypatch.delenv("GOSS_SUPERVISOR_HOME", raising=False)
    monkeypatch.setattr(sys, "argv", ["/opt/goss/bin/goss-supervisor", "service", "install", "-p", "a b"])


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_what_is_roots_to_do_for_the_system_says_at_once_what_to_say_with_sudo(
    played, ordinary, capsys, verb
):
    assert main(["service", verb, "--system"]) == PermissionDenied.exit_code
    told = capsys.readouterr().err
    assert told.splitlines() == [
        "error: Only root may change a service of the whole system.",
        "hint: Use sudo: sudo /opt/goss/bin/goss-supervisor service install -p 'a b'",
    ]
    assert played.changes == []


def test_sudo_is_told_the_home_and_which_python(ordinary, monkeypatch):
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", "/srv/my models")
    monkeypatch.setattr(sys, "argv", ["/x/supervisor/__main__.py", "service", "install"])
    with pytest.raises(PermissionDenied) as refused:
        service_request.refuse_without_root("system")
    python = f"{sys.executable} -I -m supervisor"
    command = f"sudo env 'GOSS_SUPERVISOR_HOME=/srv/my models' {python} service install"
    assert refused.value.hint == f"Use sudo: {command}"


def test_a_users_own_service_needs_no_root(ordinary, manager):
    service_request.refuse_without_root("user")
    assert tuple(manager.install(request(USER), force=False))


def test_what_may_not_be_seen_is_no_error_of_an_uninstall(monkeypatch, tmp_path):
    """A home of 0700 hides what is below it; that it is there itself is no secret."""
    home = tmp_path / "home"
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(home))
    assert service_request.left_of("system") == ()
    home.mkdir(mode=0o000)
    assert service_request.left_of("system") == (str(home),)


def test_profiles_that_may_not_be_read_are_asked_for_with_sudo(played, ordinary, monkeypatch, capsys):
    def shut(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/var/lib/goss-supervisor/config/profiles")

    monkeypatch.setattr("supervisor.profile.resolve.resolve", shut)
    words = ["service", "print", "--system", "--profile", "x", "--run-as", "daemon"]
    assert main(words) == PermissionDenied.exit_code
    assert "hint: Use sudo: sudo /opt/goss/bin/goss-supervisor" in capsys.readouterr().err


# --- without a home folder


def nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "GOSS_SUPERVISOR_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("words", [["profile", "ls"], ["status"], ["service", "print"]])
def test_a_user_without_a_home_is_told_what_to_set(words, monkeypatch, capsys):
    nobody_knows(monkeypatch)
    assert main(words) == SupervisorError.exit_code
    assert capsys.readouterr().err.endswith("\nhint: Set HOME or GOSS_SUPERVISOR_HOME.\n")


def test_one_folder_for_all_is_home_enough(monkeypatch, tmp_path, capsys):
    nobody_knows(monkeypatch)
    monkeypatch.setenv("HOME", "")  # so that it is put back
    monkeypatch.delenv("HOME")
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path))
    assert main(["plan", "demo"]) == 0
    assert str(tmp_path) in capsys.readouterr().out


def test_a_home_of_a_user_who_does_not_exist_is_named(monkeypatch, capsys):
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", "~no-such-user/x")
    assert main(["profile", "ls"]) == SupervisorError.exit_code
    assert "GOSS_SUPERVISOR_HOME is ~no-such-user/x, and there is no such user." in capsys.readouterr().err
