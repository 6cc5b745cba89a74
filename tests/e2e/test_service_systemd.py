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
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.model.demo import DEMO_ANSWER
from supervisor.service.account import existing_groups
from supervisor.service.systemd import GPU_GROUPS, NOTIFY_RELOAD

from .conftest import BUILT, PATIENCE, until
from .gateway_load import CHAT, QUESTION
from .systemd_machine import GPU, HOME, UNIT, USER, Machine, goss, why_not

PROJECT = Path(__file__).parents[2]
PROFILE = """
extends: demo
engine: {{source: path, path: "{engine}"}}
server: {{ctx-size: {context}, threads: 1}}
stop: {{grace: {grace}s, insist: 1s}}
"""
DROP_IN = f"""
[Service]
WatchdogSec=5
RestartSec=100ms
RestartMaxDelaySec=200ms
LimitCORE=0
ExecStartPost=/bin/sh -c '{shlex.join(goss("status", "--json"))} > {HOME}/at-ready.json'
"""
DOWNLOAD = f"""
import os, pathlib, time
from supervisor.daemon.service_notify import with_notify_progress
from supervisor.progress import Silent
with_notify_progress(Silent(), os.environ).step("as if a model were downloaded")
time.sleep(7)
pathlib.Path("{HOME}/downloaded").touch()
"""
INSTALL = ("service", "install", "--system", "--profile", "night", "--run-as", "root")
START_LIMIT = 2  # the unit has 5 (tests/unit/service_units), which shows the same in twice the time
PORT = 8080  # the default


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


@contextmanager
def changed(machine: Machine, settings: str):
    """With these settings more in the unit; gives the file that they are in."""
    drop_in = machine.root / "test" / f"{UNIT}.d" / "zz.conf"
    drop_in.write_text(f"[Service]\n{settings}\n")
    machine.run("systemctl", "daemon-reload")
    yield drop_in
    drop_in.unlink()
    machine.run("systemctl", "daemon-reload")


@pytest.fixture
def impatient(machine):
    with changed(machine, "TimeoutStartSec=5") as drop_in:  # a command of ours takes 2 on a busy machine
        yield drop_in


@pytest.fixture
def seldom_tried(machine):
    with changed(machine, f"[Unit]\nStartLimitBurst={START_LIMIT}") as drop_in:
        yield drop_in


@pytest.fixture
def slow_to_try_again(machine):
    with changed(machine, "RestartSec=1h\nRestartMaxDelaySec=1h") as drop_in:
        yield drop_in


def write_profile(
    machine: Machine, *, context: int = 4096, grace: int = 20, engine: str = "", home: Path | None = None
) -> None:
    file = (home or machine.home) / "config" / "profiles" / "night.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(PROFILE.format(engine=engine or os.environ[BUILT], context=context, grace=grace))


def write_wrong_profile(machine: Machine) -> None:
    (machine.home / "config" / "profiles" / "night.yaml").write_text("extends: demo\nsever: {}\n")


def engine_that_begins_with(act: str, folder: Path, inside: str) -> str:
    """The real one; a script of it in ``folder``, which is ``inside`` of the machine, acts before it loads."""
    script = folder / "script" / "llama-server"
    script.parent.mkdir(exist_ok=True)
    script.write_text(f'#!/bin/sh\ncase "$*" in *--model*) {act} ;; esac\nexec {os.environ[BUILT]} "$@"\n')
    script.chmod(0o755)
    return f"{inside}/script/llama-server"


def systemd_version(machine: Machine) -> int:
    return int(machine.run("systemctl", "--version").stdout.split()[1])


def logged(machine: Machine) -> str:
    """All that `service logs` shows; journald may be a moment behind."""
    machine.run("journalctl", "--sync")
    return machine.goss("service", "logs", "--system").stdout


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
    assert re.search(r"starts by itself +at boot", told)


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


@pytest.mark.parametrize("how", ["KILL", "STOP"])  # a daemon that hangs is ended by the watchdog
def test_a_daemon_that_is_killed_or_hangs_comes_back_and_takes_its_engine_over(service, how):
    pid, engine = service.show("MainPID"), service.status()["server"]["pid"]
    service.kill(how, pid)
    assert back_after(service, pid)["NRestarts"] == "1"
    assert at_ready(service)["server"]["state"] == "ready"
    assert service.status()["server"]["pid"] == engine
    assert service.processes() == 2  # a daemon and its engine
    assert answers(service)


CLIENT = f"""
import http.client, json, pathlib, sys, time
body, port = json.dumps({QUESTION!r}), int(sys.argv[1])
over = pathlib.Path(sys.argv[2])
while not over.exists():
    began = time.monotonic()
    try:
        asked = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        asked.request("POST", {CHAT!r}, body, {{"Content-Type": "application/json"}})
        answer = asked.getresponse()
        became = "whole" if {DEMO_ANSWER!r} in answer.read().decode() else str(answer.status)
        asked.close()
    except Exception as error:
        became = type(error).__name__
    print(json.dumps([became, time.monotonic() - began]), flush=True)
    time.sleep(0 if became == "whole" else 0.1)
"""
"""A client with a connection for each request; it prints what became of each, and after how many seconds."""
CONNECT = f"import socket; socket.create_connection(('127.0.0.1', {PORT}), 60)"


@contextmanager
def clients(machine: Machine, count: int = 3):
    """They ask without pause; gives a list that has what became of each request when they have ended."""
    (machine.root / "test" / "client.py").write_text(CLIENT)
    over = machine.root / "test" / "over"
    asked: list[tuple[str, float]] = []
    words = (sys.executable, "/run/test/client.py", str(PORT), "/run/test/over")
    processes = [machine.begin(*words) for _ in range(count)]
    try:
        for each in processes:
            assert json.loads(each.stdout.readline())[0] == "whole"
        yield asked
    finally:
        over.touch()
        for each in processes:
            asked += [tuple(json.loads(line)) for line in each.communicate(timeout=PATIENCE)[0].splitlines()]
        over.unlink()


def test_clients_are_not_refused_while_a_killed_daemon_comes_back_but_wait(service):
    pid = service.show("MainPID")
    with clients(service) as asked:
        service.kill("KILL", pid)
        back_after(service, pid)
        assert answers(service)
    became = Counter(what for what, _ in asked)
    assert "ConnectionRefusedError" not in became
    assert became.total() - became["whole"] <= 3, became  # what was under way, or on its way
    longest = max(seconds for what, seconds in asked if what == "whole")
    print(f"{became}, the longest wait {longest:.2f} s")
    assert "the service manager has kept" in logged(service)


def test_while_a_stop_lets_a_request_end_others_are_refused_and_nothing_is_kept(service):
    asked, engine = ask_a_frozen_engine(service)
    service.run("systemctl", "stop", "--no-block", UNIT)
    refused = until(lambda: service.run(sys.executable, "-c", CONNECT, code=None).stderr)
    assert "ConnectionRefusedError" in refused
    assert service.shows("ActiveState", "NFileDescriptorStore") == {
        "ActiveState": "deactivating",
        "NFileDescriptorStore": "0",
    }
    service.kill("CONT", engine)
    assert DEMO_ANSWER in asked.communicate(timeout=PATIENCE)[0]


def test_the_manager_keeps_one_socket_over_kills_and_upgrades(service):
    for _ in range(2):
        pid = service.show("MainPID")
        service.kill("KILL", pid)
        back_after(service, pid)
        service.goss("upgrade-daemon")
        assert service.show("NFileDescriptorStore") == "1"
    assert answers(service)


def test_a_start_by_hand_while_systemd_keeps_the_port_says_so(service, slow_to_try_again):
    service.kill("KILL", service.show("MainPID"))
    until(lambda: service.show("SubState").startswith("auto-restart"))
    refused = service.goss("start", "--profile", "night", "--detach", code=10)
    assert f"Port {PORT} is taken by systemd (pid 1)" in refused.stderr
    assert "goss-supervisor service start" in refused.stderr
    service.goss("service", "start", "--system")
    assert answers(service)


# What it says

ENGINES_LINE = re.compile(r"\d+\.\d\d\.\d{3}\.\d{3} ([EWI]) ")


def test_the_journal_has_our_lines_and_llama_servers_each_as_important_as_it_is(service):
    service.run("journalctl", "--sync")
    told = service.run("journalctl", "--unit", UNIT, "--output", "json").stdout
    lines = [(each["PRIORITY"], each["MESSAGE"]) for each in map(json.loads, told.splitlines())]
    assert {(found[1], how) for how, line in lines if (found := ENGINES_LINE.match(line))} == {
        ("I", "6"),
        ("W", "4"),
    }
    assert {how for how, line in lines if line.startswith("night: ready at ")} == {"6"}
    assert "llama_server: model loaded" in logged(service)


def test_what_a_program_of_the_unit_says_has_its_importance_too(service):
    write_wrong_profile(service)
    service.run("systemctl", "reload", UNIT, code=None)
    service.run("journalctl", "--sync")
    told = service.run("journalctl", "--unit", UNIT, "--priority", "err", "--output", "cat").stdout
    assert "sever: no such key" in told


# It is told to do something


def test_reload_returns_when_the_changed_profile_runs(service):
    pid, digest = service.show("MainPID"), service.status()["server"]["digest"]
    write_profile(service, context=2048)
    service.run("systemctl", "reload", UNIT)
    now = service.status()["server"]
    assert now["state"] == "ready"
    assert now["digest"] != digest
    assert service.shows("MainPID", "ActiveState") == {"MainPID": pid, "ActiveState": "active"}


def test_a_reload_of_a_wrong_profile_fails_only_where_a_program_does_it_and_the_old_one_serves_on(service):
    before = service.status()["server"]
    write_wrong_profile(service)
    done = service.run("systemctl", "reload", UNIT, code=None)
    if systemd_version(service) < NOTIFY_RELOAD:
        assert done.returncode == 1
        assert "Job for goss-supervisor.service failed" in done.stderr
    else:  # Type=notify-reload has no word for it
        assert done.returncode == 0
    assert "sever: no such key" in logged(service)
    assert service.status()["server"]["pid"] == before["pid"]
    assert service.show("ActiveState") == "active"
    assert answers(service)


def test_a_reload_may_take_longer_than_the_unit_gives_it(service, impatient):
    slow = engine_that_begins_with("sleep 8", service.home, HOME)
    write_profile(service, context=1024, engine=slow)
    service.run("systemctl", "reload", UNIT)
    assert service.status()["server"]["state"] == "ready"
    assert answers(service)


def test_a_program_that_reloads_may_take_longer_too_while_it_goes_on(service, impatient):
    if systemd_version(service) >= NOTIFY_RELOAD:
        pytest.skip("there the daemon reloads")
    script = service.root / "test" / "download.py"
    script.write_text(DOWNLOAD)
    reload = f"ExecReload=\nExecReload={sys.executable} /run/test/download.py"
    impatient.write_text(f"{impatient.read_text()}{reload}\n")
    service.run("systemctl", "daemon-reload")
    service.run("systemctl", "reload", UNIT)
    assert (service.home / "downloaded").exists()
    assert service.show("StatusText").startswith("night: ready at ")


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
    write_wrong_profile(service)
    service.goss("service", "restart", "--system", "--full", code=10)
    wanted = {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0", "Result": "exit-code"}
    assert service.shows(*wanted) == wanted
    assert "ended with exit-code 78" in service.goss("service", "status", "--system", code=3).stdout
    write_profile(service)
    service.goss("service", "start", "--system")
    assert answers(service)


def test_what_fails_too_often_stays_down_until_a_person_starts_it(seldom_tried, service):
    for _ in range(START_LIMIT):
        pid = service.show("MainPID")
        service.kill("KILL", pid)
        back_after(service, pid)
    service.kill("KILL", service.show("MainPID"))
    until(lambda: service.show("ActiveState") == "failed")
    assert service.processes() == 1  # its server, which the next start takes over
    service.goss("service", "start", "--system")
    assert answers(service)


def test_who_starts_it_more_often_than_the_limit_is_not_counted(seldom_tried, service):
    for _ in range(START_LIMIT + 1):
        service.goss("service", "restart", "--system", "--full")
    assert service.show("ActiveState") == "active"


def test_a_start_between_two_tries_does_not_wait_for_the_next(service, slow_to_try_again):
    service.kill("KILL", service.show("MainPID"))
    until(lambda: service.show("SubState").startswith("auto-restart"))
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


# As an ordinary user, with files elsewhere, and a GPU

ELSEWHERE = "/var/lib/elsewhere"
LOOK = f"if true 3<>/{GPU}; then echo yes; else echo no; fi > {ELSEWHERE}/opened 2>&1"


@pytest.fixture(scope="module")
def ordinary(machine):
    """The service, as `USER`; its engine tells in a file whether it could open the GPU."""
    if "video" not in existing_groups(GPU_GROUPS):
        pytest.skip("there is no group video here")
    drop_in = machine.root / "test" / f"{UNIT}.d" / "zz.conf"
    drop_in.write_text("[Service]\nExecStartPost=\n")
    folder = machine.root / "lib" / "elsewhere"
    folder.mkdir()
    engine = engine_that_begins_with(LOOK, folder, ELSEWHERE)
    write_profile(machine, engine=engine, home=folder)
    machine.run("chown", "-R", f"{USER}:", ELSEWHERE)
    words = ("service", "install", "--system", "--profile", "night", "--run-as", USER)
    machine.run(*goss(*words), environ={"GOSS_SUPERVISOR_HOME": ELSEWHERE})
    yield machine
    drop_in.unlink()
    machine.goss("service", "uninstall", "--system")


def could_open(machine: Machine, setting: str = "") -> str:
    """What the engine told, with one setting more in the unit."""
    file = machine.root / "lib" / "elsewhere" / "opened"
    file.unlink()
    drop_in = machine.root / "test" / f"{UNIT}.d" / "zz.conf"
    drop_in.write_text(f"[Service]\nExecStartPost=\n{setting}\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", UNIT)
    return file.read_text().split()[-1]


def test_an_ordinary_user_may_open_a_gpu_that_our_settings_neither_hide_nor_shut(ordinary):
    """By namespace and group; rules of the device cgroup need BPF, and may have no effect in such a machine."""
    assert ordinary.show("User") == USER
    assert could_open(ordinary) == "yes"
    assert could_open(ordinary, "PrivateDevices=yes") == "no"
    assert could_open(ordinary, "SupplementaryGroups=") == "no"


def test_another_user_and_folder_change_nothing_of_a_reload(ordinary):
    home = ordinary.root / "lib" / "elsewhere"
    before = ordinary.shows("MainPID", "ActiveState")
    (home / "opened").unlink()
    write_profile(ordinary, context=2048, engine=f"{ELSEWHERE}/script/llama-server", home=home)
    ordinary.run("systemctl", "reload", UNIT)
    assert (home / "opened").exists()  # the changed profile was launched
    assert ordinary.shows("MainPID", "ActiveState") == before
