"""
The image of this checkout, run as Docker or Kubernetes would run it: ``bin/test --image`` makes it.

As its own user, without capabilities, on a file system that cannot be written, with the state in a volume.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from supervisor.cgroups import MOUNT

from ..fakes.launching import wait_until
from ..fakes.shapes import write_sparse
from .conftest import BUILT, PATIENCE, free_port

IMAGE = os.environ.get("GOSS_TEST_IMAGE", "")
HOME = "/var/lib/goss-supervisor"
KEPT = (
    "--cap-add",
    "CAP_SETUID",
    "--cap-add",
    "CAP_SETGID",
    "--cap-add",
    "CAP_SETPCAP",
)  # setpriv drops them

pytestmark = pytest.mark.skipif(not IMAGE, reason="bin/test --image makes the image that this runs")


class MemoryGroup:
    """A control group below our own, or at the top in version 2, with a limit.  Raises OSError without the right."""

    def __init__(self, limit_bytes: int) -> None:
        own = re.search(r"^\d+:memory:(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
        self.mount = f"{MOUNT}/memory" if own else MOUNT
        self.folder = Path(f"{self.mount}{own[1] if own else ''}") / f"goss-test-{os.getpid()}"
        self.folder.mkdir()
        try:
            (self.folder / ("memory.limit_in_bytes" if own else "memory.max")).write_text(str(limit_bytes))
        except OSError:
            self.folder.rmdir()
            raise

    def command(self, *words: str) -> list[str]:
        """These words, run in it."""
        return ["sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$@"', "sh", *words]

    def pid_of(self, name: str) -> int:
        pids = (self.folder / "cgroup.procs").read_text().split()
        return next(int(pid) for pid in pids if Path(f"/proc/{pid}/comm").read_text().strip() == name)


class Container:
    """One at a time; ``folder`` has the volume, ``group`` a limit of memory."""

    def __init__(self, folder: Path, image: Path, engine: Path, group: MemoryGroup | None = None) -> None:
        self.group = group
        self.config = json.loads((image / "config.json").read_text())
        self.volume = folder / "volume"
        for each in (self.volume, self.volume / "data", self.volume / "data" / "models"):
            each.mkdir()
            os.chown(each, *self.user)
        binds = ((image / "files").resolve(), "/"), (engine, "/mnt")
        self._mounts = [word for here, there in binds for word in ("--ro-bind", str(here), there)]
        self._mounts += [
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--tmpfs",
            "/tmp",
            "--bind",
            str(self.volume),
            HOME,
        ]
        if group:
            self._mounts += [
                "--tmpfs",
                "/sys",
                "--dir",
                "/sys/fs",
                "--dir",
                MOUNT,
            ]  # for others than root too
            self._mounts += ["--ro-bind", str(group.folder), group.mount, "--unshare-cgroup"]
        self._pid = 0  # of its first process, as the host sees it
        self.port = free_port()
        self.log = folder / "log"

    @property
    def user(self) -> tuple[int, int]:
        """As the image says."""
        user, group = map(int, self.config["User"].split(":"))
        return user, group

    @property
    def _as_user(self) -> list[str]:
        """Puts a command into the image's environment, folder and user, and takes all rights from it."""
        uid, gid = map(str, self.user)
        rights = ("--clear-groups", "--no-new-privs", "--bounding-set", "-all", "--inh-caps", "-all")
        env = ("env", "-i", "-C", self.config["WorkingDir"], *self.config["Env"])
        return [*env, "setpriv", "--reuid", uid, "--regid", gid, *rights]

    @property
    def settings(self) -> list[str]:
        values = ("engine.source=path", "engine.path=/mnt/llama-server", f"listen.port={self.port}")
        return [word for each in values for word in ("--set", each)]

    @property
    def start_demo(self) -> tuple[str, ...]:
        return ("start", "--profile", "demo", *self.settings)

    def _command(self, words: tuple[str, ...], *more: str) -> list[str]:
        spaces = ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--as-pid-1")
        entry = (*self._as_user, *self.config["Entrypoint"])
        command = ["bwrap", *more, *spaces, "--cap-drop", "ALL", *KEPT, *self._mounts, *entry, *words]
        return self.group.command(*command) if self.group else command

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """To its end, as ``docker run --rm``."""
        return subprocess.run(self._command(words), capture_output=True, text=True, timeout=PATIENCE * 2)

    @contextlib.contextmanager
    def running(self, *words: str):
        """In the background; gives the process whose exit code is the container's."""
        read, write = os.pipe()
        with self.log.open("ab") as log, open(read) as told:
            command = self._command(words, "--info-fd", str(write))
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(write,)
            )
            os.close(write)
            self._pid = json.load(told)["child-pid"]
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            process.wait(PATIENCE)

    def exec(self, *words: str) -> subprocess.CompletedProcess[str]:
        """In the one that runs, as ``docker exec``."""
        spaces = ("--pid", "--mount", "--ipc", "--uts", "--root", "--wd")
        command = ["nsenter", "--target", str(self._pid), *spaces, *self._as_user, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)

    def until_healthy(self, process: subprocess.Popen) -> None:
        """By the image's own health check."""
        kind, *check = self.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        wait_until(
            lambda: self.exec(*check).returncode == 0 or process.poll() is not None,
            "it does not become healthy",
            PATIENCE * 2,
        )
        assert process.poll() is None, self.log.read_text()

    def stop(self) -> None:
        os.kill(self._pid, signal.Signals[self.config["StopSignal"]])

    def status(self, key: str, path: str = "/v1/models") -> int:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                return response.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code


@pytest.fixture
def made(tmp_path):
    """Makes a container in ``tmp_path``, with a control group or without."""
    found = os.environ.get(BUILT)
    if not found:
        pytest.skip(f"{BUILT} is not set: run bin/test")
    tmp_path.chmod(0o755)
    return lambda group=None: Container(tmp_path, Path(IMAGE), Path(found).parent, group)


@pytest.fixture
def container(made):
    return made()


LIMIT_MIB = 512


@pytest.fixture
def limited(made):
    """A container that may use so much memory."""
    try:
        group = MemoryGroup(LIMIT_MIB << 20)
    except OSError as error:
        pytest.skip(f"no control group with a limit of memory can be made here: {error}")
    yield made(group)
    group.folder.rmdir()


def test_it_refuses_to_start_for_everybody_and_serves_whoever_has_a_key(container):
    refused = container.run("start")
    assert (refused.returncode, "key add" in refused.stderr) == (78, True)

    key = container.run("key", "add", "laptop").stdout.strip()
    assert key.startswith("gs-")

    with container.running(*container.start_demo) as process:
        container.until_healthy(process)
        assert container.status(key) == 200
        assert container.status("") == 401
        assert container.status("", "/supervisor/ready") == 200
        assert "I am the demo model" in container.exec("goss-supervisor", "ask", "What are you?").stdout

        assert "CapEff:\t0000000000000000" in container.exec("cat", "/proc/1/status").stdout
        assert container.exec("stat", "-c", "%u %g", "/proc/1").stdout.split() == ["10001", "10001"]
        assert container.exec("touch", "/opt/written").returncode

        container.stop()
        assert process.wait(PATIENCE) == 0
    assert key not in container.log.read_text()
    assert {each.stat().st_uid for each in container.volume.rglob("*")} == {10001}
    assert "laptop" in container.run("key", "ls").stdout  # of a new container with the same volume


HOG = """
import os, signal, sys
children = []
while os.path.exists(f"/proc/{sys.argv[1]}"):
    done, told = os.pipe()
    if not (child := os.fork()):
        block = bytearray(b"x") * (64 << 20)
        os.write(told, b"x")
        signal.pause()
    os.close(told)
    children.append(child)
    os.read(done, 1)
for child in children:
    os.kill(child, signal.SIGKILL)
"""
"""Processes that the kernel would end after the server and before the daemon, until the server is gone."""


def test_its_limit_of_memory_is_seen_and_kept_to_and_a_server_killed_for_it_is_named(limited):
    detected = limited.run("detect").stdout
    assert f"memory   {LIMIT_MIB} MiB RAM" in detected
    assert "note: The control group / allows 0.5 GiB of this machine's memory." in detected

    limited.run("key", "add", "laptop")
    models, profiles = limited.volume / "data" / "models", limited.volume / "config" / "profiles"
    write_sparse(models / "large.gguf", "20b")
    profiles.mkdir()
    (profiles / "large.yaml").write_text(f"model: {{path: {HOME}/data/models/large.gguf}}\n")
    refused = limited.run("start", "--profile", "large", "--set", "server.mmap=false", *limited.settings)
    assert (refused.returncode, "0.5 GiB" in refused.stderr) == (7, True), refused.stderr

    with limited.running(*limited.start_demo) as process:
        limited.until_healthy(process)
        killed = str(limited.group.pid_of("llama-server"))
        subprocess.run(
            limited.group.command(sys.executable, "-S", "-c", HOG, killed), check=True, timeout=PATIENCE
        )
        limited.until_healthy(process)
        server = json.loads(limited.exec("goss-supervisor", "status", "--json").stdout)["server"]
        assert "was killed by the kernel, because memory ran out" in server["last_failure"]["message"]
