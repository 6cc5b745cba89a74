"""Fast streams are read in gulps, and yet neither their beginning nor their end is held back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import patch

import pytest

from supervisor.gateway.relay import gathering
from supervisor.gateway.relay.upstream import Upstream

from ..fakes.launching import BOUND_SECONDS
from ..fakes.loops import run_story
from ..fakes.relay import (
    EVENTS,
    GET,
    Place,
    RawClient,
    Relay,
    Step,
    chunk,
    ok,
    post,
    relay,
    says,
    then_hangs_up,
)

pytestmark = pytest.mark.usefixtures("each_loop")

FOR_EVER = 1000 * BOUND_SECONDS
STREAM = post(b'{"stream":true}')
END = b"0\r\n\r\n"
ONE = (EVENTS, chunk(b"data: 1\n\n"), END)
FREE = 8  # pieces at the beginning, which tell how fast it is


OLD_EVENTS = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def event(number: int) -> bytes:
    return b"data: %d\n\n" % number


def piece(number: int) -> bytes:
    return chunk(event(number))


@asynccontextmanager
async def gathers_for_ever(*script: Step) -> AsyncIterator[tuple[Relay, RawClient]]:
    """Whatever waits for the timer is not seen before the bound of a wait."""
    with patch.multiple(gathering, GATHER_SECONDS=FOR_EVER, MANY_SECONDS=FOR_EVER):
        async with asyncio.timeout(BOUND_SECONDS), relay(*script) as it, it.client() as client:
            yield it, client


class Spoken:
    """A stream that says a piece each time the client has the one before."""

    def __init__(
        self, pieces: int, rest: bytes = b"", *, hangs_up: bool = True, is_old: bool = False
    ) -> None:
        self.pieces, self.rest, self.hangs_up, self.is_old = pieces, rest, hangs_up, is_old
        self.is_read = asyncio.Semaphore(0)
        self.said_all, self.may_end = asyncio.Event(), asyncio.Event()

    async def __call__(self, place: Place) -> None:
        await place.write(OLD_EVENTS if self.is_old else EVENTS)
        for number in range(self.pieces):
            await place.write(event(number) if self.is_old else piece(number))
            await self.is_read.acquire()
        await place.write(self.rest)
        self.said_all.set()
        await self.may_end.wait()
        await place.write(DONE if self.is_old else END)
        if self.hangs_up:
            place.writer.close()

    async def read_by(self, client: RawClient) -> None:
        """All of the pieces, one by one."""
        await client.send(STREAM)
        for number in range(self.pieces):
            await client.reader.readuntil(piece(number))
            self.is_read.release()


async def is_told_hang_up(it: Relay) -> None:
    """A first stream, behind which the server hangs up; that is seen after the client has its end."""
    seen, saw = asyncio.Event(), gathering.Gathering.saw_hang_up

    def notice(self: gathering.Gathering) -> None:
        saw(self)
        seen.set()

    with patch.object(gathering.Gathering, "saw_hang_up", notice):
        assert (await it.ask(STREAM))[0] == 200
        await seen.wait()


needs_epoll = pytest.mark.skipif(
    sys.platform != "linux", reason="gathers only where the kernel tells of an end"
)


def test_the_first_pieces_of_a_stream_are_not_held_back():
    async def story():
        stream = Spoken(FREE)
        async with gathers_for_ever(then_hangs_up(*ONE), stream) as (it, client):
            await is_told_hang_up(it)
            await stream.read_by(client)
            stream.may_end.set()
            assert await client.reader.readuntil(END)

    run_story(story())


@needs_epoll
def test_a_fast_stream_is_gathered_until_the_server_hangs_up_and_then_its_last_pieces_come_at_once():
    async def story():
        rest = [piece(number) for number in range(FREE, 40)]
        stream = Spoken(FREE, b"".join(rest))
        async with gathers_for_ever(then_hangs_up(*ONE), stream, says(ok(b"hello"))) as (it, client):
            await is_told_hang_up(it)
            await stream.read_by(client)
            await stream.said_all.wait()
            assert (await it.ask(GET))[2] == b"hello"  # by now it would have been handed on
            assert not client.has_unread
            stream.may_end.set()
            assert await client.reader.readuntil(END) == b"".join(rest) + END

    run_story(story())


@needs_epoll
def test_so_is_a_stream_of_http_1_0_whose_end_is_nothing_else():
    async def story():
        rest = b"".join(map(event, range(FREE, 40)))
        stream = Spoken(FREE, rest, is_old=True)
        async with gathers_for_ever(stream, says(ok(b"hello"))) as (it, client):
            await stream.read_by(client)
            await stream.said_all.wait()
            assert (await it.ask(GET))[2] == b"hello"  # by now it would have been handed on
            assert not client.has_unread
            stream.may_end.set()
            got = await client.reader.readuntil(END)
            assert got.count(b"data: ") == 40 - FREE + 1

    run_story(story())


def test_a_server_that_keeps_its_connections_is_not_gathered_since_ends_would_not_show():
    async def story():
        first, second = (Spoken(3 * FREE, hangs_up=False) for _ in range(2))
        async with gathers_for_ever(first, second) as (_, client):
            for stream in (first, second):
                await stream.read_by(client)
                stream.may_end.set()
                assert await client.reader.readuntil(END)

    run_story(story())


@asynccontextmanager
async def gathers_all_that_comes(*script: Step) -> AsyncIterator[tuple[Relay, RawClient]]:
    """However slow a stream is, it counts as fast, and is read all the time."""
    with patch.multiple(gathering, GATHER_SECONDS=0.001, LEAST=0):
        async with asyncio.timeout(BOUND_SECONDS), relay(*script) as it, it.client() as client:
            yield it, client


@needs_epoll
def test_a_gathered_stream_that_halts_goes_on_as_soon_as_a_piece_comes():
    async def story():
        stream = Spoken(5 * FREE)
        async with gathers_all_that_comes(then_hangs_up(*ONE), stream) as (it, client):
            await is_told_hang_up(it)
            await stream.read_by(client)
            stream.may_end.set()
            assert await client.reader.readuntil(END)

    run_story(story())


@needs_epoll
def test_a_gathered_stream_is_not_read_for_a_client_that_takes_nothing():
    gulp = Upstream._gulp

    async def story():
        flood = Spoken(2 * FREE, b"".join(chunk(bytes(1 << 20)) for _ in range(16)))
        async with gathers_all_that_comes(then_hangs_up(*ONE), flood) as (it, client):
            await is_told_hang_up(it)
            was_due, had_read = asyncio.Event(), []

            def notice(self, descriptor):
                is_held, found = self._is_held, gulp(self, descriptor)
                if is_held:
                    had_read.append(found)
                    was_due.set()
                return found

            with patch.object(Upstream, "_gulp", notice):
                await flood.read_by(client)
                await was_due.wait()
            assert not any(had_read)
            flood.may_end.set()
            assert await client.reader.readexactly(16 << 20)

    run_story(story())
