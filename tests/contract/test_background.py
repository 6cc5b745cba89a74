"""What may block is done beside the loop: a disk that hangs stops neither the loop nor the end of the program."""

from __future__ import annotations

import asyncio
import threading

import pytest

from supervisor.server.background import Writer, beside_the_loop

from ..fakes.launching import BOUND_SECONDS, until
from ..fakes.loops import run_story

pytestmark = pytest.mark.usefixtures("each_loop")


def test_what_is_found_or_raised_comes_back():
    def fails():
        raise OSError("gone")

    async def story():
        assert await beside_the_loop(lambda: 7) == 7
        with pytest.raises(OSError, match="gone"):
            await beside_the_loop(fails)

    run_story(story())


def test_the_loop_goes_on_while_work_hangs_and_ends_without_it():
    hangs, entered = threading.Event(), threading.Event()

    def work():
        entered.set()
        hangs.wait(BOUND_SECONDS)

    async def story():
        task = asyncio.ensure_future(beside_the_loop(work))
        await until(entered.is_set)
        assert not task.done()
        task.cancel()

    run_story(story())  # ends though the thread still hangs
    hangs.set()


def test_only_the_last_of_what_still_waits_is_written():
    written, gate, busy = [], threading.Event(), threading.Event()
    writer = Writer()

    def first():
        busy.set()
        gate.wait(BOUND_SECONDS)
        written.append("first")

    writer.write("record", first)
    assert busy.wait(BOUND_SECONDS)
    for number in range(100):
        writer.write("record", lambda number=number: written.append(number))
    writer.write("figures", lambda: written.append("figures"))
    gate.set()
    writer.flush(BOUND_SECONDS)
    assert written == ["first", 99, "figures"]


def test_what_cannot_be_written_is_said_and_the_next_is_written(caplog):
    written, writer = [], Writer()

    def fails():
        raise OSError(28, "No space left on device")

    writer.write("the state record", fails)
    writer.write("other", lambda: written.append(1))
    writer.flush(BOUND_SECONDS)
    assert written == [1]
    assert "the state record: [Errno 28] No space left on device" in caplog.text


def test_a_disk_that_hangs_keeps_nobody_for_longer_than_the_bound():
    hangs, writer = threading.Event(), Writer()
    written = []
    writer.write("record", lambda: written.append(hangs.wait(BOUND_SECONDS)))
    writer.flush(0.01)
    assert written == [], "it was not waited for"
    hangs.set()
