"""systemd, by systemctl, loginctl and journalctl."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import ClassVar

from ..errors import NotFound, SupervisorError
from . import unit_files
from .account import existing_groups, user_name
from .contract import (
    FOREGROUND,
    NOT_INSTALLED,
    File,
    Service,
    ServiceCommand,
    ServiceRequest,
    ServiceStatus,
    Starts,
    run,
)
from .systemd import GPU_GROUPS, Facts
from .systemd import unit as render
from .systemd_unit import Unit

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
