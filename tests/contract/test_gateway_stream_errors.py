"""An error event in a stream: a failure in the books, and in Anthropic's API of the shape that its clients know."""

from __future__ import annotations

import asyncio

import anthropic
import pytest

from supervisor.profile.definition import GatewaySettings
from supervisor.server.lifecycle_table import State

from ..fakes.launching import until
from ..fakes.loops import promise
from ..fakes.relay import EVENTS, chunk, post, relay, says, then_hangs_up
from .test_gateway_dialects import MESSAGES_EVENT, anthropic_client

pytestmark = pytest.mark.usefixtures("each_loop")

MESSAGE = "Context size has been exceeded."
FULL = b'{"code":500,"message":"Context size has been exceeded.","type":"server_error"}'
MENDED = b'{"type":"error","error":{"type":"api_error","message":"Context size has been exceeded."}}'
ANTHROPIC = b"event: error\ndata: " + FULL + b"\n\n"
OTHERS = b'data: {"error":' + FULL + b"}\n\n"
END = b"0\r\n\r\n"
ANNOUNCING = GatewaySettings(loading_state=True)


def asks(path, version=b"1.1"):
    return post(b'{"stream":true}', path.encode()).replace(b"HTTP/1.1", b"HTTP/" + version)


def stream_of(event):
    return EVENTS + chunk(MESSAGES_EVENT) + chunk(event) + END


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("cut", [0, 4, 9, 20, 60])
@promise
async def test_it_gets_the_shape_of_the_api_in_one_piece_or_two(version, cut):
    whole = stream_of(ANTHROPIC)
    at = whole.index(b"\r\n", len(EVENTS) + len(MESSAGES_EVENT)) + cut
    gate = asyncio.Event()

    async def in_two(place):
        await place.write(whole[:at])
        await gate.wait()
        await place.write(whole[at:])

    async with relay(in_two) as it, it.client() as client:
        await client.send(asks("/v1/messages", version))
        await client.reader.readuntil(MESSAGES_EVENT)
        gate.set()
        rest = await client.rest() if version == b"1.0" else await client.reader.readuntil(END)
        assert b"event: error\ndata: " + MENDED + b"\n\n" in rest
        assert FULL not in rest


@promise
async def test_anthropics_package_raises_with_the_message():
    async with relay(says(stream_of(ANTHROPIC))) as it, it.client() as client:
        await client.send(asks("/v1/messages"))
        said = await client.reader.readuntil(END)
    with (
        anthropic_client(said) as made,
        made.messages.create(model="m", max_tokens=1, messages=[], stream=True) as stream,
        pytest.raises(anthropic.APIError, match=MESSAGE) as raised,
    ):
        for _ in stream:
            pass
    assert raised.value.body["error"]["type"] == "api_error"


@promise
async def test_other_apis_get_it_as_it_was_sent():
    for path in ("/v1/chat/completions", "/v1/responses", "/completion"):
        async with relay(says(stream_of(OTHERS))) as it:
            status, _, body = await it.ask(asks(path))
            assert (status, body) == (200, MESSAGES_EVENT + OTHERS)


@pytest.mark.parametrize(
    ("path", "event"),
    [("/v1/messages", ANTHROPIC), ("/v1/chat/completions", OTHERS), ("/v1/responses", OTHERS)],
)
@promise
async def test_it_is_a_failure_with_the_message_in_the_books(path, event):
    async with relay(says(stream_of(event)), says(stream_of(b":\n\n"))) as it:
        await it.ask(asks(path))
        await it.ask(asks(path))
        failed, whole = it.gateway.activity.since(0)
        assert (failed.result, failed.status, failed.note) == ("failed", 200, MESSAGE)
        assert (whole.result, whole.note) == ("answered", "")
        assert it.gateway.figures.results["failed"] == 1


@promise
async def test_it_is_so_in_a_stream_that_waited_too():
    async with relay(says(stream_of(ANTHROPIC)), settings=ANNOUNCING) as it, it.client() as client:
        it.turn(State.STARTING)
        await client.send(asks("/v1/messages"))
        await until(lambda: it.gateway.counts()[1] == 1)
        it.turn(State.READY)
        assert MENDED in (await client.answer())[2]
        assert it.results == ["failed"]


@promise
async def test_a_stream_that_breaks_within_such_an_event_is_broken():
    whole = stream_of(ANTHROPIC)
    for cut in (6, 20, 60):
        async with (
            relay(then_hangs_up(whole[: len(whole) - len(END) - cut])) as it,
            it.client() as client,
        ):
            await client.send(asks("/v1/messages"))
            said = await client.rest()
            assert not said.endswith(END)
            assert it.results == ["broken"]


@promise
async def test_a_plain_error_is_no_stream():
    plain = b"HTTP/1.1 500 X\r\nContent-Length: %d\r\n\r\n%s" % (len(OTHERS), OTHERS)
    async with relay(says(plain)) as it:
        assert (await it.ask(asks("/v1/messages")))[2] == OTHERS
        assert it.results == ["answered"]
