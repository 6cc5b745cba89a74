"""The environment of an engine: only what the plan sets, nothing left over from the caller's shell."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from ..engine.adapters.known import adapter_of
from .launch import LaunchPlan

SCRUBBED: tuple[str, ...] = (
    "LLAMA_ARG_*",  # each one is an option of the server; a stray LLAMA_ARG_PORT moves it
    "LLAMA_LOG_*",  # the same, before b9360
    "LLAMA_OFFLINE",
    "LLAMA_API_KEY",
    "LLAMA_SERVER_ROUTER_PORT",  # turns it into the child of a router that is not there
    "NOTIFY_SOCKET",  # the service manager speaks with the daemon, not with the server
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "FDSTORE",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "SYSTEMD_EXEC_PID",
    "MANAGERPID",
    "MAINPID",
    "CREDENTIALS_DIRECTORY",
    "XPC_SERVICE_NAME",
)
"""Inherited variables that the server never sees; the plan may still set one of them on purpose."""


def child_environment(base: Mapping[str, str], plan: LaunchPlan, private_config: Path) -> dict[str, str]:
    """
    `base` without `SCRUBBED`, with what its engine always has, then what the plan sets, then its secrets.
    `private_config` is an empty folder of ours.
    """
    kept = {name: value for name, value in base.items() if not is_scrubbed(name)}
    return {**kept, **added_environment(plan, private_config), **plan.secrets}


def added_environment(plan: LaunchPlan, private_config: Path) -> dict[str, str]:
    """What is set on top of what is inherited, but for the secrets: this is what `plan` shows."""
    return {**adapter_of(plan.adapter).environment(private_config), **plan.env}


def is_scrubbed(name: str) -> bool:
    return any(fnmatchcase(name.upper(), pattern) for pattern in SCRUBBED)


def system_config(base: Mapping[str, str] | None = None) -> Path | None:
    """The system-wide config.ini that llama-server would read in spite of us, if there is one."""
    environment = os.environ if base is None else base
    folder = environment.get("PROGRAMDATA", "C:\\ProgramData") if sys.platform == "win32" else "/etc"
    config = Path(folder) / "llama.cpp" / "config.ini"
    return config if config.exists() else None
