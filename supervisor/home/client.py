"""The CLI's end of the control socket.  Small, because ``status`` should be quick."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from typing import Any

from ..errors import NotRunning, SupervisorError
from ..paths import Paths
from ..progress import duration
from .control_socket import endpoint

ANSWER_SECONDS = 10.0  # until the first message; a daemon that is well needs milliseconds
SILENT_SECONDS = 60.0  # for one that has its lock and does not listen yet, or no longer
_PAUSE_SECONDS = 0.05
LATE = 15  # times as long as it promised may pass until the next: a machine that swaps is slow, not dead
_UNKNOWN = "Not a request that this daemon knows"  # so an older one says it
_OLDER = "If the daemon is of an older version: goss-supervisor stop, then start it again."


Message = dict[str, Any]


def stream(paths: Paths, request: Message) -> Generator[Message, None, None]:
    """
    Send one request and give each message of the answer as it comes; the last one has ``final``.

    Raises NotRunning where no daemon runs, NotAnswering where one is silent for too long, and SupervisorError
    for a request that it refuses.
    """
    try:
        yield from _messages(paths, request)
    except TimeoutError:
        from .unresponsive import not_answering  # noqa: PLC0415 - rarely needed

        raise not_answering(paths, "does not answer") from None


def _messages(paths: Paths, request: Message) -> Iterator[Message]:
    with suppress(ConnectionError), endpoint(paths.runtime).connect(ANSWER_SECONDS) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.sendall(json.dumps({"protocol": 1, **request}).encode() + b"\n")
        with connection.makefile("rb") as lines:
            for line in lines:
                message: Message = json.loads(line)
                if "error" in message:
                    raise _refusal(message)
                again = message.get("again_seconds")  # a daemon of an older version promises nothing
                connection.settimeout(again and LATE * again)
                yield message
                if message.get("final"):
                    return
    raise NotRunning("The daemon went away before it had answered.", hint="goss-supervisor logs")


def _refusal(message: Message) -> SupervisorError:
    """Of the kind of the error that the daemon came upon, by its exit code: not found, does not fit …"""
    code = message.get("exit_code", SupervisorError.exit_code)
    kinds = {each.exit_code: each for each in SupervisorError.__subclasses__()}
    kind = SupervisorError if code == SupervisorError.exit_code else kinds.get(code, SupervisorError)
    is_new = str(message["error"]).startswith(_UNKNOWN)
    error = kind(message["error"], hint=message.get("hint", "") or (_OLDER if is_new else ""))
    error.exit_code = code
    return error


def ask(paths: Paths, request: Message) -> Message:
    """The final message of the answer."""
    message: Message = {}
    for message in stream(paths, request):  # noqa: B007 - the last one is wanted
        pass
    return message


def settled_status(paths: Paths, waiting: Callable[[str], AbstractContextManager[object]]) -> Message | None:
    """
    The status of the daemon that serves here; None where none runs.

    Waits while one is about to begin or to end, or puts back what a measurement changed whose process was
    killed; ``waiting`` shows why.  Raises as `ask` does, and NotAnswering for one that is silent for long.
    """
    shown, silent_since = "", time.monotonic()
    with ExitStack() as showing:
        while True:
            status, why = _settled(paths)
            if not why:
                return status
            silent_since = silent_since if status is None else time.monotonic()
            if time.monotonic() - silent_since > SILENT_SECONDS:
                from .unresponsive import not_answering  # noqa: PLC0415 - rarely needed

                raise not_answering(paths, "does not answer")
            if why != shown:
                showing.close()
                showing.enter_context(waiting(f"waiting for the daemon that runs here: {why}"))
                shown = why
            time.sleep(_PAUSE_SECONDS)


def _settled(paths: Paths) -> tuple[Message | None, str]:
    """Its status, None where it does not answer; and why it is neither here to stay nor gone."""
    try:
        status: Message = ask(paths, {"op": "status"})["status"]
    except NotRunning:
        from ..locks import held_by  # noqa: PLC0415 - ``status`` does without it
        from .places import daemon_lock  # noqa: PLC0415 - as above

        is_free = held_by(daemon_lock(paths)) is None
        return None, "" if is_free else "it does not listen yet, or no longer"
    return status, status["daemon"].get("unsettled", "")  # a daemon of an older version does not say it


def have_usage_written(paths: Paths) -> None:
    """By a daemon that runs, so that the file has the last minute too; an older one knows no such request."""
    with suppress(SupervisorError):
        ask(paths, {"op": "usage"})


@contextmanager
def hold(paths: Paths, owner: str, why: str, server: str | None = None) -> Iterator[int]:
    """
    Keep a server to ourselves: other requests about it are refused meanwhile, with ``owner`` and ``why``.

    Gives the id that requests of ours carry as ``hold``.  It ends with this context, and with this process.
    Raises NotRunning, and SupervisorError where somebody else holds it.
    """
    with holding(paths, {"owner": owner_named(owner), "why": why, "server": server}) as answer:
        yield int(answer["held"])


@contextmanager
def holding(paths: Paths, request: Message) -> Iterator[Message]:
    """A hold with these fields (docs/control-protocol.md), and its answer; ends and raises as `hold`."""
    with closing(stream(paths, {"op": "hold", **request})) as answers:
        yield next(answers)


def owner_named(owner: str) -> str:
    """``bench (pid 4711)``: who holds a server, for people."""
    return f"{owner} (pid {os.getpid()})"


def follow(paths: Paths, request: Message, say: Callable[[str], None]) -> Message:
    """The final message about a start or reload; each state on the way is shown once, in one line."""
    answer: Message = {}
    shown = ""
    for answer in stream(paths, request):
        awaits = answer.get("awaits")
        state = "" if answer.get("final") else awaits["text"] if awaits else _state(answer)
        if state and state != shown:
            say(f"{awaits['profile']}: {awaited_text(awaits)}" if awaits else state)
            shown = state
    return answer


def awaited_text(awaits: Message) -> str:
    """``waits for chat, which answers 2 requests; at most 1 min 40 s more``."""
    left = awaits["seconds_left"]
    return f"{awaits['text']}; at most {duration(left)} more" if left is not None else str(awaits["text"])


def _state(answer: Message) -> str:
    if "status" not in answer:
        return ""  # it is not known yet what it waits for
    server = answer["status"]["server"]
    why = f" ({server['why']})" if server["why"] else ""
    return f"{server['profile']}: {server['state']}{why}"
