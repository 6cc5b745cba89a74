"""
Programs of ours that the daemon runs: a load for a client's request, a reload, an update check.

The daemon has no YAML, no downloads and no network code.  ``goss-supervisor`` has them: it prepares the plan,
sends it to the daemon as any client does, and reports the outcome as JSON on stdout.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..files import read_json
from ..home.places import HELPER_VARIABLE
from ..profile.definition import AutoUpdate
from ..tool import own_program

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1  # how soon we see that one has ended
_PROGRAM = own_program()
_MOST_BYTES = 4 * 1024 * 1024
_LONGEST_WHY = 2000
_WELL = frozenset(("ready", "degraded", "unchanged", "asleep"))

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Helper:
    """
    One command.  ``ends_with_us``: what has begun goes on without the daemon, unless this is set.
    ``shows_stderr``: what it says to people goes where the daemon's own words go.
    """

    words: tuple[str, ...] = ()
    ends_with_us: bool = False
    shows_stderr: bool = False

    async def run(self, *more: str, program: Sequence[str] = _PROGRAM) -> Answer:
        """The last JSON object that it printed: ``outcome``, or ``error`` and ``hint``; never nothing."""
        try:
            with tempfile.TemporaryFile() as out:
                ended = await self._end_of([*program, *self.words, *more], out)
                return last_of(objects_in(out)) or {
                    "error": f"{_name(self.words)} ended with {ended}.",
                    "hint": "",
                }
        except OSError as error:  # a full disk too: the caller must get an answer
            return {"error": f"{_name(self.words)} cannot be run: {error.strerror}.", "hint": ""}

    async def _end_of(self, words: Sequence[str], out: IO[bytes]) -> int:
        child = self._launch(words, out)
        try:
            while (ended := child.poll()) is None:  # noqa: ASYNC110 - a Popen tells of its end to who asks
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            if self.ends_with_us and child.returncode is None:  # only we reap it, so it is still ours
                child.kill()
                child.wait()
        return ended

    def _launch(self, words: Sequence[str], out: IO[bytes]) -> subprocess.Popen[bytes]:
        """In a session of its own: it must not end with the terminal."""
        return subprocess.Popen(
            words,
            env={**os.environ, HELPER_VARIABLE: "1"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=None if self.shows_stderr else subprocess.DEVNULL,
            start_new_session=True,
        )


LOAD = Helper(("load", "--json"))
RELOAD = Helper(("reload", "--json"), ends_with_us=True, shows_stderr=True)
LOOK_FOR_UPDATE = Helper(("engine", "update", "--quiet", "--json"))


def why_not(answer: Answer) -> str:
    """Why a start, switch or reload did not come about; empty where it serves or is as it was asked to be."""
    outcome = answer.get("outcome")
    if isinstance(outcome, dict):
        if outcome.get("result") in _WELL:
            return ""
        answer = {"error": outcome.get("why") or outcome.get("result"), "hint": outcome.get("hint", "")}
    return " ".join(f"{answer.get('error', '')} {answer.get('hint') or ''}".split())[:_LONGEST_WHY]


class Reloads:
    """One reload at a time; ``begins`` and ``over`` are called around it, or around several in a row."""

    def __init__(
        self,
        begins: Callable[[], None],
        over: Callable[[], None],
        begin: Callable[[Coroutine[Any, Any, None]], object],
        run: Callable[[], Coroutine[Any, Any, Answer]] = RELOAD.run,
    ) -> None:
        self._begins = begins
        self._over = over
        self._begin = begin
        self._run = run
        self._wanted = self._under_way = False

    def ask(self) -> None:
        """While one is under way, one more follows it: a profile may have been read before it was changed."""
        self._wanted = True
        if not self._under_way:
            self._under_way = True
            self._begins()
            self._begin(self._reload())

    async def _reload(self) -> None:
        try:
            while self._wanted:
                self._wanted = False
                answer = await self._run()
                if why := why_not(answer):
                    log.warning("the reload failed: %s", why)
                else:
                    log.info("reloaded: %s", answer["outcome"]["result"])
        finally:
            self._under_way = False
            self._over()


def _name(words: Sequence[str]) -> str:
    return " ".join(("goss-supervisor", *words[:1]))


def last_of(found: Sequence[Answer]) -> Answer | None:
    """An outcome counts, even if more follows it."""
    outcomes = [each for each in found if "outcome" in each]
    return next(iter(reversed(outcomes or found)), None)


def objects_in(out: IO[bytes]) -> list[Answer]:
    """The JSON objects that a program wrote into this file, one a line, among whatever else it said."""
    out.seek(0)
    found: list[Answer] = []
    for line in out.read(_MOST_BYTES).splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When to look: soon after a start, when it has calmed down, then now and then."""

    first_seconds: float = 600.0
    every_seconds: float = 86400.0


DAILY = Rhythm()


async def keep_looking(
    wish: Callable[[], AutoUpdate],
    rhythm: Rhythm,
    look: Callable[..., Awaitable[Answer]] = LOOK_FOR_UPDATE.run,
) -> None:
    """``wish`` is what the plan that serves says of it, ``off`` while none does.  Ends by being cancelled."""
    pause = rhythm.first_seconds
    while True:
        await asyncio.sleep(pause)
        pause = rhythm.first_seconds
        if (wanted := wish()) != "off":
            log.info("looking for a newer engine%s", ", to run it" if wanted == "apply" else "")
            answer = await look(*([] if wanted == "apply" else ["--check"]))
            if "error" in answer:
                log.warning("no newer engine was found or taken: %s", answer["error"])
            pause = rhythm.every_seconds


def last_check(file: Path) -> dict[str, Any] | None:
    """What the last look found, as ``engine update`` wrote it; None where nothing can be read."""
    return read_json(file, dict)
