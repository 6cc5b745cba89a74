"""The page's stream of events, as a browser hears it over a real socket."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from ..fakes.loops import promise
from ..fakes.relay import EVENTS, HOST, Place, chunk, ok, post, relay, says

pytestmark = pytest.mark.usefixtures("each_loop")

EVENT = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'


def get(path: str, more: bytes = b"") -> bytes:
    return f"GET /supervisor/{path} HTTP/1.1\r\n".encode() + HOST + more + b"\r\n"


class Stream:
    """An EventSource: the events that came, each with its kind, id and document."""

    def __init__(self, client):
        self._client = client
        self._text = b""

    async def open(self, path="events", more=b""):
        await self._client.send(get(path, more))
        head = await self._client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert b"content-type: text/event-stream\r\n" in head
        return self

    async def next(self, kind=""):
        """The next event, of that kind if one is named."""
        while True:
            while b"\n\n" not in self._text:
                size = int(await self._client.reader.readuntil(b"\r\n"), 16)
                if not size:
                    return None
                self._text += (await self._client.reader.readexactly(size + 2))[:-2]
            block, _, self._text = self._text.partition(b"\n\n")
            fields = dict(line.split(": ", 1) for line in block.decode().splitlines())
            if "event" in fields and kind in {"", fields["event"]}:
                return fields["event"], fields["id"], json.loads(fields["data"])

    async def until(self, kind, holds):
        """The first document of this kind for which that holds."""
        while True:
            _, _, document = await self.next(kind)
            if holds(document):
                return document


@asynccontextmanager
async def looking(it, path="events", more=b""):
    async with it.client() as client:
        yield await Stream(client).open(path, more)


async def one_request(it):
    assert (await it.ask(post()))[0] == 200


@promise
async def test_the_page_is_greeted_and_gets_what_there_is():
    async with relay(says(ok(b"{}"))) as it:
        it.owner.said = {"schema": 2}
        await one_request(it)
        async with looking(it) as page:
            kind, id_, hello = await page.next()
            assert (kind, hello["schema"], hello["resumed"]) == ("hello", 1, False)
            assert id_ == f"{hello['boot']}.0"
            assert (await page.next("status"))[2] == {"schema": 2}
            kind, id_, document = await page.next("requests")
            assert (id_, [each["number"] for each in document["requests"]]) == (f"{hello['boot']}.1", [1])
            assert document["requests"][0]["result"] == "answered"


@promise
async def test_a_request_is_seen_while_it_waits_reads_and_answers():
    gate = asyncio.Event()

    async def stream(place: Place) -> None:
        await place.write(EVENTS)
        await place.write(chunk(EVENT) * 6)
        await gate.wait()
        await place.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async with relay(stream) as it, looking(it) as page, it.client() as client:
        await client.send(post(b'{"stream":true,"model":"p"}'))
        (row,) = (
            await page.until("active", lambda now: any(each["output_tokens"] for each in now["active"]))
        )["active"]
        assert (row["phase"], row["output_tokens"], row["model"], row["stream"]) == ("answer", 5, "p", True)
        assert (row["endpoint"], row["profile"], row["why"]) == ("/v1/chat/completions", "p", "")
        gate.set()
        await page.until("active", lambda now: not now["active"])
