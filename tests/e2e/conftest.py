"""The program as a user runs it: a home of its own, the real engines, free ports."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from supervisor.errors import NotRunning
from supervisor.home import client
from supervisor.paths import Paths

from ..fakes.launching import Seen, end_daemon, wait_until, without_waits

BUILT, EMBEDDED = "GOSS_TEST_LLAMA_SERVER", "GOSS_TEST_EMBEDDED_PYTHON"
KEPT = ("PATH", "LANG", "PIP_CERT", "PIP_USE_DEPRECATED", "SYSTEMROOT", "TEMP", "USERPROFILE")
PATIENCE = 60.0  # seconds; the bound of every wait, never its length


def until(look: Callable[[], Seen], why: str = "") -> Seen:
    return wait_until(look, why, PATIENCE)


@dataclass
class Home:
    """One GOSS_SUPERVISOR_HOME, and the program run in it."""

    root: Path
    engine: tuple[str, ...] = ()
    port: int = 0
    started: list[subprocess.Popen] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        return {
            **kept,
            "HOME": str(self.root / "nobody"),
            "GOSS_SUPERVISOR_HOME": str(self.root),
            "NO_COLOR": "1",
        }

    @property
    def settings(self) -> tuple[str, ...]:
        """Also one thread for the engine: more spin while they wait for each other, and other tests run beside."""
        threads = ("--set", "server.threads=1") if self.engine else ()
        return (*self.engine, *threads, "--set", f"listen.port={self.port}")

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-I", "-m", "supervisor", *words]

    def run(
        self, *words: str, code: int | None = 0, waits: bool = False, **more
    ) -> subprocess.CompletedProcess[str]:
        """Its stderr has the lines of a wait, which only a slow machine shows, where a test ``waits``."""
        done = subprocess.run(
            self.command(*words),
            env=self.env | more.pop("env", {}),
            capture_output=True,
            text=True,
            timeout=more.pop("timeout", PATIENCE * 2),
            **more,
        )
        assert code is None or done.returncode == code, (
            f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        if not waits:
            done.stderr = without_waits(done.stderr)
        return done

    def start(
        self, profile: str = "demo", *words: str, code: int | None = 0, **more
    ) -> subprocess.CompletedProcess[str]:
        return self.run("start", "--profile", profile, "--detach", *self.settings, *words, code=code, **more)

    def foreground(self, profile: str = "demo", *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self.command("start", "--profile", profile, *self.settings, *words),
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def ask_daemon(self, **request: object) -> dict:
        """The answer of the control socket, as our programs get it, without the time that one takes to start."""
        return client.ask(Paths.under(self.root), request)

    def status(self) -> dict:
        """What ``status --json`` prints (`test_commands` compares them)."""
        try:
            return self.ask_daemon(op="status")["status"]
        except NotRunning:
            return json.loads(self.run("status", "--json", code=None).stdout)  # it may have come meanwhile

    def watch_for(self, wanted) -> dict:
        """The first status on the daemon's own stream that ``wanted`` accepts: no polling, no sleeping."""
        deadline = time.monotonic() + PATIENCE
        with contextlib.closing(client.stream(Paths.under(self.root), {"op": "watch"})) as messages:
            for message in messages:
                now = message["status"]
                if wanted(now):
                    return now
                assert time.monotonic() < deadline, now
        raise AssertionError("the daemon went away")

    def profile(self, name: str, text: str) -> Path:
        path = self.root / "config" / "profiles" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def close(self) -> None:
        end_daemon(self.root)
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def engine_settings(kind: str, root: Path) -> tuple[str, ...]:
    """Settings that take one of the two real engines, or a skip with its reason."""
    variable = BUILT if kind == "built" else EMBEDDED
    found = os.environ.get(variable)
    if not found:
        pytest.skip(f"{variable} is not set: run bin/test")
    if kind == "built":
        return ("--set", "engine.source=path", "--set", f"engine.path={found}")
    engines = next(folder for folder in Path(found).parents if folder.name == "engines")
    (root / "data").mkdir(parents=True)
    (root / "data" / "engines").symlink_to(engines)
    return ("--set", "engine.source=embedded")


@pytest.fixture(params=["built", "embedded"])
def home(request, tmp_path):
    """A fresh home with each of the two engines."""
    made = Home(tmp_path, engine_settings(request.param, tmp_path), free_port())
    yield made
    made.close()


@pytest.fixture
def built_home(tmp_path):
    """A fresh home with the really built llama-server, for what does not depend on the engine."""
    made = Home(tmp_path, engine_settings("built", tmp_path), free_port())
    yield made
    made.close()
