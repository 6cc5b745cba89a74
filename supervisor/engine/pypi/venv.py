"""A private Python environment and its pip, in which engines are installed and built."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import NetworkError, NoSuitableEngine, SupervisorError
from ...tool import clean_environment, kill_group

_PIP = ("--disable-pip-version-check", "--no-input", "--retries", "2", "--timeout", "20")
_NETWORK = re.compile(
    r"name resolution|NewConnectionError|Failed to establish|ConnectTimeout|ReadTimeout|ProxyError|SSLError"
    r"|Max retries exceeded|Network is unreachable|getaddrinfo|Connection (?:refused|reset|aborted|broken)"
    r"|HTTP error \d+|HTTPError|RemoteDisconnected|IncompleteRead|resolve host",
    re.IGNORECASE,
)
_NOT_OFFERED = re.compile(r"No matching distribution found|Could not find a version that satisfies")
_TAIL_LINES = 12

OutputListener = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Venv:
    """
    An environment at ``root``, with the log that everything done in it is written to.

    ``environment`` is added to that of each program that it runs.
    """

    root: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        return self.scripts / ("python.exe" if sys.platform == "win32" else "python")

    @property
    def scripts(self) -> Path:
        return self.root / ("Scripts" if sys.platform == "win32" else "bin")

    def make(self, listen: OutputListener) -> None:
        """In place, since an environment cannot be moved.  Raises NoSuitableEngine if Python lacks venv."""
        shutil.rmtree(self.root, ignore_errors=True)
        command = [sys.executable, "-I", "-m", "venv", str(self.root)]
        try:
            self.run(command, listen, "Making a Python environment")
        except SupervisorError as error:
            if not re.search(r"ensurepip|No module named venv", tail(self.log)):
                raise
            raise NoSuitableEngine(
                f"{sys.executable} cannot make environments: its venv module is not installed.",
                hint=_how_to_get_venv(),
            ) from error

    def pip(self, arguments: Sequence[str], listen: OutputListener, what: str) -> None:
        """
        Run pip.  The index, proxy and certificates that the user configured for it hold here too.

        Raises NetworkError, or NoSuitableEngine where the index offers nothing for this Python and machine.
        """
        before = _size(self.log)
        try:
            self.run([str(self.python), "-I", "-m", "pip", *arguments, *_PIP], listen, what)
        except SupervisorError as error:
            raise _pip_error(what, _since(self.log, before), self.log) or error from error

    def run(
        self, command: Sequence[str], listen: OutputListener, what: str, folder: Path | None = None
    ) -> None:
        """Run a program to its end; each line goes to the log and to ``listen``.  Raises SupervisorError."""
        hint = f"The log is {self.log}."
        try:
            returncode = self._run(command, listen, folder)
        except OSError as error:
            raise SupervisorError(f"{what} failed: {error}.", hint=hint) from error
        if returncode == 0:
            return
        output = tail(self.log)
        if "No space left on device" in output:
            why, hint = f"no space left on the disk of {self.root}.", "Free some."
            raise SupervisorError(f"{what} failed: {why}", hint=hint)
        raise SupervisorError(f"{what} failed (exit code {returncode}):\n{output}", hint=hint)

    def _run(self, command: Sequence[str], listen: OutputListener, folder: Path | None) -> int:
        path = f"{self.scripts}{os.pathsep}{os.environ.get('PATH', '')}"
        environment = {**clean_environment(os.environ), "PIP_USER": "0", "PATH": path, **self.environment}
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8", buffering=1) as log:  # by lines, for who looks on
            log.write(f"$ {' '.join(command)}\n")
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=folder,
                start_new_session=True,  # so that all of a compile can be ended at once
            )
            try:
                assert child.stdout is not None
                with child.stdout:
                    for raw in child.stdout:
                        line = raw.decode("utf-8", "replace")
                        log.write(line)
                        listen(line.strip())
                return child.wait()
            finally:
                kill_group(child)


def _how_to_get_venv() -> str:
    debian = f"Debian, Ubuntu: sudo apt-get install python3.{sys.version_info.minor}-venv"
    elsewhere = "Install the full Python from python.org; its embeddable package has no venv."
    return {"linux": debian}.get(sys.platform, elsewhere)


def tail(log: Path) -> str:
    return "\n".join(_since(log, max(0, _size(log) - 16 * 1024)).splitlines()[-_TAIL_LINES:])


def _pip_error(what: str, output: str, log: Path) -> SupervisorError | None:
    hint = f"The log is {log}."
    if _NETWORK.search(output):
        check = "Check the network, and a proxy (HTTPS_PROXY) or mirror (PIP_INDEX_URL) if you need one. "
        return NetworkError(f"{what} failed: the package index does not answer.", hint=check + hint)
    if _NOT_OFFERED.search(output):
        version = ".".join(map(str, sys.version_info[:2]))
        return NoSuitableEngine(
            f"{what} failed: the package index offers nothing for Python {version} on this machine.",
            hint="Use another engine.source (build, system or path). " + hint,
        )
    return None


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _since(log: Path, offset: int) -> str:
    with log.open("rb") as file:
        file.seek(offset)
        return file.read().decode("utf-8", "replace")
