"""
systemd, by systemctl, loginctl and journalctl.

- ``start`` and ``restart`` return when the daemon has sent READY, or has ended.
- A unit's start limit also counts people's requests, and a unit past it stays down.  So it is reset before
  each start: it is meant for automatic restarts.
- Between two tries ``start`` waits for systemd's own next one, a minute perhaps; ``restart`` does not.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import ClassVar

from ..errors import NotFound, StartFailed, SupervisorError
from . import unit_files
from .account import existing_groups, user_name
from .contract import (
    FOREGROUND,
    NOT_INSTALLED,
    File,
    Ran,
    Service,
    ServiceCommand,
    ServiceRequest,
    ServiceStatus,
    Starts,
    failure,
    must,
    run,
)
from .systemd import GPU_GROUPS, Facts
from .systemd import unit as render

PROPERTIES = (
    "LoadState", "ActiveState", "SubState", "UnitFileState", "FragmentPath", "NeedDaemonReload", "MainPID",
    "StatusText", "Result", "ExecMainStatus",
)  # fmt: skip
_READY = frozenset({"active", "reloading", "refreshing"})
_NO_SESSION = (
    "Log in as this user itself (by ssh, not by su or sudo), or have root say: loginctl enable-linger USER, "
    "then: export XDG_RUNTIME_DIR=/run/user/$(id -u)"
)


@dataclass(frozen=True, slots=True)
class Shown:
    """The values of the properties; those without a comment are systemd's own words."""

    load: str = "not-found"
    active: str = "inactive"
    sub: str = "dead"
    is_enabled: bool = False
    file: str = ""  # where systemd has it from; "" without one
    is_outdated: bool = False  # the file is another now than what systemd goes by
    pid: int | None = None
    status: str = ""  # the service's own last words, which stay when it has ended
    result: str = ""
    exit_code: str = ""

    @property
    def is_ready(self) -> bool:
        return self.active in _READY

    @property
    def is_tried_again(self) -> bool:
        """Between two tries, with no process; ``auto-restart-queued`` came with version 254."""
        return self.active == "activating" and self.sub.startswith("auto-restart")

    @property
    def is_running(self) -> bool:
        return self.active not in {"inactive", "failed"} and not self.is_tried_again

    @property
    def is_known(self) -> bool:
        """Whether systemd has anything of that name in its memory."""
        return self.load == "loaded" or self.active != "inactive"

    @property
    def state(self) -> str:
        """In systemd's words, after ours for what they hide."""
        words = f"{self.active} ({self.sub})"
        if self.is_tried_again:
            return f"down, to be tried again: {words}"
        return f"starting: {words}" if self.active == "activating" else words

    @property
    def detail(self) -> str:
        """What the service says of itself; of one that is down why, where that was not asked for."""
        if self.is_running:
            return self.status
        if self.result in {"", "success"}:
            return ""
        code = f" {self.exit_code}" if self.result == "exit-code" and self.exit_code else ""
        return f"ended with {self.result}{code}"


def shown(text: str) -> Shown:
    """Of what ``systemctl show`` says to `PROPERTIES`; an older systemd leaves out what it does not know."""
    properties = dict(line.partition("=")[::2] for line in text.splitlines())
    return Shown(
        load=properties.get("LoadState", ""),
        active=properties.get("ActiveState") or "unknown",
        sub=properties.get("SubState") or "unknown",
        is_enabled=properties.get("UnitFileState") == "enabled",
        file=properties.get("FragmentPath", ""),
        is_outdated=properties.get("NeedDaemonReload") == "yes",
        pid=int(properties.get("MainPID") or 0) or None,
        status=properties.get("StatusText", ""),
        result=properties.get("Result", ""),
        exit_code=properties.get("ExecMainStatus", ""),
    )


@dataclass(frozen=True, slots=True)
class Unit:
    """``folder`` is where its file is, or would be."""

    service: Service
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.service.name}.service"

    @property
    def path(self) -> Path:
        return self.folder / self.name

    @property
    def drop_ins(self) -> Path:
        return self.folder / f"{self.name}.d"

    @property
    def systemctl(self) -> ServiceCommand:
        return ("systemctl", "--user") if self.service.scope == "user" else ("systemctl",)

    @property
    def occasion(self) -> str:
        return "the next boot" if self.service.scope == "system" else "the next boot or login"

    # --- looks

    def is_there(self) -> bool:
        return unit_files.read(self.path) is not None

    def require(self, hint: str = "") -> None:
        """Raises NotFound."""
        if not self.is_there():
            hint = hint or f"goss-supervisor service install --{self.service.scope}"
            raise NotFound(f"{self.path} is not there.", hint=hint)

    def refuse_without_manager(self) -> None:
        """Raises SupervisorError where systemd is installed but does not run, as in most containers."""
        ran = run(*self.systemctl, "is-system-running")
        if ran.stdout == "offline":
            raise SupervisorError("systemd is installed here, but does not run this system.", hint=FOREGROUND)
        if not ran.stdout:
            raise failure(ran, self._hint)

    def shown(self) -> Shown:
        """Raises SupervisorError where systemd does not answer."""
        return shown(must(*self._show, hint=self._hint).stdout)

    def remains(self) -> Shown:
        """
        What systemd knows although our file was deleted by hand, or an `uninstall` was cut short.

        A unit of that name from somewhere else is somebody else's; a systemd that is silent runs nothing.
        """
        ran = run(*self._show)
        found = shown(ran.stdout) if ran.returncode == 0 else Shown()
        return found if found.file in {"", str(self.path)} else Shown()

    def leaves_something(self) -> bool:
        wanted_by = "multi-user" if self.service.scope == "system" else "default"
        link = self.folder / f"{wanted_by}.target.wants" / self.name
        return link.is_symlink() or self.remains().is_known

    # --- changes

    def reload_manager(self) -> None:
        must(*self.systemctl, "daemon-reload", hint=self._hint)

    def enable(self) -> None:
        must(*self.systemctl, "enable", self.name, hint=self._hint)

    def disable(self, *, now: bool) -> None:
        """With ``now`` it is stopped, too; that fails where systemd does not know it."""
        must(*self.systemctl, "disable", *(("--now",) if now else ()), self.name, hint=self._hint)

    def forget_failures(self) -> None:
        """How it ended, and how often it was started; fails where there is nothing to forget."""
        run(*self.systemctl, "reset-failed", self.name)

    def start(self) -> None:
        self._begin("restart" if self.shown().is_tried_again else "start")

    def restart(self) -> None:
        self._begin("restart")

    def stop(self) -> None:
        must(*self.systemctl, "stop", self.name, hint=self._hint)

    def _begin(self, verb: str) -> None:
        self.forget_failures()
        ran = run(*self.systemctl, verb, self.name)
        if ran.returncode:
            raise self._failure(ran)

    def _failure(self, ran: Ran) -> SupervisorError:
        if "job for" not in ran.stderr.lower():  # systemctl itself could not do it
            return failure(ran, self._hint)
        again = "; systemd goes on trying" if self.shown().is_tried_again else ""
        scope = f"--{self.service.scope}"
        return StartFailed(
            f"{self.name} did not become ready{again}.",
            hint=f"goss-supervisor service logs {scope} -n 50 tells why; "
            f"goss-supervisor service uninstall {scope} takes it away again.",
        )

    @property
    def _show(self) -> ServiceCommand:
        return (*self.systemctl, "show", self.name, *(f"--property={name}" for name in PROPERTIES))

    @property
    def _hint(self) -> str:
        return _NO_SESSION if self.service.scope == "user" else "Use sudo."


SYSTEM_FOLDER = Path("/etc/systemd/system")


def found(environ: Mapping[str, str] = os.environ) -> Systemd:
    """With what a unit depends on.  Raises SupervisorError where there is no systemd."""
    try:
        output = run("systemctl", "--version").stdout
    except NotFound as error:
        raise SupervisorError("This system has no systemd.", hint=FOREGROUND) from error
    version = re.search(r"systemd (\d+)", output)
    if version is None:
        first = output.partition("\n")[0]
        raise SupervisorError(f"systemctl --version says no version that is known: {first!r}.")
    facts = Facts(int(version[1]), existing_groups(GPU_GROUPS), which("nvidia-modprobe") or "")
    config = environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Systemd(facts, Path(config) / "systemd" / "user")


@dataclass(frozen=True, slots=True)
class Systemd:
    """A `Manager`."""

    waits: ClassVar[bool] = True

    facts: Facts
    user_folder: Path
    system_folder: Path = SYSTEM_FOLDER

    @property
    def title(self) -> str:
        return f"systemd {self.facts.version}"

    def files(self, request: ServiceRequest) -> tuple[File, ...]:
        return (File(self._unit(request.service).path, render(request, self.facts)),)

    def commands(self, request: ServiceRequest) -> tuple[ServiceCommand, ...]:
        unit = self._unit(request.service)
        lingers = () if request.service.scope == "system" else (_linger("enable"),)
        reload, enable = (*unit.systemctl, "daemon-reload"), (*unit.systemctl, "enable", unit.name)
        return (reload, enable, *lingers, (*unit.systemctl, "start", unit.name))

    def refuse(self, request: ServiceRequest, *, force: bool) -> None:
        self._unit(request.service).refuse_without_manager()
        unit_files.refuse(self.files(request), force=force)

    def install(self, request: ServiceRequest, *, force: bool) -> Iterator[str]:
        self.refuse(request, force=force)
        unit = self._unit(request.service)
        written = unit_files.write(self.files(request))
        yield from (f"wrote {path}" for path in written)
        is_new = bool(written) or unit.shown().is_outdated
        if is_new:
            unit.reload_manager()
        before = unit.shown()
        if not before.is_enabled:
            unit.enable()
            yield f"enabled {unit.name}: it starts with {unit.occasion}"
        if request.service.scope == "user" and not _lingers():
            yield _enable_lingering()
        if before.is_running and is_new:
            yield from self.restart(request.service)
        elif not before.is_ready:
            yield from self.start(request.service)

    def uninstall(self, service: Service, *, force: bool) -> Iterator[str]:
        unit = self._unit(service)
        is_there = unit.is_there()
        if not is_there and not unit.leaves_something():
            yield f"{unit.path} is not there: nothing to remove"
            return
        if not force:
            unit_files.refuse_another(unit.path)
        unit.refuse_without_manager()
        unit.disable(now=is_there or unit.remains().is_known)
        yield f"stopped and disabled {unit.name}"
        if unit_files.remove(unit.path, force=force):
            yield f"removed {unit.path}"
        unit.reload_manager()
        unit.forget_failures()
        yield from _what_stays(unit)

    def start(self, service: Service) -> Iterator[str]:
        unit = self._installed(service)
        unit.start()
        yield f"{unit.name}: started, and ready"

    def stop(self, service: Service) -> Iterator[str]:
        unit = self._installed(service)
        unit.stop()
        yield f"{unit.name}: stopped, until {unit.occasion}"

    def restart(self, service: Service) -> Iterator[str]:
        unit = self._installed(service)
        unit.restart()
        yield f"{unit.name}: restarted, and ready"

    def status(self, service: Service) -> ServiceStatus:
        unit = self._unit(service)
        if unit.is_there():
            now = unit.shown()
            starts = _starts(service) if now.is_enabled else "no"
            return ServiceStatus(
                True, now.is_running, starts, now.state, now.pid, now.detail, now.is_outdated
            )
        left = unit.remains()
        if not left.is_known:
            return NOT_INSTALLED
        why = f"its unit file is gone; goss-supervisor service uninstall --{service.scope} removes the rest"
        return ServiceStatus(False, left.is_running, "no", left.state, left.pid, why)

    def logs(self, service: Service, *, lines: int | None, follow: bool) -> ServiceCommand:
        unit = self._unit(service)
        of = ("--user",) if service.scope == "user" else ()
        count = () if lines is None else ("--lines", str(lines))
        show = ("journalctl", *of, "--unit", unit.name, *count, *(("--follow",) if follow else ()))
        unit.require(hint=f"What an earlier one said: {shlex.join(show)}")
        return show

    def _unit(self, service: Service) -> Unit:
        return Unit(service, self.system_folder if service.scope == "system" else self.user_folder)

    def _installed(self, service: Service) -> Unit:
        """Raises NotFound, and SupervisorError where systemd does not run."""
        unit = self._unit(service)
        unit.require()
        unit.refuse_without_manager()
        return unit


def _starts(service: Service) -> Starts:
    return "at boot" if service.scope == "system" or _lingers() else "at login"


def _what_stays(unit: Unit) -> Iterator[str]:
    """After an `uninstall`."""
    if unit.drop_ins.exists():
        yield f"left {unit.drop_ins}: that is yours"
    if unit.service.scope == "user" and _lingers():
        yield f"left lingering on, as others may need it: {' '.join(_linger('disable'))} ends it"


def _linger(verb: str) -> ServiceCommand:
    """Tells logind that a user's services may run without a login; ``verb`` is enable or disable."""
    return ("loginctl", f"{verb}-linger")


def _lingers() -> bool:
    """A user whom logind does not know at the moment has no such property, and does not linger."""
    return run("loginctl", "show-user", user_name(), "--property=Linger").stdout == "Linger=yes"


def _enable_lingering() -> str:
    """What came of it.  Without it a user's services end with the last login, and do not start at boot."""
    ran = run(*_linger("enable"))
    if ran.returncode == 0:
        return "enabled lingering: your services run without a login, from boot on"
    by_root = f"sudo loginctl enable-linger {user_name()}"
    return f"it will run while you are logged in only: {ran.last_line}; {by_root} changes that"
