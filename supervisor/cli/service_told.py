"""What a person is told while a service manager works, and what comes next."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ..daemon import client
from ..errors import NotRunning, StartFailed
from ..paths import HOME_VARIABLE, Paths
from ..service.types import Request, Say, Scope, Status
from .outcome import show_outcome
from .progress import waiting

UNTIL_READY = "waiting until it is ready; goss-supervisor service logs -f shows more"
APPEARS_SECONDS = 60.0  # launchd may wait 30 s between two starts (launchd.py), and ours takes some more
_LOOK_SECONDS = 0.25


@contextmanager
def at_work(scope: Scope, text: str, *, undo: bool = False) -> Iterator[Say]:
    """
    Around what a manager is asked to do: what to call with each sentence, which is said at once.

    ``undo``: after the first one it is said how to take it all back.
    """
    with waiting(text) as progress:
        owed = [f"to undo this: {again('uninstall', scope)}"] if undo else []

        def say(sentence: str) -> None:
            progress.close()
            click.echo(sentence)
            while owed:
                click.echo(owed.pop(), err=True)

        try:
            yield say
        except KeyboardInterrupt:
            progress.close()
            click.echo(f"what was asked of the service manager goes on: {again('status', scope)}", err=True)
            raise


def until_ready(paths: Paths, scope: Scope, appears_seconds: float = APPEARS_SECONDS) -> None:
    """
    Where the manager does not wait, the daemon is asked; it has limits of its own, which know of progress.

    Raises StartFailed where it did not become ready, and where there is none after ``appears_seconds``.
    """
    deadline = time.monotonic() + appears_seconds
    with waiting(UNTIL_READY) as progress:
        while True:
            try:
                answer = client.follow(paths, {"op": "wait"}, progress.step)
                break
            except NotRunning as error:
                if time.monotonic() >= deadline:
                    raise StartFailed(
                        f"The service was started, and there is no daemon after {appears_seconds:.0f} s.",
                        hint=f"goss-supervisor service logs --{scope} -n 50 tells why.",
                    ) from error
                time.sleep(_LOOK_SECONDS)
    show_outcome(answer, as_json=False)


def again(word: str, scope: Scope) -> str:
    """A command about the same service, as this user has to say it."""
    changes = word not in {"status", "logs"}
    return f"{'sudo ' if scope == 'system' and changes else ''}goss-supervisor service {word} --{scope}"


def with_home(request: Request, platform: str = sys.platform) -> str:
    """What to put before a command of ours, so that it finds the service's files."""
    if platform == "win32":  # PowerShell's way; a service of the system there is none
        quoted = str(request.data).replace("'", "''")
        return f"$env:{HOME_VARIABLE} = '{quoted}';"
    home = f"{HOME_VARIABLE}={shlex.quote(str(request.data))}"  # quoted whole, it would be no assignment
    other = request.user and request.user != os.environ.get("SUDO_USER")
    return f"sudo -u {shlex.quote(request.user)} env {home}" if other else home


def rows(service: str, found: Status) -> str:
    """``service status`` for people."""
    told = {
        "service": service,
        "state": found.state,
        "pid": "-" if found.pid is None else str(found.pid),
        "starts by itself": found.starts_by_itself or "unknown",
        "says": found.detail or "-",
    }
    return "\n".join(f"{name:<16}  {text}" for name, text in told.items())
