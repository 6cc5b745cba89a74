"""
A machine of its own for systemd: real PID 1 in fresh namespaces, with nothing on it but the units of a test.

Its process ids, network, cgroups, /run, /tmp, /var/tmp, /var/lib and /etc/systemd/system are its own, and
/proc/sys is read-only, so nothing of the host is changed; programs and /root are the host's.  systemctl speaks to PID 1 by
/run/systemd/private, so there is no D-Bus, and there is no journal.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

PATIENCE = 30.0  # seconds; the bound of every wait, never its length
LOOK_SECONDS = 0.05
UNIT = "goss-supervisor.service"
HOME = "/var/lib/goss-supervisor"
INIT = Path("/lib/systemd/systemd")
TOOLS = ("unshare", "nsenter", "setpriv", "mount", "umount")
TARGETS = ("sysinit", "basic", "shutdown", "network-online", "multi-user")

Seen = TypeVar("Seen")

_NAMESPACES = ("--mount", "--pid", "--fork", "--cgroup", "--uts", "--ipc", "--net")
_ENTER = """
echo $$ > "$1/cgroup.procs"
shift
exec "$@"
"""
_CGROUPS = "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup"
_BOOT = f"""
set -e
mount --make-rprivate /
mount --bind "$1/units" /etc/systemd/system
mount --bind "$1/lib" /var/lib
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/test && mount --bind "$1/test" /run/test
mkdir /run/host-tmp && mount --bind /tmp /run/host-tmp
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=1777 tmpfs /var/tmp
mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys
{_CGROUPS}
shift
for kept; do mkdir -p "$kept" && mount --bind "/run/host-tmp/${{kept#/tmp/}}" "$kept"; done
umount /run/host-tmp
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/test \
    {INIT} --system --unit=multi-user.target --default-standard-output=null --default-standard-error=null
"""


def why_not() -> str:
    """Why there can be no such machine here; "" where there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs Linux and root"
    if not INIT.exists():
        return "there is no systemd here"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"there is no {missing[0]} here"
    if _hierarchy() is None:
        return "there is no cgroup v2 that this user may use"
    tried = subprocess.run(
        ["unshare", *_NAMESPACES, "--mount-proc", "sh", "-c", _CGROUPS], capture_output=True, check=False
    )
    return "" if tried.returncode == 0 else f"namespaces are not allowed: {tried.stderr.decode().strip()}"


def until(look: Callable[[], Seen]) -> Seen:
    """The first thing that ``look`` sees which is not false."""
    deadline = time.monotonic() + PATIENCE
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {PATIENCE} s"
        time.sleep(LOOK_SECONDS)
    return seen


@dataclass
class Machine:
    """
    ``root`` is a folder of the host that holds what outlives a boot; units in ``root/test`` are the test's.

    ``programs`` are folders that have to be seen in there, even if they lie below /tmp.
    """

    root: Path
    programs: tuple[Path, ...] = ()
    _unshare: subprocess.Popen[bytes] | None = None

    @property
    def home(self) -> Path:
        """The service's own folder, seen from the host."""
        return self.root / "lib" / "goss-supervisor"

    @property
    def kept(self) -> tuple[Path, ...]:
        return tuple(path for path in self.programs if path.is_relative_to("/tmp"))

    def boot(self) -> None:
        """Returns when all that starts at boot has started, or failed."""
        for name in ("units", "lib", "test"):
            (self.root / name).mkdir(exist_ok=True)
        for name in TARGETS:
            (self.root / "test" / f"{name}.target").write_text(f"[Unit]\nDescription={name}\n")
        self._cgroup.mkdir()
        words = ["setpriv", "--pdeathsig", "KILL", "unshare", *_NAMESPACES, "--mount-proc", "--kill-child"]
        boot = ["sh", "-c", _BOOT, "boot", str(self.root), *map(str, self.kept)]
        self._unshare = subprocess.Popen(
            ["sh", "-c", _ENTER, "enter", str(self._cgroup), *words, *boot],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        until(self._has_booted)

    def power_off(self) -> None:
        """Without a word, as by the plug."""
        if self._unshare is not None:
            self._unshare.kill()
            self._unshare.wait()
            self._unshare = None
        for folder in sorted(self._cgroup.rglob("**/"), reverse=True):  # none where there is no such cgroup
            until(lambda folder=folder: _is_removed(folder))

    def run(
        self, *command: str, code: int | None = 0, environ: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self._inside(*command),
            env=_ENVIRON | (environ or {}),
            capture_output=True,
            text=True,
            timeout=PATIENCE * 2,
            check=False,
        )
        told = f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert code is None or done.returncode == code, told
        return done

    def begin(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._inside(*command),
            env=_ENVIRON,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def goss(self, *words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        return self.run(*goss(*words), code=code)

    def shows(self, *names: str) -> dict[str, str]:
        """What systemd tells of the service."""
        told = self.run("systemctl", "show", UNIT, *(f"--property={name}" for name in names)).stdout
        return dict(line.partition("=")[::2] for line in told.splitlines())

    def show(self, name: str) -> str:
        return self.shows(name)[name]

    def status(self) -> dict:
        return json.loads(self.goss("status", "--json", code=None).stdout)

    def kill(self, signal: str, pid: int | str) -> None:
        """By the numbers that processes have in there."""
        self.run("kill", f"-{signal}", str(pid))

    def processes(self) -> int:
        """How many run in there, but for PID 1."""
        files = self._cgroup.rglob("cgroup.procs")
        return sum(len(file.read_text().split()) for file in files) - 2  # unshare counts there, too

    def _has_booted(self) -> bool:
        """``degraded`` is one where something failed."""
        told = self.run("systemctl", "is-system-running", "--wait", code=None)
        return told.stdout.strip() in {"running", "degraded"}

    @property
    def _cgroup(self) -> Path:
        hierarchy = _hierarchy()
        assert hierarchy is not None
        return hierarchy / f"goss-supervisor-test-{os.getpid()}"

    def _inside(self, *command: str) -> list[str]:
        assert self._unshare is not None
        assert self._unshare.poll() is None, "the machine is off"
        parent = self._unshare.pid
        children = Path(f"/proc/{parent}/task/{parent}/children")
        pid = until(lambda: children.read_text().split())[0]
        return ["nsenter", "--target", pid, "-m", "-p", "-u", "-i", "-n", "-C", "--", *command]


def goss(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", "supervisor", *words)


def _hierarchy() -> Path | None:
    """Where cgroup v2 is mounted, alone or beside v1."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(where, os.W_OK):
            return Path(where)
    return None


def _is_removed(folder: Path) -> bool:
    """A cgroup goes when the last of its processes has."""
    with suppress(OSError):
        folder.rmdir()
    return not folder.exists()


_ENVIRON = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "GOSS_SUPERVISOR_HOME": HOME,
    "NO_COLOR": "1",
    "LC_ALL": "C.UTF-8",
}
