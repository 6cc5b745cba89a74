r"""
Windows' Task Scheduler, by schtasks: a task that runs while its user is logged on.  Not yet run on Windows.

schtasks prints in the system's language, so only its exit codes count, and the XML of a task.  Its ``/end``
kills the task's process at once and leaves its children (github.com/martymcenroe/AssemblyZero/issues/2016).
So the daemon itself is asked whether it runs, and to stop.

Elements, order and bounds follow Microsoft's "Task Scheduler Schema" and [MS-TSCH] 2.5.  Three defaults would
harm a service and are changed: an end after three days, none of it on batteries, a priority below normal.
Accounts are ``DOMAIN\name``.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import ClassVar
from xml.etree import ElementTree as ET

from ..errors import EXIT_DEGRADED, EXIT_OK, NotFound, NotRunning, SupervisorError, UsageError
from ..paths import Paths
from ..tool import own_program
from . import unit_files
from .contract import (
    DAEMON_LOG,
    FOR_A_SERVICE,
    File,
    Service,
    ServiceCommand,
    ServiceRequest,
    ServiceStatus,
    must,
    run,
)
from .unit_files import PLACE, sealed

_OURSELVES = own_program()
_RUNNING = "267009"  # SCHED_S_TASK_RUNNING, 0x41301
_LOOKS = 20
_AT_BOOT = "Install it with --user; for a service that starts at boot there is WinSW: docs/service.md"


def found(environ: Mapping[str, str] = os.environ) -> TaskScheduler:
    """As this user sees it."""
    account = f"{environ.get('USERDOMAIN', '.')}\\{environ.get('USERNAME', '')}"
    paths = Paths.from_environment()
    return TaskScheduler(account, paths.state, paths.logs)


@dataclass(frozen=True, slots=True)
class TaskScheduler:
    """A `Manager`, for this account.  ``folder`` keeps our copy of the task; Windows has its own."""

    title: ClassVar[str] = "Task Scheduler"
    waits: ClassVar[bool] = False

    account: str
    folder: Path
    log_folder: Path
    ourselves: ServiceCommand = _OURSELVES
    pause_seconds: float = 0.5  # between two looks at whether a task has ended

    def files(self, request: ServiceRequest) -> tuple[File, ...]:
        _refuse_system(request.service)
        return (File(self._path(request.service), render(request, self.account), encoding=ENCODING),)

    def commands(self, request: ServiceRequest) -> tuple[ServiceCommand, ...]:
        return (self._create(request.service), ("schtasks", "/run", "/tn", request.service.name))

    def refuse(self, request: ServiceRequest, *, force: bool) -> None:
        wanted, registered = self.files(request), _registered(request.service)
        if registered and SOURCE not in registered and not force:
            raise SupervisorError(
                f"There is a task {request.service.name} that was not made by goss-supervisor.",
                hint="Rename it, or say --force to have it replaced.",
            )
        unit_files.refuse(wanted, force=force)

    def install(self, request: ServiceRequest, *, force: bool) -> Iterator[str]:
        self.refuse(request, force=force)
        service = request.service
        written = unit_files.write(self.files(request))
        yield from (f"wrote {path}" for path in written)
        is_new = bool(written) or SOURCE not in _registered(service)
        if is_new:
            yield from self._leave(service)
            must(*self._create(service))
            yield f"registered the task {service.name}: it starts with the next logon"
        is_down = self._pid() is None
        if is_down:
            yield self._enter(service)
        if request.environment and (is_new or is_down):
            yield _of_environment(request.environment)

    def uninstall(self, service: Service, *, force: bool) -> Iterator[str]:
        _refuse_system(service)
        path = self._path(service)
        if not force:
            unit_files.refuse_another(path, ENCODING)
        is_registered = SOURCE in _registered(service)
        if is_registered:
            yield from self._leave(service)
            must("schtasks", "/delete", "/tn", service.name, "/f")
            yield f"removed the task {service.name}"
        if unit_files.remove(path, encoding=ENCODING, force=force):
            yield f"removed {path}"
        elif not is_registered:
            yield f"{path} is not there: nothing to remove"

    def start(self, service: Service) -> Iterator[str]:
        _require(service)
        yield self._enter(service) if self._pid() is None else f"{service.name} runs already"

    def stop(self, service: Service) -> Iterator[str]:
        _require(service)
        yield from self._leave(service) or [f"{service.name} does not run"]

    def restart(self, service: Service) -> Iterator[str]:
        _require(service)
        yield from self._leave(service)
        yield self._enter(service)

    def status(self, service: Service) -> ServiceStatus:
        registered = _registered(service)
        is_ours = SOURCE in registered
        is_disabled = "<Enabled>false</Enabled>" in registered
        pid = self._pid()
        return ServiceStatus(
            installed=is_ours,
            running=pid is not None,
            starts_by_itself="at login" if is_ours and not is_disabled else "no",
            state="not installed" if not is_ours else "not running" if pid is None else "running",
            pid=pid,
        )

    def logs(self, service: Service, *, lines: int | None, follow: bool) -> ServiceCommand:
        _require(service)
        path = str(self.log_folder / DAEMON_LOG).replace("'", "''")
        tail = "" if lines is None else f" -Tail {lines}"
        script = f"Get-Content -LiteralPath '{path}'{tail}{' -Wait' if follow else ''}"
        return ("powershell", "-NoProfile", "-Command", script)

    # --- the daemon

    def _enter(self, service: Service) -> str:
        """Returns at once: the task goes on by itself."""
        must("schtasks", "/run", "/tn", service.name)
        return f"started {service.name}"

    def _leave(self, service: Service) -> list[str]:
        """A sentence; none where it did not run.  A task ends after its daemon, and till then is not run."""
        ran = run(*self.ourselves, "stop")
        if ran.returncode == NotRunning.exit_code:
            return []
        if ran.returncode != EXIT_OK:
            raise SupervisorError(f"goss-supervisor stop: {ran.last_line}", hint="goss-supervisor stop --now")
        for _ in range(_LOOKS):
            if not _is_under_way(service):
                break
            time.sleep(self.pause_seconds)
        return [f"stopped {service.name}, until the next logon"]

    def _pid(self) -> int | None:
        """The daemon's, where there is one."""
        ran = run(*self.ourselves, "status", "--json")
        if ran.returncode not in {EXIT_OK, EXIT_DEGRADED}:
            return None
        pid: int = json.loads(ran.stdout)["daemon"]["pid"]
        return pid

    # --- what is there

    def _path(self, service: Service) -> Path:
        return self.folder / f"{service.name}.xml"

    def _create(self, service: Service) -> ServiceCommand:
        """``/f``: over the one that is there, without a question."""
        return ("schtasks", "/create", "/tn", service.name, "/xml", str(self._path(service)), "/f")


def _registered(service: Service) -> str:
    """The XML of the task of this name as Windows keeps it; "" where there is none."""
    ran = run("schtasks", "/query", "/tn", service.name, "/xml")
    return ran.stdout.replace("\0", "") if ran.returncode == 0 else ""  # in whatever encoding it comes


def _is_under_way(service: Service) -> bool:
    """The column of the last result is a number in every language."""
    rows = run("schtasks", "/query", "/tn", service.name, "/v", "/fo", "csv", "/nh").stdout
    return any(_RUNNING in row for row in csv.reader(rows.splitlines()))


def _require(service: Service) -> None:
    """Raises UsageError or NotFound."""
    _refuse_system(service)
    if SOURCE not in _registered(service):
        raise NotFound(f"There is no task {service.name} of ours.", hint="goss-supervisor service install")


def _refuse_system(service: Service) -> None:
    if service.scope == "system":
        raise UsageError("Task Scheduler starts it when its user logs on.", hint=_AT_BOOT)


def _of_environment(environment: Mapping[str, str]) -> str:
    names = ", ".join(sorted(environment))
    return f"a task has no environment of its own: make sure that your user's holds {names} (setx NAME VALUE)"


SOURCE = "goss-supervisor service install"  # a registered task of ours is known by it: comments are not kept
ENCODING = "utf-16"  # what Windows' own tools write, and read everywhere

_NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"
_PRINCIPAL = "Author"  # its name in the tasks that Windows makes
_PRIORITY = "4"  # the first of the normal class; 7, the default, is below it
_RETRY = {"Interval": "PT1M", "Count": "5"}  # of what cannot be started, not of what fails: [MS-TSCH] 2.5.4.2


def render(request: ServiceRequest, account: str) -> str:
    """The task, with its mark.  Raises UsageError for a path or a name that no XML can hold."""
    if any(ord(letter) < 32 for word in (*request.command, account) for letter in word):
        raise UsageError(f"A task cannot hold {request.command}: there is a control character in it.")
    task = ET.Element("Task", {"version": "1.2", "xmlns": _NAMESPACE})
    _add(task, "RegistrationInfo", Source=SOURCE, Description="Keeps a local LLM running.")
    triggers = ET.SubElement(task, "Triggers")
    _add(triggers, "LogonTrigger", Enabled="true", UserId=account)  # of any user only an administrator may
    _add_principal(task, account)
    _add_settings(task)
    actions = ET.SubElement(task, "Actions", {"Context": _PRINCIPAL})
    program, *words = windowless(request.command)
    _add(actions, "Exec", Command=program, Arguments=subprocess.list2cmdline([*words, FOR_A_SERVICE]))
    ET.indent(task)
    body = ET.tostring(task, encoding="unicode")
    return sealed(f'<?xml version="1.0" encoding="UTF-16"?>\n<!-- {PLACE} -->\n{body}\n')


def windowless(command: ServiceCommand) -> ServiceCommand:
    """python.exe would open a black window at every logon; pythonw.exe next to it opens none."""
    program = PureWindowsPath(command[0])
    if program.name.lower() != "python.exe":
        return command
    return (str(program.with_name("pythonw.exe")), *command[1:])


def _add_principal(task: ET.Element, account: str) -> None:
    """In the user's own session, where the GPU is, and with no more rights than usual; asks no password."""
    principal = ET.SubElement(ET.SubElement(task, "Principals"), "Principal", {"id": _PRINCIPAL})
    _fill(principal, UserId=account, LogonType="InteractiveToken", RunLevel="LeastPrivilege")


def _add_settings(task: ET.Element) -> None:
    settings = ET.SubElement(task, "Settings")
    _add(settings, "RestartOnFailure", **_RETRY)
    _fill(
        settings,
        MultipleInstancesPolicy="IgnoreNew",
        DisallowStartIfOnBatteries="false",
        StopIfGoingOnBatteries="false",
        ExecutionTimeLimit="PT0S",  # none
        Priority=_PRIORITY,
    )
    _add(settings, "IdleSettings", StopOnIdleEnd="false", RestartOnIdle="false")


def _add(parent: ET.Element, tag: str, **children: str) -> None:
    _fill(ET.SubElement(parent, tag), **children)


def _fill(parent: ET.Element, **children: str) -> None:
    for tag, text in children.items():
        ET.SubElement(parent, tag).text = text
