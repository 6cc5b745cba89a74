"""The program is replaced while its daemon runs, as by pip, pipx or uv; what runs goes on, and can be ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from .. import wheels
from .conftest import BUILT, Home, engine_settings, free_port, is_free, until
from .gateway_load import Clients, Traffic, demo_profile
from .systemd_machine import UNIT, Machine, why_not
from .test_gateway_profiles import n_ctx, states
from .test_serve import served
from .test_service_systemd import INSTALL, write_profile

pytest.importorskip("hatchling", reason="the build backend; in the group dev")
pytest.importorskip("pip", reason="it installs the wheels")

OLD, NEW = "0.0.8", "0.0.9"
PARTS = ("daemon", "server")
PROTOCOL_2 = {"supervisor/home/client.py": ('"protocol": 1', '"protocol": 2')}


@dataclass
class Installed(Home):
    """The program is the one that is installed in ``environment``."""

    environment: wheels.Environment | None = None

    def command(self, *words: str) -> list[str]:
        return [str(self.environment.program), *words]


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    return wheels.wheel_of(OLD, tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    return wheels.wheel_of(NEW, tmp_path_factory.mktemp("new"))


@pytest.fixture
def installed(kind, old, tmp_path):
    """A home whose program is the old one."""
    environment = wheels.Environment(tmp_path / "environment")
    environment.install(old)
    root = tmp_path / "home"
    settings, port = engine_settings(kind, root), free_port()
    yield Installed(root, settings, port, environment=environment)
    of_checkout(root).close()


def of_checkout(root: Path) -> Home:
    """The same home, for where the installed program is no more."""
    return Home(root)


def kill_the_server(home: Home) -> None:
    os.kill(home.status()["server"]["pid"], signal.SIGKILL)


def is_healed(now: dict) -> bool:
    return now["server"]["state"] == "ready" and now["server"]["restarts"] == 1


def get(home: Home, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{home.port}{path}", timeout=60) as answer:
        assert answer.status == 200
        return answer.read().decode()


@pytest.mark.parametrize("kind", ["built", "embedded"])
def test_a_daemon_goes_on_while_its_program_is_replaced_and_the_new_one_commands_it(installed, new):
    installed.start()
    before = installed.status()
    installed.environment.install(new)
    assert NEW in installed.run("--version").stdout
    assert "demo model" in installed.run("ask", "What are you?").stdout
    kill_the_server(installed)
    after = installed.watch_for(is_healed)
    assert after["daemon"]["pid"] == before["daemon"]["pid"]
    installed.run("restart")
    now = installed.status()
    assert (now["daemon"]["version"], now["server"]["state"]) == (OLD, "ready")
    assert now["server"]["pid"] != after["server"]["pid"]
    installed.run("stop")
    assert is_free(installed.port)
    installed.start()
    assert installed.status()["daemon"]["version"] == NEW


@pytest.mark.parametrize("kind", ["built"])
def test_status_names_a_daemon_of_another_version_and_what_replaces_it(installed, new):
    installed.start()
    assert "version" not in installed.run("status").stdout
    installed.environment.install(new)
    said = installed.run("status").stdout
    assert f"version {OLD}" in said
    assert f"version {NEW}" in said
    assert "goss-supervisor upgrade-daemon" in said


@pytest.mark.parametrize("kind", ["built"])
def test_no_client_of_a_real_engine_notices_an_upgrade_in_place(installed, new):
    demo_profile(installed, "one")
    installed.run("start", "--profile", "one", "--detach")
    clients = Clients(installed.root, installed.port)

    async def run():
        before = await clients.status()
        long = clients.endless()
        await long.until_begun()
        async with Traffic.of(clients, 8) as traffic:
            await traffic.more(8)
            await asyncio.to_thread(installed.environment.install, new)
            said = await asyncio.to_thread(installed.run, "upgrade-daemon")
            assert f"version {NEW}, upgraded from {OLD}" in said.stdout
            size = len(long.answer.body)
            await traffic.more(8)
        assert traffic.outcomes == {"whole": len(traffic.answers)}
        assert len(long.answer.body) > size  # a copy goes on with it
        await long.leave()
        after = await clients.status()
        assert after["daemon"]["version"] == NEW
        assert [after[each]["pid"] for each in PARTS] == [before[each]["pid"] for each in PARTS]
        await clients.until_busy()

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["built"])
def test_a_daemon_that_runs_needs_nothing_of_its_program_any_more(installed):
    """So no upgrade can give it a file of another version."""
    installed.start()
    before = installed.status()
    installed.environment.uninstall()
    other = of_checkout(installed.root)
    kill_the_server(other)
    after = other.watch_for(is_healed)
    assert after["daemon"]["pid"] == before["daemon"]["pid"]
    assert json.loads(get(installed, "/supervisor/health"))["state"] == "ready"
    assert "goss_supervisor_requests_total" in get(installed, "/metrics")
    other.run("restart", "--set", "log-verbosity=4")  # at which it keeps figures
    other.run("stop")
    assert (installed.root / "logs" / "daemon.out").read_text() == ""


@pytest.mark.parametrize("kind", ["built"])
def test_a_daemon_of_another_protocol_is_told_plainly_and_can_be_stopped(installed, tmp_path):
    installed.start()
    installed.environment.install(wheels.wheel_of(NEW, tmp_path / "other", PROTOCOL_2))
    refused = installed.run("status", code=1)
    assert "error: This daemon speaks protocol 1" in refused.stderr
    assert "goss-supervisor stop" in refused.stderr
    assert installed.run("stop").stdout == "demo: stopped\n"
    assert is_free(installed.port)


# --- one server, before there were several

RECORD_0_1 = {"server": "default", "state": "stopped", "why": "asked to stop", "profile": "one", "port": 1}


def test_a_home_from_before_several_servers_and_its_gateway_models_are_served_as_before(built_home):
    """The last profile is started again, and nothing next to it; a request for another one loads that."""
    demo_profile(built_home, "two", server={"ctx-size": 2048, "parallel": 1})
    demo_profile(built_home, "one", gateway={"models": ["two"], "max-loaded": 1, "min-warm": "0s"})
    (built_home.root / "state").mkdir()
    record = RECORD_0_1 | {"identity": None, "failure": None}
    (built_home.root / "state" / "default.json").write_text(json.dumps(record))
    assert "one is ready" in built_home.run("start", "--detach").stdout
    clients = Clients(built_home.root, built_home.port)

    async def run():
        assert served(await clients.status()) == {"one": "ready", "two": "unloaded"}
        assert await n_ctx(clients, model="whatever") == 8192
        assert await n_ctx(clients, model="two-alias") == 2048
        assert await n_ctx(clients, model="whatever") == 2048  # whichever is loaded
        assert await states(clients) == {"one": "sleeping", "two": "ready"}
        assert await n_ctx(clients, model="one") == 8192

    asyncio.run(run())


# --- as a service


@pytest.fixture
def machine(old, tmp_path):
    """One with systemd; and the environment that holds the old program, for everybody to see."""
    if reason := why_not():
        pytest.skip(reason)
    if BUILT not in os.environ:
        pytest.skip(f"{BUILT} is not set: run bin/test")
    folder, root = tmp_path / "environment", tmp_path / "machine"
    environment = wheels.Environment(folder)
    environment.install(old)
    programs = (folder, Path(sys.prefix), Path(sys.base_prefix), Path(os.environ[BUILT]).parent)
    made = Machine(root, programs)
    drop_in = root / "test" / f"{UNIT}.d" / "test.conf"
    drop_in.parent.mkdir(parents=True)
    kept = "".join(f"BindReadOnlyPaths={path}\n" for path in made.kept)  # PrivateTmp= would hide them
    drop_in.write_text(f"[Service]\nWatchdogSec=15\n{kept}")
    made.home.mkdir(parents=True, mode=0o700)
    write_profile(made)
    try:
        made.boot()
        yield made, environment
    finally:
        made.power_off()


def test_a_service_goes_on_through_an_upgrade_and_its_restart_runs_the_new_program(machine, new):
    machine, environment = machine

    def goss(*words: str, code: int | None = 0) -> str:
        return machine.run(str(environment.program), *words, code=code).stdout

    def status() -> dict:
        return json.loads(goss("status", "--json", code=None))

    def shown(name: str) -> str:
        return machine.run("systemctl", "show", "--value", f"--property={name}", UNIT).stdout.strip()

    goss(*INSTALL)
    before = status()
    environment.install(new)
    machine.kill("KILL", before["server"]["pid"])
    after = until(lambda: is_healed(now := status()) and now)
    assert (after["daemon"]["pid"], after["daemon"]["version"]) == (before["daemon"]["pid"], OLD)
    goss("service", "restart", "--system")
    now = status()
    assert (now["daemon"]["version"], now["server"]["state"]) == (NEW, "ready")
    assert [now[each]["pid"] for each in PARTS] == [after[each]["pid"] for each in PARTS]  # in place
    pinged = shown("WatchdogTimestampMonotonic")
    until(lambda: shown("WatchdogTimestampMonotonic") != pinged)
    assert (shown("MainPID"), shown("NRestarts")) == (str(now["daemon"]["pid"]), "0")
    goss("service", "restart", "--system", "--full")
    assert status()["daemon"]["pid"] != now["daemon"]["pid"]
    goss("service", "uninstall", "--system")
    assert machine.processes() == 0
