"""systemd, by systemctl, loginctl and journalctl."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import which

from ..errors import NotFound, StartFailed, SupervisorError
from . import files, linger
from .account import existing_groups
from .chosen import FOREGROUND
from .ran import Ran, must, run
from .systemd import GPU_GROUPS, Facts, unit
from .types import Command, File, Request, Service, Status

SYSTEM_FOLDER = Path("/etc/systemd/system")
_NO_SESSION = (
    "Log in as this user itself (by ssh, not by su or sudo), or have root say: loginctl enable-linger USER, "
    "then: export XDG_RUNTIME_DIR=/run/user/$(id -u)"
)
_SHOWN = ("ActiveState", "SubState", "UnitFileState", "MainPID", "StatusText", "Result", "ExecMainStatus")


def found(environ: Mapping[str, str] = os.environ) -> Systemd:
    """
    With what a unit depends on.

    Raises SupervisorError where there is no systemd.
    """
    try:
        told = run("systemctl", "--version").stdout
    except NotFound as error:
        raise SupervisorError("This system has no systemd.", hint=FOREGROUND) from error
    version = re.search(r"systemd (\d+)", told)
    if version is None:
        first = told.partition("\n")[0]
        raise SupervisorError(f"systemctl --version says no version that is known: {first!r}.")
    facts = Facts(int(version[1]), existing_groups(GPU_GROUPS), which("nvidia-modprobe") or "")
    config = environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Systemd(facts, Path(config) / "systemd" / "user")


@dataclass(frozen=True, slots=True)
class Systemd:
    """A `Manager`."""

    facts: Facts
    user_folder: Path
    system_folder: Path = SYSTEM_FOLDER

    @property
    def title(self) -> str:
        return f"systemd {self.facts.version}"

    def files(self, request: Request) -> tuple[File, ...]:
        return (File(self._path(request.service), unit(request, self.facts)),)

    def commands(self, request: Request) -> tuple[Command, ...]:
        ask, name = _systemctl(request.service), _unit_name(request.service)
        lingers = () if request.service.scope == "system" else (linger.command("enable"),)
        return ((*ask, "daemon-reload"), (*ask, "enable", name), *lingers, (*ask, "start", name))

    def install(self, request: Request, *, force: bool) -> tuple[str, ...]:
        service = request.service
        _refuse_without_manager(service)
        ask, name = _systemctl(service), _unit_name(service)
        written = files.write(self.files(request), force=force)
        done = [f"wrote {path}" for path in written]
        if written:
            must(*ask, "daemon-reload")
        before = self._told(service)
        if not before.at_boot:
            must(*ask, "enable", name)
            done.append(f"enabled {name}: it starts with {_occasion(service)}")
        if service.scope == "user":
            done += linger.enable()
        if before.running and written:
            done += self.restart(service)
        elif not before.running:
            done += self.start(service)
        return tuple(done)

    def uninstall(self, service: Service, *, force: bool) -> tuple[str, ...]:
        path, ask, name = self._path(service), _systemctl(service), _unit_name(service)
        if files.read(path) is None:
            return (f"{path} is not there: nothing to remove",)
        if not force:
            files.refuse_another(path)
        _refuse_without_manager(service)
        must(*ask, "disable", "--now", name)
        files.remove(path, force=force)
        must(*ask, "daemon-reload")
        run(*ask, "reset-failed", name)  # forgets how it ended; fails where there is nothing to forget
        done = [f"stopped and disabled {name}", f"removed {path}"]
        drop_ins = path.with_name(f"{path.name}.d")
        if drop_ins.exists():
            done.append(f"left {drop_ins}: that is yours")
        if service.scope == "user" and linger.is_on():
            done.append(
                f"left lingering on, as others may need it: {' '.join(linger.command('disable'))} ends it"
            )
        return tuple(done)

    def start(self, service: Service) -> tuple[str, ...]:
        return self._change(service, "start", "started, and ready")

    def stop(self, service: Service) -> tuple[str, ...]:
        return self._change(service, "stop", f"stopped, until {_occasion(service)}")

    def restart(self, service: Service) -> tuple[str, ...]:
        return self._change(service, "restart", "restarted, and ready")

    def status(self, service: Service) -> Status:
        told = self._told(service)
        at_boot = told.at_boot and (service.scope == "system" or linger.is_on())
        return replace(told, at_boot=at_boot)

    def logs(self, service: Service, *, lines: int | None, follow: bool) -> Command:
        of = ("--user",) if service.scope == "user" else ()
        count = () if lines is None else ("--lines", str(lines))
        return ("journalctl", *of, "--unit", _unit_name(service), *count, *(("--follow",) if follow else ()))

    def _told(self, service: Service) -> Status:
        """``at_boot`` is whether the unit is enabled, which of a user's is not the whole truth."""
        if files.read(self._path(service)) is None:
            return Status(installed=False, running=False, at_boot=False, state="not installed")
        wanted = [f"--property={name}" for name in _SHOWN]
        told = must(*_systemctl(service), "show", _unit_name(service), *wanted, hint=_hint(service)).stdout
        return _status(dict(line.partition("=")[::2] for line in told.splitlines()))

    def _path(self, service: Service) -> Path:
        folder = self.system_folder if service.scope == "system" else self.user_folder
        return folder / _unit_name(service)

    def _change(self, service: Service, verb: str, done: str) -> tuple[str, ...]:
        """`systemctl` returns when the daemon has said READY, or has ended."""
        if files.read(self._path(service)) is None:
            raise NotFound(
                f"{self._path(service)} is not there.",
                hint=f"goss-supervisor service install --{service.scope}",
            )
        _refuse_without_manager(service)
        if verb != "stop" and self._told(service).state.startswith("failed"):
            run(
                *_systemctl(service), "reset-failed", _unit_name(service)
            )  # the start limit is not for people
        ran = run(*_systemctl(service), verb, _unit_name(service))
        if ran.returncode:
            raise _failure(service, verb, ran)
        return (f"{_unit_name(service)}: {done}",)


def _status(told: Mapping[str, str]) -> Status:
    state, sub = told.get("ActiveState") or "unknown", told.get("SubState") or "unknown"
    running = state in {"active", "reloading", "activating", "deactivating"}
    return Status(
        installed=True,
        running=running,
        at_boot=told.get("UnitFileState") == "enabled",
        state=f"{state} ({sub})",
        pid=int(told.get("MainPID") or 0) or None,
        detail=told.get("StatusText", "") if running else _end(told),  # the last words of one that died stay
    )


def _end(told: Mapping[str, str]) -> str:
    """Why it is down, where that was not asked for: ``ended with exit-code 78``, ``ended with watchdog``."""
    result = told.get("Result", "")
    if result in {"", "success"}:
        return ""
    code = f" {told['ExecMainStatus']}" if result == "exit-code" and told.get("ExecMainStatus") else ""
    return f"ended with {result}{code}"


def _failure(service: Service, verb: str, ran: Ran) -> SupervisorError:
    scope = f"--{service.scope}"
    if verb == "stop" or "job for" not in ran.stderr.lower():  # systemctl itself could not do it
        return SupervisorError(f"systemctl {verb}: {ran.said}", hint=_hint(service))
    return StartFailed(
        f"{_unit_name(service)} did not become ready.",
        hint=f"goss-supervisor service logs {scope} -n 50 tells why; "
        f"goss-supervisor service uninstall {scope} takes it away again.",
    )


def _refuse_without_manager(service: Service) -> None:
    """Raises SupervisorError where systemd is installed but does not run, as in most containers."""
    told = run(*_systemctl(service), "is-system-running")
    if told.stdout == "offline":
        raise SupervisorError("systemd is installed here, but does not run this system.", hint=FOREGROUND)
    if not told.stdout:
        raise SupervisorError(f"systemd does not answer: {told.said}", hint=_hint(service))


def _hint(service: Service) -> str:
    return _NO_SESSION if service.scope == "user" else "Say it with sudo."


def _unit_name(service: Service) -> str:
    return f"{service.name}.service"


def _systemctl(service: Service) -> Command:
    return ("systemctl", "--user") if service.scope == "user" else ("systemctl",)


def _occasion(service: Service) -> str:
    return "the next boot" if service.scope == "system" else "the next boot or login"
