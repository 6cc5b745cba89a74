"""A user's own service under real systemd, with logind: it runs from boot on, and nobody has to log in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.model.demo import DEMO_ANSWER

from .conftest import BUILT, until
from .systemd_machine import UID, USER, Machine, goss, why_not

PROJECT = Path(__file__).parents[2]
NEEDED = ("lib/systemd/systemd-logind", "lib/systemd/system/dbus.socket", "lib/systemd/system/user@.service")
PROFILE = 'extends: demo\nengine: {{source: path, path: "{engine}"}}\nserver: {{threads: 1}}\n'


@pytest.fixture
def machine(tmp_path):
    if reason := why_not():
        pytest.skip(reason)
    if BUILT not in os.environ:
        pytest.skip(f"{BUILT} is not set: run bin/test")
    if missing := [name for name in NEEDED if not Path("/", name).exists()]:
        pytest.skip(f"there is no /{missing[0]} here")
    programs = (PROJECT, Path(sys.prefix), Path(sys.base_prefix), Path(os.environ[BUILT]).parent)
    made = Machine(tmp_path, programs, users=True)
    profile = made.root / "lib" / USER / ".config" / "goss-supervisor" / "profiles" / "night.yaml"
    profile.parent.mkdir(parents=True)
    profile.write_text(PROFILE.format(engine=os.environ[BUILT]))
    try:
        made.boot()
        made.run("chown", "-R", f"{USER}:", f"/var/lib/{USER}")
        yield made
    finally:
        made.power_off()


ASKS = """
import json, sys, urllib.request
body = json.dumps({"messages": [{"role": "user", "content": "What are you?"}]}).encode()
asked = urllib.request.Request("http://127.0.0.1:8080/v1/chat/completions", body, {"Content-Type": "application/json"})
print(json.load(urllib.request.urlopen(asked, timeout=30))["choices"][0]["message"]["content"])
"""


def test_a_logout_that_removes_the_runtime_folder_costs_nothing(machine):
    """A daemon that `start -d` left behind outlives the session; logind removes its folder, and makes it anew."""
    runtime = f"/run/user/{UID}"
    machine.run("loginctl", "enable-linger", USER)  # as a session does
    until(lambda: machine.run("test", "-d", runtime, code=None).returncode == 0)
    by_user(machine, *goss("start", "--profile", "night", "--detach"))
    before = json.loads(by_user(machine, *goss("status", "--json")).stdout)["server"]
    machine.run("loginctl", "disable-linger", USER)
    machine.run("loginctl", "terminate-user", USER, code=None)
    until(lambda: machine.run("test", "-e", runtime, code=None).returncode)
    assert machine.run(sys.executable, "-c", ASKS).stdout.strip() == DEMO_ANSWER
    machine.run("loginctl", "enable-linger", USER)
    until(lambda: by_user(machine, *goss("status"), code=None).returncode == 0)
    after = json.loads(by_user(machine, *goss("status", "--json")).stdout)["server"]
    assert (after["pid"], after["restarts"]) == (before["pid"], 0)
    by_user(machine, *goss("stop"))


def by_user(machine: Machine, *command: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """As one who came by su: there is no session, but the way to the user's manager is known."""
    folders = (f"HOME=/var/lib/{USER}", f"XDG_RUNTIME_DIR=/run/user/{UID}")
    who = (
        "setpriv",
        f"--reuid={UID}",
        f"--regid={UID}",
        "--init-groups",
        "env",
        "-u",
        "GOSS_SUPERVISOR_HOME",
    )
    return machine.run(*who, *folders, *command, code=code)


def is_up(machine: Machine) -> bool:
    told = by_user(machine, "systemctl", "--user", "is-active", "goss-supervisor", code=None)
    return told.stdout.strip() == "active"


def test_a_users_service_runs_from_boot_on_if_that_user_lingers(machine):
    install = goss("service", "install", "--profile", "night")
    assert "loginctl enable-linger" in by_user(machine, *install, code=1).stderr  # that user has no manager
    machine.run("loginctl", "enable-linger", USER)
    until(
        lambda: by_user(machine, "systemctl", "--user", "is-system-running", code=None).stdout == "running\n"
    )
    assert "started, and ready" in by_user(machine, *install).stdout
    by_user(machine, "systemctl", "--user", "reload", "goss-supervisor")

    machine.power_off()
    machine.boot()
    until(lambda: is_up(machine))
    assert by_user(machine, *goss("ask", "What are you?")).stdout.strip() == DEMO_ANSWER
    told = by_user(machine, *goss("service", "status")).stdout
    assert re.search(r"starts by itself +at boot", told)

    assert "disable-linger" in by_user(machine, *goss("service", "uninstall")).stdout
    left = (machine.root / "lib" / USER / ".config" / "systemd").rglob("*")
    assert [path for path in left if not path.is_dir()] == []
