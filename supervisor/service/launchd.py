"""
A launchd agent or daemon as its property list.  Pure.

What launchd has no setting for:

- *A wrong profile stays down.*  launchd knows success and failure, but no exit code that ends its retries,
  and no limit of retries.  So ``start --service`` ends with 0 there, and KeepAlive restarts failures only.
- *The log is rotated.*  launchd appends to StandardErrorPath for ever.  With ``start --service`` only errors
  before the daemon has its own log go there.
"""

from __future__ import annotations

import math
import plistlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .contract import FOR_A_SERVICE, ServiceRequest
from .unit_files import PLACE, sealed

AGENTS = Path("Library/LaunchAgents")  # in a home folder
DAEMONS = Path("/Library/LaunchDaemons")
EARLY_LOG = "launchd.log"

STOP_MARGIN_SECONDS = 10.0
_THROTTLE_SECONDS = 30  # between two starts; the default is 10, for ever
_OPEN_FILES = 8192  # the default is 256, and a request may take two
_UMASK = 0o077
_HEAD_LINES = 2  # the XML declaration and the DOCTYPE

_TOLD = re.compile(r"^\s*(path|state|pid|last exit code) = (.*?)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class JobReport:
    """What ``launchctl print`` said of a service, as far as it did; ``path`` is that of its property list."""

    state: str = ""
    pid: int | None = None
    last_exit: str = ""
    path: str = ""


def render(request: ServiceRequest) -> str:
    """The property list, with its mark.  Raises UsageError for a path or a name that none can hold."""
    try:
        lines = plistlib.dumps(_job(request), sort_keys=False).decode().splitlines(keepends=True)
    except ValueError as error:
        raise UsageError(f"launchd cannot run this command: {request.command}: {error}.") from error
    lines.insert(_HEAD_LINES, f"<!-- {PLACE} -->\n")
    return sealed("".join(lines))


def job_report(text: str) -> JobReport:
    """Of what ``launchctl print`` says; the first of each counts, for sockets and others have states too."""
    words = dict(reversed(_TOLD.findall(text)))
    state, pid, last_exit, path = (words.get(key, "") for key in ("state", "pid", "last exit code", "path"))
    return JobReport(state, int(pid) if pid.isdecimal() else None, last_exit, path)


def is_disabled(text: str, label: str) -> bool:
    """Of ``launchctl print-disabled``, which says ``disabled`` or, in older systems, ``true``."""
    return re.search(rf'"{re.escape(label)}" => (disabled|true)\b', text) is not None


def _job(request: ServiceRequest) -> dict[str, Any]:
    """
    See launchd.plist(5).

    KeepAlive's two conditions are joined by *or*.  Crashed alone did not bring back what SIGKILL had ended on
    macOS 26 (github.com/friday-platform/friday-studio/pull/345).

    Every ProcessType but Interactive is throttled, with all that it starts: Background made Metal eight times
    slower (github.com/dryvist/nix-ai/issues/916).

    ExitTimeOut is between SIGTERM and SIGKILL.  Its default is 20 s by the manual, and 5 s were observed.
    """
    job: dict[str, Any] = {
        "Label": request.service.name,
        "ProgramArguments": [*request.command, FOR_A_SERVICE],
        "EnvironmentVariables": dict(request.environment),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False, "Crashed": True},
        "ThrottleInterval": _THROTTLE_SECONDS,
        "ExitTimeOut": math.ceil(request.stop_seconds + STOP_MARGIN_SECONDS),
        "ProcessType": "Interactive",
        "SoftResourceLimits": {"NumberOfFiles": _OPEN_FILES},
        "StandardErrorPath": str(request.logs / EARLY_LOG),
        "Umask": _UMASK,
    }
    if request.service.scope == "system":
        job["UserName"] = request.user
    return job
