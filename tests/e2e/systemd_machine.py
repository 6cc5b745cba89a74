"""
A machine of its own for systemd: real PID 1 in fresh namespaces, with nothing on it but the units of a test.

Its process ids, network, cgroups, /dev, /run, /tmp, /var/tmp, /var/lib, /etc/systemd/system and the journal
are its own, root's home is a layer over the host's and /proc/sys is read-only, so nothing of the host is changed;
programs are the host's.  systemctl speaks to PID 1 by /run/systemd/private, so there is no D-Bus unless there
are `users`.

Another systemd than the host's is tried with GOSS_TEST_SYSTEMD=FOLDER: FOLDER/usr is laid over /usr.  Unpack
the packages of one version there (dpkg-deb -x; systemd, libsystemd-shared, libsystemd0), with the libc and
libraries that they need where those are newer, and move what is in its bin, lib, lib64 and sbin below usr.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .conftest import PATIENCE, until

UNIT = "goss-supervisor.service"
HOME = "/var/lib/goss-supervisor"
INIT = Path("/lib/systemd/systemd")
ROOTS_HOME = Path("~root").expanduser()
TOOLS = ("unshare", "nsenter", "setpriv", "mount", "umount")
GPU = "dev/dri/renderD128"  # a /dev/null with the rights of a GPU on Debian
USER, UID = "ann", 1234
TARGETS = ("sysinit", "basic", "shutdown", "network-online", "multi-user")

_NAMESPACES = ("--mount", "--pid", "--fork", "--cgroup", "--uts", "--ipc", "--net")
_JOURNAL = "systemd-journald.service"
_LOGINS = ("dbus.socket", "systemd-logind.service")
_UNITS = (
    _JOURNAL,
    *_LOGINS,
    "systemd-journald.socket",
    "dbus.service",
    "user@.service",
    "user-runtime-dir@.service",
)
_ACCOUNT = {  # files of /etc, and what is added there
    "passwd": f"{USER}:x:{UID}:{UID}::/var/lib/{USER}:/bin/sh\n",
    "group": f"{USER}:x:{UID}:\n",
}
_OTHER = os.environ.get("GOSS_TEST_SYSTEMD", "")
_ENTER = """
echo $$ > "$1/cgroup.procs"
shift
exec "$@"
"""
_CGROUPS = "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup"
_BOOT = f"""
set -e
mount --make-rprivate /
[ -z "{_OTHER}" ] || mount -t overlay -o "lowerdir={_OTHER}/usr:/usr" overlay /usr
mount --bind "$1/units" /etc/systemd/system
mount --bind "$1/lib" /var/lib
for file in {" ".join(_ACCOUNT)} shadow; do mount --bind "$1/$file" "/etc/$file"; done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/test /run/layer/upper /run/layer/work && mount --bind "$1/test" /run/test
mount -t overlay -o "lowerdir={ROOTS_HOME},upperdir=/run/layer/upper,workdir=/run/layer/work" overlay "{ROOTS_HOME}"
mkdir /run/host-tmp && mount --bind /tmp /run/host-tmp
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=1777 tmpfs /var/tmp
mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys
mkdir /run/dev && mount -t tmpfs -o mode=755 tmpfs /run/dev
cd /dev && cp -a fd full null random stderr stdin stdout tty urandom zero /run/dev
mkdir -p /run/dev/dri /run/dev/pts /run/dev/shm && ln -s pts/ptmx /run/dev/ptmx
mknod -m 660 /run/{GPU} c 1 3 && chgrp video /run/{GPU} || :
mount --bind /dev/pts /run/dev/pts && mount -t tmpfs -o mode=1777 tmpfs /run/dev/shm
mount --move /run/dev /dev && cd / && rmdir /run/dev
mkdir -p /run/systemd/journald.conf.d
printf '[Journal]\\nStorage=volatile\\nReadKMsg=no\\nForwardToWall=no\\n' > /run/systemd/journald.conf.d/test.conf
for unit in {" ".join(_UNITS)}; do cp "/lib/systemd/system/$unit" /run/test || :; done
{_CGROUPS}
shift
while [ "$1" != -- ]; do chmod a+rx "$1"; shift; done
shift
for kept; do mkdir -p "$kept" && mount --bind "/run/host-tmp/${{kept#/tmp/}}" "$kept"; done
umount /run/host-tmp
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/test \
    {INIT} --system --unit=multi-user.target --log-target=null
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


@dataclass
class Machine:
    """
    ``root`` is a folder of the host that holds what outlives a boot; units in ``root/test`` are the test's.

    ``programs`` are folders that everybody has to see in there, even if they lie below /tmp or in root's home.  With
    ``users`` there are D-Bus and logind, so that `USER` may have a manager.
    """

    root: Path
    programs: tuple[Path, ...] = ()
    users: bool = False
    _unshare: subprocess.Popen[bytes] | None = None

    @property
    def home(self) -> Path:
        """The service's own folder, seen from the host."""
        return self.root / "lib" / "goss-supervisor"

    @property
    def kept(self) -> tuple[Path, ...]:
        return tuple(path for path in self.programs if path.is_relative_to("/tmp"))

    @property
    def _shut(self) -> list[str]:
        """Folders that only root may enter, on the way to programs."""
        on_the_way = {folder for path in self.programs for folder in (path, *path.parents)}
        return [str(folder) for folder in on_the_way if folder.is_relative_to(ROOTS_HOME)]

    def boot(self) -> None:
        """Returns when all that starts at boot has started, or failed."""
        for name in ("units", "lib", "test"):
            (self.root / name).mkdir(exist_ok=True)
        for name, line in _ACCOUNT.items():
            (self.root / name).write_text(Path("/etc", name).read_text() + line)
        (self.root / "shadow").write_text(f"root:*:1::::::\n{USER}:*:1::::::\n")
        for name in TARGETS:
            wanted = " ".join((_JOURNAL, *(_LOGINS if self.users else ())))
            wants = f"Wants={wanted}\n" if name == "multi-user" else ""
            (self.root / "test" / f"{name}.target").write_text(f"[Unit]\nDescription={name}\n{wants}")
        self._cgroup.mkdir()
        words = ["setpriv", "--pdeathsig", "KILL", "unshare", *_NAMESPACES, "--mount-proc", "--kill-child"]
        boot = ["sh", "-c", _BOOT, "boot", str(self.root), *self._shut, "--", *map(str, self.kept)]
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
        until(lambda: _is_removed(self._cgroup))

    def run(
        self, *command: str, code: int | None = 0, environ: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self._inside(*command),
            env=_ENVIRON | (environ or {}),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
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
        """How many of the service run."""
        files = (self._cgroup / "system.slice" / UNIT).rglob("cgroup.procs")
        return sum(len(file.read_text().split()) for file in files)

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
    """With those in it; a cgroup goes when the last of its processes has."""
    with suppress(OSError):
        for inner in sorted(folder.rglob("**/"), reverse=True):  # itself, too
            inner.rmdir()
    return not folder.exists()


_ENVIRON = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": str(ROOTS_HOME),
    "GOSS_SUPERVISOR_HOME": HOME,
    "NO_COLOR": "1",
    "LC_ALL": "C.UTF-8",
}
