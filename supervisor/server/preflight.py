"""Checks before each launch, in milliseconds; names the process that holds a port."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ..disk import noexec_mount, unreachable
from ..errors import SupervisorError
from ..home.places import private_folder
from ..plan.launch import LaunchPlan
from ..plan.listen import connect_address, first_host, is_socket_path, serves_clients
from .diagnosis import Diagnosis
from .process import family

_PRIVILEGED = 1024
_HOST_HINT = "Correct listen.host: 127.0.0.1 serves this computer only, 0.0.0.0 all networks."


def _of_a_worker(problem: Diagnosis) -> str:
    if problem.kind == "bad-host":
        return "Name an address of this computer: goss-supervisor worker --listen ADDRESS."
    return problem.hint.replace(
        "another listen.port", "another port: goss-supervisor worker --listen ADDRESS:PORT"
    )


def check_launch(plan: LaunchPlan) -> Diagnosis | None:
    """
    The first thing that would make this launch fail, or ``None``.  Removes the file of a Unix socket that
    nobody listens on any more: llama-server leaves it behind, and then cannot bind it again.
    """
    return next(_problems(plan), None)


def _problems(plan: LaunchPlan) -> Iterator[Diagnosis]:
    yield from _engine(plan.argv[0])
    for file in plan.model_files:
        yield from _model(file)
    if is_socket_path(plan.host):
        path = Path(first_host(plan.host))
        if plan.behind_gateway:  # else it is the user's own
            yield from _runtime_folder(path.parent)
        yield from unix_socket_problem(path)
    else:
        for problem in _port(plan.host, plan.port):
            yield problem if serves_clients(plan) else replace(problem, hint=_of_a_worker(problem))


def _engine(program: str) -> Iterator[Diagnosis]:
    if shutil.which(program) is not None:
        return
    if mount := noexec_mount(Path(program)) if Path(program).exists() else None:
        yield Diagnosis(
            "engine-forbidden",
            f"The engine {program} may not be executed: {mount} is mounted noexec.",
            f"sudo mount -o remount,exec {mount}, or set GOSS_SUPERVISOR_HOME to a folder on another disk.",
        )
    elif Path(program).exists():
        yield Diagnosis(
            "engine-forbidden",
            f"The engine {program} may not be executed.",
            f"Make it executable: chmod +x {program}",
        )
    else:
        yield Diagnosis(
            "engine-missing",
            f"The engine {program} does not exist (any more).",
            "Install the engine again, or correct engine.path or engine.command in the profile.",
        )


def _model(file: str) -> Iterator[Diagnosis]:
    try:
        with open(file, "rb") as model:  # noqa: PTH123 - only opening tells whether it can be read
            if not model.read(1):
                yield Diagnosis(
                    "not-gguf", f"The model file {file} is empty.", "Delete it and download it again."
                )
    except FileNotFoundError:
        lost = unreachable(Path(file))
        yield Diagnosis(
            "model-missing",
            f"The model file {file} does not exist{f': {lost}' if lost else ''}.",
            "Mount the disk." if lost else "Correct model in the profile, or download it.",
        )
    except (IsADirectoryError, PermissionError):  # Windows says of a folder that it may not be read
        if os.path.isdir(file):  # noqa: PTH112 - as above
            yield Diagnosis("not-gguf", f"The model {file} is a folder.", "Name the .gguf file in it.")
            return
        yield Diagnosis(
            "model-forbidden",
            f"The model file {file} may not be read by this user.",
            f"Give read permission: chmod +r {file}, and +x on the folders above it.",
        )
    except OSError as error:
        yield Diagnosis(
            "model-unreadable",
            f"The model file {file} cannot be read: {error.strerror}.",
            "Check its disk.",
            retryable=True,
        )


def _runtime_folder(folder: Path) -> Iterator[Diagnosis]:
    """Where the server's socket will be.  It may be gone: logind removes a user's folder at the logout."""
    try:
        private_folder(folder)
    except SupervisorError as error:
        yield Diagnosis("bad-host", str(error), error.hint)
    except OSError as error:
        yield Diagnosis(
            "no-runtime-folder",
            f"The folder {folder} cannot be made: {error.strerror}.",
            "It is there while you are logged in, or always after: loginctl enable-linger",
            retryable=True,
            is_ours=True,
        )


def _port(host: str, port: int) -> Iterator[Diagnosis]:
    try:
        address = first_host(host) or "127.0.0.1"
        is_any = address in {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
        literal = address if is_any else connect_address(address)
    except SupervisorError as error:
        yield Diagnosis("bad-host", str(error), error.hint)
        return
    try:
        bound(literal, port, backlog=1).close()
    except OSError as error:
        yield why_not_bound(error, host, port)


def bound(address: str, port: int, *, backlog: int) -> socket.socket:
    """A socket that listens there, so that somebody else's listener is found out.  Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":  # there REUSEADDR would let it share the port with a listener
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:  # as llama-server does: connections of a former server in TIME_WAIT are no obstacle
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            with suppress(OSError):  # ``::`` means both, as it does for llama-server
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind((address, port))
        listening.listen(backlog)
    except OSError:
        listening.close()
        raise
    return listening


def why_not_bound(error: OSError, host: str, port: int) -> Diagnosis:
    """In words: who holds the port, or what is wrong with the address."""
    if error.errno == errno.EADDRINUSE:
        owner = who_listens(port)
        if owner is not None and owner.name == "systemd":
            return Diagnosis(
                "port-taken",
                f"Port {port} is taken by {owner}, for a service that is down or for a socket unit.",
                "goss-supervisor service start, or service stop, if the service is ours.  Or choose another "
                "listen.port.",
            )
        who, kill = (
            (f"{owner}: {owner.command}", f" (kill {owner.pid})") if owner else ("another program.", "")
        )
        hint = f"Stop it{kill}, or choose another listen.port."
        return Diagnosis("port-taken", f"Port {port} is taken by {who}", hint)
    if error.errno in {errno.EACCES, errno.EPERM} and port < _PRIVILEGED:
        return Diagnosis(
            "port-forbidden",
            f"Port {port} may not be used by this user.",
            f"Choose a listen.port of {_PRIVILEGED} or more.",
        )
    if isinstance(error, socket.gaierror) or error.errno is None:
        return Diagnosis(
            "bad-host", f"{host} does not resolve to an address: {error.strerror or error}.", _HOST_HINT
        )
    if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
        return Diagnosis(
            "bad-host",
            f"{host} is not an address of this computer.",
            _HOST_HINT,
        )
    return Diagnosis(
        "bind-failed",
        f"{host} port {port} cannot be listened on: {error.strerror}.",
        "Choose another listen.host or listen.port.",
    )


def unix_socket_problem(path: Path) -> Iterator[Diagnosis]:
    """What would keep a socket file from being bound; one that nobody listens on any more is removed."""
    if not hasattr(socket, "AF_UNIX"):
        yield Diagnosis(
            "bad-host",
            f"{path} cannot be asked: Python has no Unix sockets on Windows.",
            "Choose an address as listen.host: 127.0.0.1, for example.",
        )
        return
    if not path.parent.is_dir():
        yield Diagnosis(
            "bad-host", f"The folder of the socket {path} does not exist.", f"mkdir -p {path.parent}"
        )
    elif not os.access(path.parent, os.W_OK):
        yield Diagnosis(
            "port-forbidden",
            f"The folder of the socket {path} may not be written.",
            "Choose another listen.host.",
        )
    elif path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
        yield Diagnosis("bad-host", f"{path} exists and is not a socket.", "Choose another listen.host.")
    elif path.exists() and somebody_listens_at(str(path)):
        yield Diagnosis(
            "port-taken",
            f"Another program listens on {path}.",
            "Stop it (after a crash it may be systemd, for our service: goss-supervisor service stop), or "
            "choose another listen.host.",
        )
    else:
        path.unlink(missing_ok=True)


def somebody_listens_at(path: str) -> bool:
    """Whether this path leads to a socket that accepts clients."""
    if sys.platform == "win32":
        answer = errno.ECONNREFUSED
    else:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as attempt:
            attempt.setblocking(False)  # a listener whose queue is full answers EAGAIN at once
            answer = attempt.connect_ex(path)
    return answer not in {errno.ECONNREFUSED, errno.ENOENT}  # too busy to answer is not stale


_COMMAND_LENGTH = 80


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that listens on a port, as people know it."""

    pid: int
    name: str
    command: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


def listens_on(pid: int, port: int) -> bool | None:
    """Whether this process or a descendant listens on TCP `port`; ``None`` if that is unknown."""
    return _listens(family(pid), port)


def who_listens(port: int) -> Owner | None:
    """Who holds TCP `port` on this computer; ``None``: nobody, or somebody whom we may not look at."""
    pid = _listener(port)
    return None if pid is None else _owner(pid)


if sys.platform == "linux":
    _LISTEN = "0A"  # linux/tcp_states.h

    def _listens(pids: tuple[int, ...], port: int) -> bool | None:
        try:
            inodes = _inodes(port)
            return any(inode in inodes for pid in pids for inode in _sockets(pid))
        except OSError:  # somebody else's process, or a shortage of ours
            return None

    def _listener(port: int) -> int | None:
        with contextlib.suppress(OSError):
            inodes = _inodes(port)
            for name in os.listdir("/proc") if inodes else ():  # noqa: PTH208 - names are all it takes
                with contextlib.suppress(OSError):
                    if name.isdigit() and any(inode in inodes for inode in _sockets(int(name))):
                        return int(name)
        return None

    def _inodes(port: int) -> set[str]:
        """Of all sockets that listen on `port`, on whatever address.  Raises OSError for a shortage."""
        wanted = f":{port:04X}"
        found: set[str] = set()
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
                rows = (line.split() for line in Path(table).read_text(encoding="ascii").splitlines()[1:])
                found |= {row[9] for row in rows if row[1].endswith(wanted) and row[3] == _LISTEN}
        return found

    def _sockets(pid: int) -> Iterator[str]:
        """Inodes of its open sockets.  Raises OSError for somebody else's process, and for a shortage."""
        folder = f"/proc/{pid}/fd"
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for fd in os.listdir(folder):  # noqa: PTH208 - no Path for each of 1000 descriptors
                with contextlib.suppress(FileNotFoundError):
                    link = os.readlink(f"{folder}/{fd}")  # noqa: PTH115 - as above
                    if link.startswith("socket:["):
                        yield link[8:-1]

    def _owner(pid: int) -> Owner:
        name, command = "?", ""
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
            command = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
        return Owner(pid, name, command.replace("\0", " ").strip()[:_COMMAND_LENGTH])

else:

    def _listens(pids: tuple[int, ...], port: int) -> bool | None:
        import psutil  # noqa: PLC0415 - see above

        try:
            held = [
                getattr(each.laddr, "port", None)
                for pid in pids
                for each in psutil.Process(pid).net_connections(kind="tcp")
                if each.status == psutil.CONN_LISTEN
            ]
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:
            return None
        return port in held

    def _listener(port: int) -> int | None:
        import psutil  # noqa: PLC0415 - see above

        with contextlib.suppress(psutil.Error):  # macOS tells this to root only
            for each in psutil.net_connections(kind="tcp"):
                if each.status == psutil.CONN_LISTEN and getattr(each.laddr, "port", None) == port:
                    return each.pid
        return None

    def _owner(pid: int) -> Owner:
        import psutil  # noqa: PLC0415 - see above

        try:
            process = psutil.Process(pid)
            return Owner(pid, process.name(), " ".join(process.cmdline())[:_COMMAND_LENGTH])
        except psutil.Error:
            return Owner(pid, "?", "")
