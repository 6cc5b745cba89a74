"""Whether a web page may read an answer is the gateway's to say, not llama-server's."""

from __future__ import annotations

import asyncio
from unittest.mock import patch

from supervisor.gateway import waiting
from supervisor.profile.definition import GatewaySettings
from supervisor.server.lifecycle_table import State

from ..fakes.launching import BOUND_SECONDS
from ..fakes.relay import EVENTS, HOST, chunk, ok, post, relay, says

PAGE = b"https://chat.lan"
FROM_PAGE = b"Origin: " + PAGE + b"\r\n"
FOR_PAGE = {b"access-control-allow-origin": PAGE, b"access-control-allow-credentials": b"true"}
ALLOWED = GatewaySettings(allow_origins=(PAGE.decode(),), loading_state=True)
OPEN_TO_ALL = says(ok(b"hello", b"Access-Control-Allow-Origin: *\r\nAccess-Control-Max-Age: 9\r\n"))


def of_cors(head: bytes) -> dict[bytes, bytes]:
    pairs = [line.partition(b": ") for line in head.lower().split(b"\r\n")]
    return {name: value for name, _, value in pairs if name.startswith(b"access-control-")}


async def said_to(request: bytes, settings: GatewaySettings | None) -> bytes:
    """The head of llama-server's answer."""
    async with asyncio.timeout(BOUND_SECONDS), relay(OPEN_TO_ALL, settings=settings) as it:
        status, head, body = await it.ask(request)
        assert (status, body) == (200, b"hello")
        return head


def test_a_page_of_an_allowed_origin_may_read_answers_of_the_server():
    head = asyncio.run(said_to(post(more=FROM_PAGE), ALLOWED))
    assert of_cors(head) == FOR_PAGE
    assert b"vary: origin" in head


def test_what_the_server_says_of_other_pages_is_not_handed_on():
    assert of_cors(asyncio.run(said_to(post(), ALLOWED))) == {}
    assert of_cors(asyncio.run(said_to(post(more=b"Origin: http://localhost\r\n"), None))) == {}


def test_a_page_may_read_a_stream_that_began_with_waiting():
    async def story():
        stream = says(EVENTS + chunk(b"data: 1\n\n") + b"0\r\n\r\n")
        async with (
            asyncio.timeout(BOUND_SECONDS),
            relay(stream, settings=ALLOWED) as it,
            it.client() as client,
        ):
            it.server.state = State.BACKOFF
            it.gateway.changed(it.server)
            await client.send(post(b'{"stream":true}', more=FROM_PAGE))
            head = await client.reader.readuntil(b"\r\n\r\n")
            it.restart()
            await client.reader.readuntil(b"data: 1\n\n\r\n0\r\n\r\n")
            return head

    with patch.object(waiting, "ANNOUNCE_AFTER_SECONDS", 0.02):
        assert of_cors(asyncio.run(story())) == FOR_PAGE


def test_a_preflight_is_answered_without_the_server():
    asks = (
        b"OPTIONS /v1/models HTTP/1.1\r\n" + HOST + FROM_PAGE + b"Access-Control-Request-Method: GET\r\n\r\n"
    )

    async def story():
        async with asyncio.timeout(BOUND_SECONDS), relay(OPEN_TO_ALL, settings=ALLOWED) as it:
            status, head, _ = await it.ask(asks)
            return status, head, it.upstream.requests

    status, head, requests = asyncio.run(story())
    assert (status, requests) == (204, [])
    assert of_cors(head).items() >= FOR_PAGE.items()
