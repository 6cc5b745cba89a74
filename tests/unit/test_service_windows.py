"""What Task Scheduler is told, held against its schema; and how Ctrl+C is pressed, by a console that is played."""

# ruff: noqa: N802 - the names of kernel32
from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import UsageError
from supervisor.server.mechanism.console import let_children_hear, press_ctrl_c
from supervisor.service import unit_files
from supervisor.service.contract import Service, ServiceRequest
from supervisor.service.schtasks import render, windowless

REQUEST = ServiceRequest(
    Service("user"),
    (r"C:\Program Files\goss\python.exe", "-P", "-m", "supervisor", "start", "--profile", "my model"),
    (r"C:\Program Files\goss\python.exe", "-P", "-m", "supervisor", "reload"),
    stop_seconds=38.0,
    profile="my model",
    logs=Path("/logs"),
)
ACCOUNT = r"DESK\Ada & Bob"

GOLDEN = r"""<?xml version="1.0" encoding="UTF-16"?>
<!-- MARK -->
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Source>goss-supervisor service install</Source>
    <Description>Keeps a local LLM running.</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <Enabled>true</Enabled>
      <UserId>DESK\Ada &amp; Bob</UserId>
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>DESK\Ada &amp; Bob</UserId>
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>5</Count>
    </RestartOnFailure>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>4</Priority>
    <IdleSettings>
      <StopOnIdleEnd>false</StopOnIdleEnd>
      <RestartOnIdle>false</RestartOnIdle>
    </IdleSettings>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>C:\Program Files\goss\pythonw.exe</Command>
      <Arguments>-P -m supervisor start --profile "my model" --service</Arguments>
    </Exec>
  </Actions>
</Task>
"""

# Of Microsoft's schema, what is used of it: each element's children, as a pattern of their values or as their own
# name; a list is a sequence, a set may stand in any order.
BOOLEAN, DURATION, TEXT = r"true|false", r"P(\d+D)?(T(\d+H)?(\d+M)?(\d+S)?)?", r"(?s).+"
SCHEMA = {
    "Task": {"RegistrationInfo", "Triggers", "Settings", "Data", "Principals", "Actions"},
    "RegistrationInfo": {"URI", "SecurityDescriptor", "Source", "Date", "Author", "Version", "Description"},
    "Triggers": {"LogonTrigger", "BootTrigger"},
    "LogonTrigger": [
        "Enabled",
        "StartBoundary",
        "EndBoundary",
        "Repetition",
        "ExecutionTimeLimit",
        "UserId",
        "Delay",
    ],
    "Principals": {"Principal"},
    "Principal": {"UserId", "LogonType", "GroupId", "DisplayName", "RunLevel"},
    "Settings": {
        "AllowStartOnDemand",
        "RestartOnFailure",
        "MultipleInstancesPolicy",
        "DisallowStartIfOnBatteries",
        "StopIfGoingOnBatteries",
        "AllowHardTerminate",
        "StartWhenAvailable",
        "RunOnlyIfNetworkAvailable",
        "WakeToRun",
        "Enabled",
        "Hidden",
        "IdleSettings",
        "ExecutionTimeLimit",
        "Priority",
        "RunOnlyIfIdle",
    },
    "RestartOnFailure": {"Interval", "Count"},
    "IdleSettings": {"Duration", "WaitTimeout", "StopOnIdleEnd", "RestartOnIdle"},
    "Actions": {"Exec"},
    "Exec": {"Command", "Arguments", "WorkingDirectory"},
}
VALUES = {
    "Source": TEXT,
    "Description": TEXT,
    "Enabled": BOOLEAN,
    "UserId": TEXT,
    "LogonType": "S4U|Password|InteractiveToken|InteractiveTokenOrPassword",
    "RunLevel": "LeastPrivilege|HighestAvailable",
    "Interval": DURATION,
    "Count": r"[1-9]|[1-9]\d|1\d\d|2[0-4]\d|25[0-5]",
    "MultipleInstancesPolicy": "Parallel|Queue|IgnoreNew|StopExisting",
    "DisallowStartIfOnBatteries": BOOLEAN,
    "StopIfGoingOnBatteries": BOOLEAN,
    "ExecutionTimeLimit": DURATION,
    "Priority": r"\d|10",
    "StopOnIdleEnd": BOOLEAN,
    "RestartOnIdle": BOOLEAN,
    "Command": TEXT,
    "Arguments": TEXT,
}
NAMESPACE = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"


def parsed(text):
    return ET.fromstring(text.split("\n", 1)[1])  # the declaration is of the file's bytes


def found(task, path):
    return task.findtext("/".join(NAMESPACE + name for name in path.split("/")))


def hold_against_schema(element):
    name = element.tag.removeprefix(NAMESPACE)
    assert element.tag.startswith(NAMESPACE), name
    children = [child.tag.removeprefix(NAMESPACE) for child in element]
    if not children:
        assert re.fullmatch(VALUES[name], element.text), name
        return
    assert set(children) <= set(SCHEMA[name]), name
    assert len(children) == len(set(children)), name
    if isinstance(SCHEMA[name], list):
        assert children == [child for child in SCHEMA[name] if child in children], f"{name} is a sequence"
    for child in element:
        hold_against_schema(child)


def test_a_task_is_told_as_it_always_was():
    text = render(REQUEST, ACCOUNT)
    lines = text.splitlines(keepends=True)
    lines[1] = "<!-- MARK -->\n"
    assert "".join(lines) == GOLDEN
    assert unit_files.origin_of(text) == "ours"


def test_every_element_is_one_of_the_schema_in_its_place():
    task = parsed(render(REQUEST, ACCOUNT))
    hold_against_schema(task)
    sections = {child.tag.removeprefix(NAMESPACE) for child in task}
    assert {"Triggers", "Principals", "Settings", "Actions"} <= sections


def test_its_actions_belong_to_the_principal_that_there_is():
    task = parsed(render(REQUEST, ACCOUNT))
    principal = task.find(f"{NAMESPACE}Principals/{NAMESPACE}Principal")
    assert task.find(f"{NAMESPACE}Actions").get("Context") == principal.get("id")


WORD = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"), min_size=1)


@given(words=st.lists(WORD, min_size=1, max_size=4), account=WORD)
def test_what_is_written_is_what_is_read(words, account):
    text = render(replace(REQUEST, command=("C:\\python.exe", *words)), account)
    task = parsed(text.encode("utf-16").decode("utf-16"))
    assert found(task, "Actions/Exec/Arguments") == subprocess.list2cmdline([*words, "--service"])
    assert found(task, "Principals/Principal/UserId") == account
    assert unit_files.origin_of(text) == "ours"


def test_what_no_xml_can_hold_is_refused():
    with pytest.raises(UsageError, match="control character"):
        render(replace(REQUEST, command=("C:\\python.exe", "a\x07b")), ACCOUNT)


@pytest.mark.parametrize(
    ("program", "windowless_program"),
    [
        (r"C:\venv\Scripts\python.exe", r"C:\venv\Scripts\pythonw.exe"),
        (r"C:\venv\Scripts\Python.EXE", r"C:\venv\Scripts\pythonw.exe"),
        (r"C:\venv\Scripts\goss-supervisor.exe", r"C:\venv\Scripts\goss-supervisor.exe"),
    ],
)
def test_python_opens_no_window(program, windowless_program):
    assert windowless((program, "-m")) == (windowless_program, "-m")


class PlayedConsole:
    """kernel32 as it is documented: one console at a time, and what fails answers 0."""

    def __init__(self, *, attached, refuses=()):
        self.attached = attached
        self.refuses = refuses
        self.deaf = False
        self.pressed = []
        self.called = []

    def FreeConsole(self):
        return self._call("FreeConsole", self.attached is not None, lambda: setattr(self, "attached", None))

    def AttachConsole(self, pid):
        return self._call("AttachConsole", self.attached is None, lambda: setattr(self, "attached", pid))

    def SetConsoleCtrlHandler(self, handler, add):
        assert handler is None
        return self._call("SetConsoleCtrlHandler", True, lambda: setattr(self, "deaf", add))

    def GenerateConsoleCtrlEvent(self, event, group):
        press = lambda: self.pressed.append((self.attached, event, group, self.deaf))  # noqa: E731
        return self._call("GenerateConsoleCtrlEvent", self.attached is not None, press)

    def _call(self, name, possible, do):
        self.called.append(name)
        if not possible or name in self.refuses:
            return 0
        do()
        return 1


@pytest.mark.parametrize("attached", [7, None], ids=["with a console of its own", "without a console"])
def test_ctrl_c_is_pressed_in_the_childs_console_and_not_heard_by_who_presses(attached):
    console = PlayedConsole(attached=attached)
    assert press_ctrl_c(4711, console) is True
    assert console.pressed == [(4711, 0, 0, True)]
    assert console.attached is None


def test_nothing_is_pressed_in_another_console_where_the_childs_cannot_be_entered():
    console = PlayedConsole(attached=7, refuses={"AttachConsole"})
    assert press_ctrl_c(4711, console) is False
    assert console.pressed == []


def test_nothing_is_pressed_where_the_helper_would_hear_it_too():
    console = PlayedConsole(attached=7, refuses={"SetConsoleCtrlHandler"})
    assert press_ctrl_c(4711, console) is False
    assert console.pressed == []
    assert console.attached is None


def test_it_is_said_where_windows_does_not_press():
    assert press_ctrl_c(4711, PlayedConsole(attached=7, refuses={"GenerateConsoleCtrlEvent"})) is False


def test_children_hear_ctrl_c_whatever_the_daemon_inherited():
    console = PlayedConsole(attached=None)
    console.deaf = True
    let_children_hear(console)
    assert console.deaf is False
