"""Where faults happen: a home of its own with models that each give an answer of their own."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

from supervisor.errors import NotRunning, SupervisorError
from supervisor.model import demo

from ..e2e.conftest import BUILT, Home, free_port, is_free, until
from ..e2e.gateway_load import demo_profile
from ..fakes.binaries import fake_server
from ..fakes.manager import FakeManager
from .bystander import Bystander
from .load import HUNG_SECONDS, Load, Question, ask, questions_of

NAMES = ("one", "two", "three")
_LOOK_SECONDS = 0.05
# So that a hang is found within seconds; what takes minutes by default is named with the fault.
QUICK = {
    "health": {"interval": "0.5s", "timeout": "1s", "hang-timeout": "4s"},
    "stop": {"grace": "3s", "insist": "1s"},
    "restart": {"max": 1000, "backoff": "0.1s", "backoff-limit": "0.2s"},
}


def answer_of(name: str) -> str:
    """No two models say the same, so an answer of the wrong one is seen."""
    return demo.DEMO_ANSWER.replace("Hello!", f"Hello from {name}!")


@dataclass
class Ground(Home):
    """
    ``names`` are the models that clients ask for; the first one is the main server's.  With a ``manager`` the daemon
    is started as systemd does it, with the sockets that the last one left open.
    """

    names: Sequence[str] = NAMES[:1]
    manager: FakeManager | None = None
    strangers: list[Bystander] = field(default_factory=list)
    took: float | None = None  # seconds until all was well again, where that was measured
    after: ExitStack = field(default_factory=ExitStack)  # what is undone once its daemon has ended

    @classmethod
    @contextmanager
    def fresh(cls, root: Path) -> Iterator[Ground]:
        ground = cls(root, port=free_port())
        (root / "tmp").mkdir(parents=True)
        with ground.after:
            try:
                yield ground
            finally:
                ground.close()

    @property
    def env(self) -> dict[str, str]:
        return {**super().env, "TMPDIR": str(self.root / "tmp")}

    # --- what runs

    def serve(self, names: Sequence[str] = NAMES[:1], **sections: Any) -> None:
        """Start the real llama-server with these models, each loaded."""
        self.names = names
        for name in reversed(names):
            self.write_profile(name, **sections)
        self.up()
        self.recover(time.monotonic())

    def write_profile(self, name: str, **sections: Any) -> None:
        model = self.root / "data" / "models" / f"{name}.gguf"
        if not model.exists():
            model.parent.mkdir(parents=True, exist_ok=True)
            with patch.object(demo, "DEMO_ANSWER", answer_of(name)):
                demo.write_demo(model)
        given = QUICK | {"model": {"path": str(model)}} | sections
        offered = {"models": [each for each in self.names if each != self.names[0]]}
        given["gateway"] = offered | given.get("gateway", {})
        demo_profile(self, name, **given)

    def scripted(self, name: str = "one", *, sections: dict[str, Any] | None = None, **faults: Any) -> None:
        """A profile whose engine is the scripted llama-server with these faults; it is not started."""
        binary = fake_server(self.root / f"engine-{name}" / "llama-server", says=answer_of(name), **faults)
        demo_profile(self, name, engine={"source": "path", "path": str(binary)}, **QUICK | (sections or {}))

    def up(self) -> None:
        """What a service manager and its people do: start a daemon that is gone, load a model that was stopped."""
        self.revive()
        for each in self.status()["servers"]:
            if each["state"] in {"stopped", "failed"}:
                self.run("load", each["profile"], code=None, timeout=HUNG_SECONDS)

    def revive(self) -> None:
        """Start a daemon that is gone."""
        if not self.is_there():
            if self.manager is None:
                self.run("start", "--profile", self.names[0], "--detach", timeout=HUNG_SECONDS)
            else:
                self._start_by(self.manager)

    def _start_by(self, manager: FakeManager) -> None:
        manager.rest()
        process = subprocess.Popen(
            manager.command(*self.command("start", "--profile", self.names[0])),
            env=self.env | manager.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=tuple(manager.stored.values()),
            start_new_session=True,
        )
        self.started.append(process)

        def is_ready() -> bool:
            assert process.poll() is None, f"start ended with {process.returncode}"
            return any("READY" in message for message in manager.rest())

        until(is_ready, "start does not become ready")

    def load(self, workers: int = 6, seed: int = 0) -> Load:
        return Load(self.port, {name: questions_of(answer_of(name)) for name in self.names}, workers, seed)

    # --- who runs

    def daemon(self) -> psutil.Process:
        return psutil.Process(self.status()["daemon"]["pid"])

    def server(self, name: str = "") -> psutil.Process:
        """Of this profile.  Waits until it has a process."""
        wanted = name or self.names[0]

        def pid(now: dict[str, Any]) -> int | None:
            return next((each["pid"] for each in now["servers"] if each["profile"] == wanted), None)

        return psutil.Process(pid(self.watch_for(pid)))

    def servers(self) -> dict[str, int | None]:
        return {each["profile"]: each["pid"] for each in self.status()["servers"]}

    def until_state(self, state: str, name: str = "") -> dict[str, Any]:
        """The server of this profile, once it is in this state."""
        wanted = name or self.names[0]

        def found(now: dict[str, Any]) -> list[dict[str, Any]]:
            return [each for each in now["servers"] if (each["profile"], each["state"]) == (wanted, state)]

        return found(self.watch_for(found))[0]

    # --- what is seen

    def question(self, name: str) -> Question:
        return questions_of(answer_of(name))[0]

    def ask(self, name: str = "") -> str:
        """What became of one request."""
        name = name or self.names[0]
        asked = asyncio.run(ask(self.port, self.question(name), name))
        return asked.verdict if asked.verdict == "whole" else f"{asked.verdict}: {asked.detail}"

    def recover(self, since: float, seconds: float = HUNG_SECONDS) -> float:
        """Until each model answers whole again: how long that took since this moment, kept as ``took``."""
        self.took = None
        for name in self.names:
            with suppress(SupervisorError):
                self.revive()  # clients that wait for it are not refused
            while (became := self.ask(name)) != "whole":
                assert time.monotonic() - since < seconds, f"{name} after {seconds:.0f} s: {became}"
                with suppress(SupervisorError):
                    self.up()
                time.sleep(_LOOK_SECONDS)
        self.took = time.monotonic() - since
        return self.took

    def refused(self, code: int, *words: str, start: Sequence[str] = ("start", "-p", "one", "-d")) -> str:
        """A command that ends so, says all of this, shows no traceback, and leaves no daemon."""
        done = self.run(*start, code=code)
        said = done.stderr
        assert "Traceback" not in said, said
        for word in words:
            assert word in said, f"{word!r} is not in {said!r}"
        if start[0] == "start":
            assert self.run("status", code=3)
            assert is_free(self.port)
        return f"exit code {code}: {self.plain(said)}"

    def plain(self, text: str) -> str:
        """The line of an error, without what differs from run to run."""
        line = next((line for line in text.splitlines() if line.startswith("error: ")), text.strip())
        line = line.removeprefix("error: ").replace(os.environ[BUILT], "llama-server")
        line = line.replace(str(self.root), "HOME").replace(str(self.port), "PORT").replace("|", "\\|")
        return line if len(line) < 200 else f"{line[:197]}…"

    def goes_on(self) -> str:
        """The next start works, with the scripted server, and leaves nothing at its end."""
        began = time.monotonic()
        self.scripted()
        self.up()
        self.recover(began)
        return f"the next start answers; {self.end()}"

    def end(self) -> str:
        """Stop it, and nothing is left."""
        self.run("stop")
        assert not (left := self.leftovers()), left
        return "stopped, nothing left"

    def leftovers(self) -> list[str]:
        """Processes of this home, sockets, held locks and temporary files, once its daemon has ended."""
        left = [f"process {each.pid}: {' '.join(words)}" for each, words in self.commands().items()]
        held = set(Path("/proc/locks").read_text(encoding="ascii").split())
        left += [f"lock {path}" for path in self.root.rglob("*.lock") if _in_proc(path) in held]
        names = ("*.sock", "control.json", "*.new", "*.part")
        left += [str(path) for name in names for path in self.root.rglob(name)]
        left += [str(path) for path in (self.root / "tmp").iterdir()]
        return left

    def processes(self) -> list[psutil.Process]:
        """Those that run in this home or for it."""
        return list(self.commands())

    def commands(self) -> dict[psutil.Process, list[str]]:
        """Their command lines."""
        found = {}
        for each in psutil.process_iter():
            with suppress(psutil.Error):
                words = each.cmdline()
                if (
                    words
                    and each.pid != os.getpid()
                    and (str(self.root) in " ".join(words) or self._is_in(each))
                ):
                    found[each] = words
        return found

    def _is_in(self, process: psutil.Process) -> bool:
        return process.environ().get("GOSS_SUPERVISOR_HOME") == str(self.root)

    def stranger(self) -> Bystander:
        """A process that nobody may touch; see `harm`."""
        self.strangers.append(stranger := self.after.enter_context(Bystander()))
        return stranger

    def harm(self) -> list[str]:
        """What was done to strangers; they are ended."""
        done, self.strangers = [each.harm() for each in self.strangers], []
        return [each for each in done if each]

    # --- what is done to it

    @contextmanager
    def stopped(self, process: psutil.Process) -> Iterator[None]:
        """This process does nothing in this block."""
        process.suspend()
        try:
            yield
        finally:
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        """A command of ours that goes on in the background."""
        process = subprocess.Popen(
            self.command(*words), env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.after.callback(process.wait)
        self.after.callback(process.kill)
        return process

    def cut(self, chance: random.Random, *words: str, most: float = 1.2) -> None:
        """Kill a command of ours at some moment of its work."""
        process = self.begin(*words)
        with suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.1, most))
        process.kill()
        process.wait()

    def tell(self, **request: Any) -> dict[str, Any]:
        """The control socket's last word, an error too: whoever is in a race may lose it."""
        try:
            return self.ask_daemon(**request)
        except SupervisorError as error:
            return {"error": str(error)}

    def send(self, data: bytes, *, read: bool = True) -> None:
        """To the control socket, whatever it is."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(self.root / "run" / "control.sock"))
            client.sendall(data)
            if read:
                client.recv(65536)

    def is_there(self) -> bool:
        try:
            self.ask_daemon(op="status")
        except NotRunning:
            return False
        return True

    def hang_up(self) -> None:
        self.daemon().send_signal(signal.SIGHUP)

    def small_disk(self, mib: int = 64) -> None:
        """The whole home on a disk of this size, where we are root."""
        if os.geteuid() != 0:
            return
        mounted = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "none", str(self.root)]
        subprocess.run(mounted, check=True)
        self.after.callback(subprocess.run, ["umount", "-l", str(self.root)], check=True)
        (self.root / "tmp").mkdir()

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        filler = self.root / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(65536))
        try:
            yield
        finally:
            filler.unlink()


def _in_proc(path: Path) -> str:
    """How ``/proc/locks`` names a file."""
    found = path.stat()
    return f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"


def json_of(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)
