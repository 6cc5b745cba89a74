"""
Jobs: commands of ours that the daemon runs for its clients, such as the page.

A job that changes something goes on when its client has gone, and is kept for a while after its end.  One
that only reads ends with its client.  `job_commands` says which there are.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import IO, Any

from ..errors import NotFound, Superseded, SupervisorError
from ..home.places import HELPER_VARIABLE, JOB
from ..progress import iso
from ..tool import own_program
from .control_request import ControlRequest
from .helpers import Answer, last_of, objects_in
from .job_commands import CheckedCommand, checked_command

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1  # how soon we see what one says, and that it has ended
GRACE_SECONDS = 5.0  # after Ctrl+C, when the daemon ends: `stop` waits ten for that
REPEAT_SECONDS = 2.0
MOST_JOBS, MOST_READS, MOST_KEPT = 4, 8, 50
_MOST_KEPT_BYTES = 64 * 1024  # of the result of one that has ended
_TAIL_BYTES = 4096
_LONGEST_LINE = 300
_REAP_SECONDS = 1.0
_PROGRAM = own_program()
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-_])")


@dataclass(frozen=True, slots=True)
class DaemonJob:
    """
    For clients (docs/control-protocol.md).  ``line`` is the last of its progress; ``result`` its last JSON
    object, of an outcome without the status that follows it.
    """

    id: int
    command: str
    words: str
    since: str
    line: str = ""
    ended: str | None = None
    exit_code: int | None = None
    result: Answer | None = None
    error: str = ""
    hint: str = ""
    superseded: bool = False


class Jobs:
    """All of a daemon; ``changed`` is called after each change of a listed one."""

    def __init__(self, changed: Callable[[], None], program: Sequence[str] = _PROGRAM) -> None:
        self._changed, self._program = changed, program
        self._under_way: dict[int, _JobUnderWay] = {}
        self._ended: deque[dict[str, Any]] = deque(maxlen=MOST_KEPT)
        self._last_id = 0
        self._over = False

    def operations(self) -> dict[str, Callable[[ControlRequest], AsyncIterator[dict[str, Any]]]]:
        """Of the control socket."""
        return {"run": self._answer_run, "cancel": self._answer_cancel, "jobs": self._answer_jobs}

    def _answer_run(self, request: ControlRequest) -> AsyncIterator[dict[str, Any]]:
        return self.run(checked_command(request.command, request.arguments, can_edit=request.can_edit))

    async def _answer_cancel(self, request: ControlRequest) -> AsyncIterator[dict[str, Any]]:
        """At once: who follows the job hears of its end."""
        yield {"job": self.cancel(request.job), "final": True}

    async def _answer_jobs(self, _: ControlRequest) -> AsyncIterator[dict[str, Any]]:
        yield {"jobs": self.listed(results=True), "final": True}

    def listed(self, *, results: bool) -> list[dict[str, Any]]:
        """Each `DaemonJob` that has ended, then those under way; ``results``: with what they came to."""
        ended = [each if results else {**each, "result": None} for each in self._ended]
        return ended + [asdict(each.job) for each in self._under_way.values() if each.asked.is_job]

    async def run(self, asked: CheckedCommand) -> AsyncIterator[dict[str, Any]]:
        """
        What happens to it, and last its result; a job that is under way is not run twice, but followed.

        Raises SupervisorError where too many are under way, and at the daemon's end.
        """
        found = next((each for each in self._under_way.values() if each.asked == asked), None)
        found = found if found is not None and asked.is_job else self._begin(asked)
        try:
            while not found.task.done():
                changed = found.changed
                yield {"job": asdict(found.job), "again_seconds": REPEAT_SECONDS}
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), REPEAT_SECONDS)
        finally:
            if not asked.is_job:
                found.task.cancel()
        yield {"job": asdict(found.job), "result": found.result, "final": True}

    def cancel(self, number: int) -> dict[str, Any]:
        """Press Ctrl+C for this job, and kill it the second time; the `DaemonJob`.  Raises NotFound."""
        if (found := self._under_way.get(number)) is not None:
            found.interrupt()
            return asdict(found.job)
        for job in self._ended:
            if job["id"] == number:
                return job
        raise NotFound(f"There is no job {number}.", hint="It ended long ago, or there never was one.")

    def stop(self) -> None:
        """The daemon is going to end, and all jobs with it."""
        self._over = True
        for each in self._under_way.values():
            each.interrupt(kills=False)

    async def finish(self) -> None:
        """Called once the servers are gone: those that have not ended by now have had their time."""
        self.stop()
        tasks = [each.task for each in self._under_way.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=GRACE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, asked: CheckedCommand) -> _JobUnderWay:
        if self._over:
            raise SupervisorError("goss-supervisor is being stopped.")
        alike = [each for each in self._under_way.values() if each.asked.is_job is asked.is_job]
        if len(alike) >= (MOST_JOBS if asked.is_job else MOST_READS):
            running = ", ".join(each.job.words for each in alike)
            raise SupervisorError(
                f"{len(alike)} commands are running already: {running}.",
                hint="Try again when one of them has ended.",
            )
        self._last_id += 1
        found = _JobUnderWay(self._last_id, asked, self._program, self._has_changed)
        self._under_way[found.job.id] = found
        found.task.add_done_callback(lambda _: self._end(found))
        self._has_changed(found)
        return found

    def _has_changed(self, found: _JobUnderWay) -> None:
        if found.asked.is_job:
            self._changed()

    def _end(self, found: _JobUnderWay) -> None:
        del self._under_way[found.job.id]
        if found.asked.is_job:
            self._ended.append(asdict(found.job))
        found.tell()


class _JobUnderWay:
    """One process of ours.  Its ``task`` fails only where it is cancelled: then the process is killed."""

    def __init__(
        self,
        number: int,
        asked: CheckedCommand,
        program: Sequence[str],
        has_changed: Callable[[_JobUnderWay], None],
    ) -> None:
        self.asked = asked
        self.job = DaemonJob(number, asked.name, asked.shown, iso(time.time()))
        self.result: Answer | None = None
        self.changed = asyncio.Event()
        self._has_changed = has_changed
        self._program = program
        self._child: subprocess.Popen[bytes] | None = None
        self._interrupts = 0
        self.task = asyncio.ensure_future(self._run())

    def tell(self) -> None:
        """Wake those who follow it."""
        self.changed.set()
        self.changed = asyncio.Event()
        self._has_changed(self)

    def interrupt(self, *, kills: bool = True) -> None:
        """Ctrl+C, once; the second time a kill, if it ``kills``."""
        self._interrupts += 1
        if self._child is None or self._child.poll() is not None:
            return
        if self._interrupts == 1:
            press_ctrl_c(self._child)
        elif kills:
            kill(self._child)

    async def _run(self) -> None:
        try:
            with _scratch() as given, _scratch() as out, _scratch() as err:
                given.write(self.asked.stdin.encode())
                given.seek(0)
                self._child = launch([*self._program, *self.asked.words], given, out, err)
                try:
                    code = await self._end_of(self._child, err)
                finally:
                    kill(self._child)
                self._conclude(code, objects_in(out))
        except OSError as error:  # a full disk too
            self._fail(f"{self.job.words} cannot be run: {error.strerror}.")
        except asyncio.CancelledError:
            self._fail("goss-supervisor was stopped meanwhile.")
            raise
        except Exception:
            log.exception("%s broke", self.job.words)
            self._fail("goss-supervisor failed to run it; its log tells why.")

    def _fail(self, why: str) -> None:
        self.job = replace(self.job, ended=iso(time.time()), error=why)

    async def _end_of(self, child: subprocess.Popen[bytes], err: IO[bytes]) -> int:
        if self._interrupts:  # before there was a process
            press_ctrl_c(child)
        progress = _Progress(err)
        while (code := child.poll()) is None:
            await asyncio.sleep(LOOK_SECONDS)
            if (line := progress.line()) != self.job.line:
                self.job = replace(self.job, line=line)
                self.tell()
        self.job = replace(self.job, line=progress.line())
        return code

    def _conclude(self, code: int, said: Sequence[Answer]) -> None:
        """Programs of ours say their errors as JSON, too."""
        errors = [each for each in said if "error" in each]
        self.result = last_of([each for each in said if "error" not in each])
        error = errors[-1] if errors else self._without_words(code)
        outcome = self.result.get("outcome") if self.result else None
        result = outcome.get("result") if isinstance(outcome, dict) else None
        self.job = replace(
            self.job,
            ended=iso(time.time()),
            exit_code=code,
            result=_kept(self.result),
            error=str(error.get("error", "")),
            hint=str(error.get("hint") or ""),
            superseded=code == Superseded.exit_code or result == "superseded",
        )

    def _without_words(self, code: int) -> Answer:
        """Why one came to nothing that did not say it as JSON."""
        if self._interrupts and code:
            return {"error": "It was cancelled."}
        if not code or self.result is not None:
            return {}
        return {"error": self.job.line or f"{self.job.words} ended with {code}."}


def _kept(result: Answer | None) -> Answer | None:
    """What is kept of it: a large one is only for the client that follows the job."""
    if result is not None and "outcome" in result:
        result = {"outcome": result["outcome"]}
    return result if result is None or len(json.dumps(result)) <= _MOST_KEPT_BYTES else None


class _Progress:
    """The last line that was written into a file so far."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._at, self._tail = file, 0, b""

    def line(self) -> str:
        self._file.seek(self._at)
        new = self._file.read()
        self._at += len(new)
        self._tail = (self._tail + new)[-_TAIL_BYTES:]
        return last_line(self._tail)


def last_line(said: bytes) -> str:
    """The last one with something in it, also where one is written over the other; plain text, not long."""
    for line in reversed(re.split(r"[\r\n]+", said.decode("utf-8", "replace"))):
        plain = "".join(each if each.isprintable() else " " for each in _ESCAPES.sub("", line))
        if words := " ".join(plain.split()):
            return words if len(words) <= _LONGEST_LINE else f"{words[: _LONGEST_LINE - 1]}…"
    return ""


def _scratch() -> IO[bytes]:
    """Written at its end by the child, wherever we read."""
    return tempfile.TemporaryFile("a+b", buffering=0)


def launch(words: Sequence[str], given: IO[bytes], out: IO[bytes], err: IO[bytes]) -> subprocess.Popen[bytes]:
    """In a group of its own, so that Ctrl+C reaches all of it and nobody else.  Raises OSError."""
    environment = {**os.environ, HELPER_VARIABLE: JOB}
    return subprocess.Popen(words, env=environment, stdin=given, stdout=out, stderr=err, **_apart())


def kill(child: subprocess.Popen[bytes]) -> None:
    """With all that it started.  One that hangs in the kernel is reaped later: no server waits for it."""
    if child.poll() is None:
        _kill_group(child)
        with suppress(subprocess.TimeoutExpired):
            child.wait(_REAP_SECONDS)


if sys.platform == "win32":

    def _apart() -> dict[str, Any]:
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}

    def press_ctrl_c(child: subprocess.Popen[bytes]) -> None:
        """Ctrl+Break: a group of its own cannot be sent the other one."""
        with suppress(OSError):
            child.send_signal(signal.CTRL_BREAK_EVENT)

    def _kill_group(child: subprocess.Popen[bytes]) -> None:
        child.kill()

else:

    def _apart() -> dict[str, Any]:
        return {"start_new_session": True, "preexec_fn": _end_with_us()}

    def press_ctrl_c(child: subprocess.Popen[bytes]) -> None:
        """As a terminal does: for all of the group."""
        with suppress(OSError):
            os.killpg(child.pid, signal.SIGINT)

    def _kill_group(child: subprocess.Popen[bytes]) -> None:
        os.killpg(child.pid, signal.SIGKILL)


if sys.platform == "linux":
    from ..server.mechanism.linux_process import bind_to_parent

    def _end_with_us() -> Callable[[], None] | None:
        """What runs before the exec: prctl and kill, as for a server."""
        return bind_to_parent(os.getpid())

elif sys.platform != "win32":

    def _end_with_us() -> Callable[[], None] | None:
        """The system does not offer it."""
        return None
