"""Runs a llama-server for one question; it never outlives us."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...tool import NO_VARIABLES, READ_LIMIT_BYTES, clean_environment, kill_group
from . import die_with_parent

HOST = "127.0.0.1"
QUESTION = "Does it work?"
PAUSE_SECONDS = 0.03
LOOK_SECONDS = 2.0  # a server that loads answers at once that it does
_LINES, _LINE_LENGTH = 3, 240
_PREFIX = re.compile(r"^\d+(?:\.\d+){3} [A-Z] +")  # of a log line since b9151: time and level
_MEMORY = re.compile(r"out of ?(device ?)?memory|(unable|failed) to allocate", re.IGNORECASE)
_BIND = re.compile(r"couldn't bind|failed to bind|address already in use", re.IGNORECASE)


class Failed(Exception):
    """No error of ours but a finding: what it did instead of answering; ``str()`` follows on "it"."""


class ShortOfMemory(Failed):
    """Something else holds the memory that it needs, perhaps only now."""


class PortTaken(Failed):
    """Somebody else was faster on the port; another one may be tried."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str], port: int, variables: Mapping[str, str] = NO_VARIABLES
) -> Iterator[SmokeTest]:
    """Start it, and end it with all that it started.  Raises the OSError of what cannot be started."""
    key = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="goss-rehearsal-", ignore_cleanup_errors=True) as folder:
        output = Path(folder) / "output"
        with output.open("ab") as file:
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", die_with_parent.__file__, *command],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**clean_environment({**os.environ, **variables}, Path(folder)), "LLAMA_API_KEY": key},
                start_new_session=True,  # so that Ctrl+C and the end of the group are ours to give
            )
        try:
            yield SmokeTest(child, port, key, output)
        finally:
            _end(child)


@dataclass(frozen=True, slots=True)
class SmokeTest:
    """The running server.  The key makes sure that it is this one that answers, on a port that was free."""

    child: subprocess.Popen[bytes]
    port: int
    key: str
    output: Path

    def answer(self, timeout_seconds: float) -> str:
        """What it says to one question; it has ``timeout_seconds`` to load, and as many to answer."""
        self._wait_until_ready(timeout_seconds)
        try:
            status, body = self._request("POST", "/v1/chat/completions", timeout_seconds)
        except TimeoutError:
            raise Failed(f"did not answer within {timeout_seconds:g} s{self._said()}") from None
        except (OSError, http.client.HTTPException) as error:
            raise self._ended("answered") or Failed(f"broke off its answer: {error}") from None
        if status == 401 or self.child.poll() is not None:
            raise PortTaken(f"lost port {self.port} to another server")
        if status != 200:
            raise Failed(f"answered {status}: {body[:_LINE_LENGTH].decode('utf-8', 'replace')}")
        return _content(body)

    def _wait_until_ready(self, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not self._is_ready():
            if self.child.poll() is not None and (ended := self._ended("loaded the demo model")):
                raise ended
            if time.monotonic() > deadline:
                raise Failed(f"was not ready with the demo model within {timeout_seconds:g} s{self._said()}")
            time.sleep(PAUSE_SECONDS)

    def _is_ready(self) -> bool:
        try:
            return self._request("GET", "/health", LOOK_SECONDS)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def _request(self, method: str, path: str, timeout_seconds: float) -> tuple[int, bytes]:
        """Straight to it: ``http.client`` knows of no proxies."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout_seconds)
        question = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 512}
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, json.dumps(question) if method == "POST" else None, headers)
            response = connection.getresponse()
            return response.status, response.read(READ_LIMIT_BYTES)
        finally:
            connection.close()

    def _ended(self, doing: str) -> Failed | None:
        """How it died while it did something; None when it lives."""
        try:
            code = self.child.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            return None
        output = self._output()
        if _BIND.search(output):
            return PortTaken(f"could not have port {self.port}")
        how = f"signal {code - 128}" if code > 128 else f"exit code {code}"
        kind = ShortOfMemory if _MEMORY.search(output) else Failed
        return kind(f"ended while it {doing} ({how}){self._said()}")

    def _said(self) -> str:
        lines = [_PREFIX.sub("", line.strip()) for line in self._output().splitlines()]
        last = [line[:_LINE_LENGTH] for line in lines if line][-_LINES:]
        return f": {' | '.join(last)}" if last else ", and said nothing"

    def _output(self) -> str:
        with self.output.open("rb") as file:
            file.seek(max(0, self.output.stat().st_size - READ_LIMIT_BYTES))
            return file.read().decode("utf-8", "replace")


def _content(body: bytes) -> str:
    """Of the first choice; "" where there is none."""
    try:
        reply: Any = json.loads(body)
        return str(reply["choices"][0]["message"]["content"])
    except (ValueError, LookupError, TypeError):
        return ""


def _end(child: subprocess.Popen[bytes]) -> None:
    """`die_with_parent` ends it when stdin closes; what is left then is killed."""
    assert child.stdin is not None
    child.stdin.close()
    try:
        child.wait(die_with_parent.GRACE_SECONDS + LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        kill_group(child)
