r"""
A task of Windows' Task Scheduler that runs while its user is logged on.  Pure.

The elements, their order and their bounds are those of Microsoft's "Task Scheduler Schema" and of [MS-TSCH]
2.5.  What their defaults would do to a service is undone: an end after three days, none of it on batteries, a
priority below normal.

Accounts are ``DOMAIN\name``.
"""

from __future__ import annotations

import subprocess
from pathlib import PureWindowsPath
from xml.etree import ElementTree as ET

from ..errors import UsageError
from .contract import FOR_A_SERVICE, Command, Request
from .mark import PLACE, sealed

SOURCE = "goss-supervisor service install"  # a registered task of ours is known by it: comments are not kept
ENCODING = "utf-16"  # what Windows' own tools write, and read everywhere

_NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"
_PRINCIPAL = "Author"  # its name in the tasks that Windows makes
_PRIORITY = "4"  # the first of the normal class; 7, the default, is below it
_RETRY = {"Interval": "PT1M", "Count": "5"}  # of what cannot be started, not of what fails: [MS-TSCH] 2.5.4.2


def render(request: Request, account: str) -> str:
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


def windowless(command: Command) -> Command:
    """python.exe would open a black window at every logon; pythonw.exe beside it opens none."""
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
