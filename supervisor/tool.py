"""Runs a short-lived program to its end: bounded in time and output, in a clean environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO

READ_LIMIT_BYTES = 4 * 1024 * 1024
_DROPPED = ("LLAMA_", "PYTHON", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_REQUIRE_VIRTUALENV")


def own_program(module: str = "supervisor", environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """
    How this program, or a module of it, is started: isolated (``-I``), so that neither PYTHONPATH and
    PYTHONHOME nor a folder called `supervisor` has it import something else.

    Where it is itself found only by PYTHONPATH, or among the packages of this user, that has to stay.
    """
    folder = str(Path(__file__).resolve().parents[1])
    if folder in environ.get("PYTHONPATH", "").split(os.pathsep):
        return (sys.executable, "-P", "-m", module)
    return (sys.executable, *(("-E", "-P") if _is_of_user(folder) else ("-I",)), "-m", module)


def _is_of_user(folder: str) -> bool:
    """Whether pip installed it with --user, which ``-I`` leaves out; perhaps by a link to ``folder``."""
    import site  # noqa: PLC0415 - Python itself has imported it

    packages = site.getusersitepackages() if site.ENABLE_USER_SITE else ""
    if not packages or not os.path.isdir(packages):  # noqa: PTH112 - at every start, so no Path for it
        return False
    return folder == packages or any(name.startswith("goss_supervisor-") for name in os.listdir(packages))  # noqa: PTH208


@dataclass(frozen=True, slots=True)
class ToolResult:
    """How a program ended; ``returncode`` is None when it did not within its time, and was killed."""

    returncode: int | None
    stdout: str
    stderr: str


def clean_environment(base: Mapping[str, str], config_home: Path | None = None) -> dict[str, str]:
    """
    ``base`` without what would change llama.cpp, Python or pip behind our back.  ``config_home`` is empty or
    is not there: a broken ``llama.cpp/config.ini`` of the user makes even ``--version`` fail (since b10398).
    """
    kept = {name: value for name, value in base.items() if not name.upper().startswith(_DROPPED)}
    kept["GGML_NO_BACKTRACE"] = "1"
    if config_home is not None:
        kept["APPDATA" if sys.platform == "win32" else "XDG_CONFIG_HOME"] = str(config_home)
    return kept


def run_tool(command: Sequence[str], environment: Mapping[str, str], timeout_seconds: float) -> ToolResult:
    """
    Raises the OSError of a program that cannot be started.  Output goes to files, not pipes: a grandchild
    that lives on and holds a pipe could keep us waiting.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=dict(environment),
            start_new_session=True,
        )
        try:
            returncode: int | None = child.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            returncode = None
        finally:
            kill_group(child)
        return ToolResult(returncode, _text(out), _text(err))


_NO_CONFIG = Path(__file__).with_name("no-config")  # is not there, so nothing is left of it
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})


def run_engine(
    command: Sequence[str], timeout_seconds: float, variables: Mapping[str, str] = NO_VARIABLES
) -> ToolResult:
    """
    `run_tool` for a program of llama.cpp, in an environment that nothing of the user's changes but the
    ``variables`` of a profile: those decide which GPUs a driver shows, and where libraries are found.
    """
    return run_tool(command, clean_environment({**os.environ, **variables}, _NO_CONFIG), timeout_seconds)


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """End a child that was started in its own session, with all that it started; nothing if it is gone."""
    if child.poll() is not None:
        return
    if sys.platform == "win32":
        child.kill()
    else:
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(READ_LIMIT_BYTES).decode("utf-8", "replace")
