"""The daemon's look for newer engines: when, with which words, and what it reads afterwards."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path

import psutil
import pytest

from supervisor.daemon.helpers import LOOK_FOR_UPDATE, Rhythm, keep_looking, last_check

from ..fakes.launching import BOUND_SECONDS, until

AT_ONCE = Rhythm(0.001, 0.001)
ONCE = Rhythm(0.001, 3600.0)
WORDS = "engine update --quiet --json"
WRITE = "import sys, pathlib; pathlib.Path(sys.argv[1]).open('a').write(' '.join(sys.argv[2:]) + '\\n')"


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


async def looking(wish, rhythm: Rhythm, command: list[str], done) -> None:
    look = partial(LOOK_FOR_UPDATE.run, program=command)
    task = asyncio.create_task(keep_looking(wish, rhythm, look))
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            await until(lambda: done() and not psutil.Process().children())
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def command(calls: Path) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", WRITE, str(calls)]


@pytest.mark.parametrize(("wish", "said"), [("notify", f"{WORDS} --check"), ("apply", WORDS)])
def test_it_looks_or_goes_there_as_the_plan_says(tmp_path, wish, said):
    calls = tmp_path / "calls"
    asyncio.run(looking(lambda: wish, ONCE, command(calls), lambda: bool(lines(calls))))
    assert lines(calls) == [said]


def test_it_looks_again_and_never_twice_at_once(tmp_path):
    calls = tmp_path / "calls"
    asyncio.run(looking(lambda: "notify", AT_ONCE, command(calls), lambda: len(lines(calls)) >= 3))
    assert set(lines(calls)) == {f"{WORDS} --check"}


def test_nothing_is_looked_for_while_it_is_off(tmp_path):
    calls, asked = tmp_path / "calls", []

    def off():
        asked.append(1)
        return "off"

    asyncio.run(looking(off, Rhythm(0.001, 3600.0), command(calls), lambda: len(asked) > 5))
    assert not calls.exists()


def test_a_command_that_cannot_be_started_is_tried_again_and_harms_nobody(tmp_path):
    asked = []

    def wish():
        asked.append(1)
        return "notify"

    asyncio.run(looking(wish, AT_ONCE, [str(tmp_path / "gone")], lambda: len(asked) > 2))
    assert len(asked) > 2


def test_news_that_cannot_be_read_are_none(tmp_path):
    file = tmp_path / "update.json"
    assert last_check(file) is None
    for text in ("", "[1]", '{"available"'):
        file.write_text(text)
        assert last_check(file) is None
    file.write_text('{"available": "b11500"}')
    assert last_check(file) == {"available": "b11500"}
