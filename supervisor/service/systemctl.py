"""systemd, by systemctl, loginctl and journalctl."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from ..errors import NotFound, StartFailed, SupervisorError
from . import files, linger
from .account import existing_groups
from .ran import Ran, failure, must, run
from .systemd import GPU_GROUPS, Facts, unit
from .types import FOREGROUND, Command, Done, File, Request, Say, Service, Starts, Status, unheard
from .unit_state import PROPERTIES, Shown, shown

SYSTEM_FOLDER = Path("/etc/systemd/system")
_NO_SESSION = (
    "Log in as this user itself (by ssh, not by su or sudo), or have root say: loginctl enable-linger USER, "
    "then: export XDG_RUNTIME_DIR=/run/user/$(id -u)"
)


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

    @property
    def waits(self) -> bool:
        return True

    def refuse(self, request: Request, *, force: bool) -> None:
        _refuse_without_manager(request.service)
        files.refuse(self.files(request), force=force)

    def install(self, request: Request, *, force: bool, say: Say = unheard) -> tuple[str, ...]:
        self.refuse(request, force=force)
        service, done = request.service, Done(say)
        ask, name = _systemctl(service), _unit_name(service)
        written = files.write(self.files(request))
        for path in written:
            done(f"wrote {path}")
        is_new = bool(written) or self._shown(service).is_outdated
        if is_new:
            must(*ask, "daemon-reload", hint=_hint(service))
        before = self._shown(service)
        if not before.is_enabled:
            must(*ask, "enable", name, hint=_hint(service))
            done(f"enabled {name}: it starts with {_occasion(service)}")
        if service.scope == "user":
            for sentence in linger.enable():
                done(sentence)
        if before.is_running and is_new:
            self.restart(service, done)
        elif not before.is_ready:
            self.start(service, done)
        return tuple(done)

    def uninstall(self, service: Service, *, force: bool, say: Say = unheard) -> tuple[str, ...]:
        path, ask, name = self._path(service), _systemctl(service), _unit_name(service)
        done, is_there = Done(say), files.read(path) is not None
        if not is_there and not self._leaves_something(service):
            done(f"{path} is not there: nothing to remove")
            return tuple(done)
        if not force:
            files.refuse_another(path)
        _refuse_without_manager(service)
        now = ("--now",) if is_there or self._remains(service).is_known else ()
        must(*ask, "disable", *now, name, hint=_hint(service))
        done(f"stopped and disabled {name}")
        if files.remove(path, force=force):
            done(f"removed {path}")
        must(*ask, "daemon-reload", hint=_hint(service))
        run(*ask, "reset-failed", name)  # forgets how it ended; fails where there is nothing to forget
        for sentence in _what_stays(service, path):
            done(sentence)
        return tuple(done)

    def start(self, service: Service, say: Say = unheard) -> tuple[str, ...]:
        return self._change(service, "start", "started, and ready", say)

    def stop(self, service: Service, say: Say = unheard) -> tuple[str, ...]:
        return self._change(service, "stop", f"stopped, until {_occasion(service)}", say)

    def restart(self, service: Service, say: Say = unheard) -> tuple[str, ...]:
        return self._change(service, "restart", "restarted, and ready", say)

    def status(self, service: Service) -> Status:
        if files.read(self._path(service)) is None:
            return _status_without_file(service, self._remains(service))
        now = self._shown(service)
        starts = _starts(service) if now.is_enabled else "no"
        return Status(True, now.is_running, starts, now.state, now.pid, now.detail)

    def logs(self, service: Service, *, lines: int | None, follow: bool) -> Command:
        of = ("--user",) if service.scope == "user" else ()
        count = () if lines is None else ("--lines", str(lines))
        show = ("journalctl", *of, "--unit", _unit_name(service), *count, *(("--follow",) if follow else ()))
        self._require(service, hint=f"What an earlier one said: {shlex.join(show)}")
        return show

    # --- what is there

    def _shown(self, service: Service) -> Shown:
        """Raises SupervisorError where systemd does not answer."""
        return shown(must(*_show(service), hint=_hint(service)).stdout)

    def _remains(self, service: Service) -> Shown:
        """
        What systemd knows although there is no file of ours.

        It was deleted by hand, or an `uninstall` was cut short.  A unit of that name from somewhere else is
        somebody else's; and where systemd does not answer, nothing runs that could be told of.
        """
        ran = run(*_show(service))
        told = shown(ran.stdout) if ran.returncode == 0 else Shown()
        return told if told.file in {"", str(self._path(service))} else Shown()

    def _leaves_something(self, service: Service) -> bool:
        wanted_by = f"{'multi-user' if service.scope == 'system' else 'default'}.target.wants"
        link = self._path(service).parent / wanted_by / _unit_name(service)
        return link.is_symlink() or self._remains(service).is_known

    def _require(self, service: Service, hint: str = "") -> None:
        """Raises NotFound."""
        if files.read(self._path(service)) is None:
            raise NotFound(
                f"{self._path(service)} is not there.",
                hint=hint or f"goss-supervisor service install --{service.scope}",
            )

    def _path(self, service: Service) -> Path:
        folder = self.system_folder if service.scope == "system" else self.user_folder
        return folder / _unit_name(service)

    def _change(self, service: Service, verb: str, done: str, say: Say) -> tuple[str, ...]:
        """`systemctl` returns when the daemon has said READY, or has ended."""
        self._require(service)
        _refuse_without_manager(service)
        ask, name = _systemctl(service), _unit_name(service)
        before = self._shown(service)
        if verb != "stop" and (before.active == "failed" or before.is_tried_again):
            run(*ask, "reset-failed", name)  # the start limit is not for people
        ran = run(*ask, verb, name)
        if ran.returncode:
            raise self._failure(service, verb, ran)
        say(f"{name}: {done}")
        return (f"{name}: {done}",)

    def _failure(self, service: Service, verb: str, ran: Ran) -> SupervisorError:
        if verb == "stop" or "job for" not in ran.stderr.lower():  # systemctl itself could not do it
            return failure(ran, _hint(service))
        again = "; systemd goes on trying" if self._shown(service).is_tried_again else ""
        scope = f"--{service.scope}"
        return StartFailed(
            f"{_unit_name(service)} did not become ready{again}.",
            hint=f"goss-supervisor service logs {scope} -n 50 tells why; "
            f"goss-supervisor service uninstall {scope} takes it away again.",
        )


def _show(service: Service) -> Command:
    wanted = (f"--property={name}" for name in PROPERTIES)
    return (*_systemctl(service), "show", _unit_name(service), *wanted)


def _status_without_file(service: Service, left: Shown) -> Status:
    if not left.is_known:
        return Status(installed=False, running=False, starts_by_itself="no", state="not installed")
    why = f"its unit file is gone; goss-supervisor service uninstall --{service.scope} removes the rest"
    return Status(False, left.is_running, "no", left.state, left.pid, why)


def _starts(service: Service) -> Starts:
    return "at boot" if service.scope == "system" or linger.is_on() else "at login"


def _what_stays(service: Service, path: Path) -> Iterator[str]:
    """After an `uninstall`."""
    drop_ins = path.with_name(f"{path.name}.d")
    if drop_ins.exists():
        yield f"left {drop_ins}: that is yours"
    if service.scope == "user" and linger.is_on():
        yield f"left lingering on, as others may need it: {' '.join(linger.command('disable'))} ends it"


def _refuse_without_manager(service: Service) -> None:
    """Raises SupervisorError where systemd is installed but does not run, as in most containers."""
    told = run(*_systemctl(service), "is-system-running")
    if told.stdout == "offline":
        raise SupervisorError("systemd is installed here, but does not run this system.", hint=FOREGROUND)
    if not told.stdout:
        raise failure(told, _hint(service))


def _hint(service: Service) -> str:
    return _NO_SESSION if service.scope == "user" else "Say it with sudo."


def _unit_name(service: Service) -> str:
    return f"{service.name}.service"


def _systemctl(service: Service) -> Command:
    return ("systemctl", "--user") if service.scope == "user" else ("systemctl",)


def _occasion(service: Service) -> str:
    return "the next boot" if service.scope == "system" else "the next boot or login"
