"""The relay on real sockets: what HTTP allows passes, what it does not is refused, and nothing broken looks whole."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.gateway import waiting as held_requests
from supervisor.gateway.relay import connections
from supervisor.gateway.relay.connections import reset_connection
from supervisor.profile.definition import GatewaySettings
from supervisor.server.lifecycle_table import State

from ..fakes.launching import BOUND_SECONDS, until
from ..fakes.relay import (
    EVENTS,
    GET,
    HOST,
    Closed,
    behind,
    chunk,
    hang_up,
    ok,
    post,
    relay,
    says,
    then_hangs_up,
    waits,
)

STREAM = b'{"stream":true}'
HELLO = says(ok(b"hello"))


LOOPS = {"asyncio": asyncio.new_event_loop}
with contextlib.suppress(ImportError):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop
_new_loop = [asyncio.new_event_loop]


@pytest.fixture(params=LOOPS, scope="module", autouse=True)
def loop(request):
    """The daemon runs on uvloop where there is one; their transports differ at the edges."""
    _new_loop[0] = LOOPS[request.param]


def promise(story):
    """Run one async story with its own loop, within a bound."""

    @functools.wraps(story)
    def run(*args, **kwargs):
        async def bounded():
            async with asyncio.timeout(BOUND_SECONDS * 2):
                await story(*args, **kwargs)

        with asyncio.Runner(loop_factory=_new_loop[0]) as runner:
            runner.run(bounded())

    return run


# --- what passes


@promise
async def test_requests_on_one_connection_are_answered_one_after_the_other():
    async with relay(HELLO) as it, it.client() as client:
        for _ in range(3):
            assert (await client.ask(post()))[::2] == (200, b"hello")
        assert len(it.upstream.requests) == 3
        assert it.upstream.connections == 1


@promise
async def test_pipelined_requests_are_answered_in_order():
    async with relay(says(ok(b"one")), says(ok(b"two")), says(ok(b"three"))) as it, it.client() as client:
        await client.send(post() + GET + post(b"x" * 100))
        assert [(await client.answer())[2] for _ in range(3)] == [b"one", b"two", b"three"]
        assert [request[:4] for request in it.upstream.requests] == [b"POST", b"GET ", b"POST"]


@promise
async def test_a_request_in_chunks_reaches_the_server_with_a_length():
    request = b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    body = chunk(b"hello ") + b"5;name=value\r\nworld\r\n" + b"0\r\nTrailer: x\r\n\r\n"
    async with relay(HELLO) as it:
        assert (await it.ask(request + body))[0] == 200
        sent = it.upstream.requests[0].lower()
        assert sent.endswith(b"\r\n\r\nhello world")
        assert b"content-length: 11\r\n" in sent
        assert b"transfer-encoding" not in sent
        assert b"trailer" not in sent


@promise
async def test_who_waits_for_100_continue_gets_it_before_it_sends_the_body():
    async with relay(HELLO) as it, it.client() as client:
        head, body = post(b"{}", more=b"Expect: 100-continue\r\n").split(b"\r\n\r\n")
        assert (await client.ask(head + b"\r\n\r\n", to_head=True))[0] == 100
        assert (await client.ask(body))[0] == 200
        assert b"expect" not in it.upstream.requests[0].lower()


@promise
async def test_a_body_that_is_too_long_is_refused_before_it_is_asked_for():
    small = GatewaySettings(max_body_bytes=10)
    async with relay(HELLO, settings=small) as it, it.client() as client:
        head = post(b"x" * 11, more=b"Expect: 100-continue\r\n").partition(b"\r\n\r\n")[0]
        assert (await client.ask(head + b"\r\n\r\n"))[0] == 413
        assert await client.rest() == b""
        assert not it.upstream.requests


@promise
async def test_the_answer_to_head_has_no_body_and_the_connection_goes_on():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    async with relay(says(head), HELLO) as it, it.client() as client:
        status, said, _ = await client.ask(b"HEAD /slots HTTP/1.1\r\n" + HOST + b"\r\n", to_head=True)
        assert (status, b"content-length: 5" in said) == (200, True)
        assert (await client.ask(GET))[2] == b"hello"


@promise
async def test_options_are_answered_without_the_server():
    async with relay(HELLO) as it, it.client() as client:
        assert (await client.ask(b"OPTIONS /slots HTTP/1.1\r\n" + HOST + b"\r\n"))[::2] == (204, b"")
        assert it.upstream.requests == []
        assert (await client.ask(GET))[2] == b"hello"


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
@promise
async def test_answers_that_have_no_body_end_at_once(status):
    async with relay(says(b"HTTP/1.1 " + status + b"\r\n\r\n"), HELLO) as it, it.client() as client:
        assert (await client.ask(GET))[0] == int(status[:3])
        assert (await client.ask(GET))[2] == b"hello"


@promise
async def test_interim_answers_of_the_server_are_not_taken_for_the_answer():
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    async with relay(says(interim, ok(b"hello"))) as it:
        assert (await it.ask(post()))[::2] == (200, b"hello")


@promise
async def test_an_answer_without_a_length_goes_on_until_the_server_closes():
    async with relay(then_hangs_up(b"HTTP/1.1 200 OK\r\n\r\n", b"hello ", b"world")) as it:
        assert (await it.ask(GET))[2] == b"hello world"


@promise
async def test_chunks_are_handed_on_and_the_connection_is_kept():
    answer = (EVENTS + chunk(b"data: 1\n\n"), chunk(b"data: 2\n\n") + b"0\r\n\r\n")
    async with relay(says(*answer)) as it, it.client() as client:
        for _ in range(2):
            assert (await client.ask(post(STREAM)))[2] == b"data: 1\n\ndata: 2\n\n"


@promise
async def test_a_client_of_http_1_0_gets_no_chunks_and_the_end_of_the_connection():
    async with relay(says(EVENTS + chunk(b"data: 1\n\n") + chunk(b"data: 2\n\n") + b"0\r\n\r\n")) as it:
        async with it.client() as client:
            await client.send(b"GET /slots HTTP/1.0\r\n\r\n")
            head, _, body = (await client.rest()).partition(b"\r\n\r\n")
        assert body == b"data: 1\n\ndata: 2\n\n"
        assert b"transfer-encoding" not in head.lower()


@promise
async def test_what_is_between_two_neighbours_only_is_not_handed_on():
    more = b"Connection: close, X-Secret\r\nX-Secret: 1\r\nTE: trailers\r\nUpgrade: h2c\r\nX-Kept: 1\r\n"
    async with relay(HELLO) as it:
        await it.ask(post(more=more + b"Authorization: Bearer of-the-client\r\n"))
        sent = it.upstream.requests[0].lower()
        assert b"x-kept: 1" in sent
        assert not any(word in sent for word in (b"x-secret", b"\r\nte:", b"upgrade", b"of-the-client"))


@promise
async def test_an_offer_of_another_protocol_is_passed_over():
    """Java's client makes one with every request."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    async with relay(HELLO) as it, it.client() as client:
        for _ in range(2):
            assert (await client.ask(post(b'{"a":1}', more=offer)))[::2] == (200, b"hello")
        assert it.upstream.requests[1].endswith(b'\r\n\r\n{"a":1}')
        assert b"h2c" not in it.upstream.requests[0]


@promise
async def test_who_asks_for_the_end_of_the_connection_gets_it():
    async with relay(HELLO) as it, it.client() as client:
        status, said, _ = await client.ask(post(more=b"Connection: close\r\n"))
        assert (status, b"\r\nconnection: close" in said) == (200, True)
        assert await client.rest() == b""


@promise
async def test_requests_that_follow_early_are_not_read_before_their_turn():
    gate, sent, count = asyncio.Event(), 0, 200

    async def late(place):
        await gate.wait()
        await HELLO(place)

    async def flood():
        nonlocal sent
        for _ in range(count):
            await client.send(post(b"x" * 256 * 1024))
            sent += 1

    async with relay(late, HELLO) as it, it.client() as client:
        flooding = asyncio.create_task(flood())
        await settled(lambda: sent)
        assert sent < count / 4  # what the sockets' buffers hold
        gate.set()
        assert [(await client.answer())[0] for _ in range(count)] == [200] * count
        await flooding


@promise
async def test_empty_lines_between_requests_are_passed_over():
    async with relay(HELLO) as it, it.client() as client:
        for _ in range(2):
            assert (await client.ask(b"\r\n" + GET))[0] == 200


# --- a server that is lost


@promise
async def test_a_connection_that_the_server_closed_meanwhile_is_nobodys_business():
    script = then_hangs_up(ok(b"one")), says(ok(b"two"))
    async with relay(*script, settings=GatewaySettings(replay=False)) as it, it.client() as client:
        assert (await client.ask(GET))[2] == b"one"
        assert (await client.ask(GET))[2] == b"two"


@promise
async def test_a_connection_that_closes_just_as_it_is_used_again_is_nobodys_business():
    script = says(ok(b"one")), hang_up, says(ok(b"two"))
    async with relay(*script, settings=GatewaySettings(replay=False)) as it, it.client() as client:
        assert (await client.ask(post()))[2] == b"one"
        assert (await client.ask(post()))[2] == b"two"
        assert it.upstream.requests[1] == it.upstream.requests[2]
        assert it.results == ["answered", "answered"]


@promise
async def test_a_server_that_dies_before_its_first_word_is_asked_again_when_it_is_back():
    async with relay(hang_up, HELLO) as it, it.client() as client:
        await client.send(post())
        await it.recover()
        assert (await client.answer())[::2] == (200, b"hello")
        assert it.upstream.requests[0] == it.upstream.requests[1]


@promise
async def test_a_request_that_kills_its_server_is_sent_again_only_once():
    async with relay(hang_up) as it, it.client() as client:
        await client.send(post())
        await it.recover()
        status, _, body = await client.answer()
        assert status == 502
        assert "it died" in json.loads(body)["error"]["message"]
        assert len(it.upstream.requests) == 2


@promise
async def test_without_replay_the_client_hears_of_it():
    async with relay(hang_up, HELLO, settings=GatewaySettings(replay=False)) as it:
        assert (await it.ask(post()))[0] == 502
        assert len(it.upstream.requests) == 1


@promise
async def test_a_stream_that_breaks_off_ends_with_an_error_and_without_its_last_chunk():
    async with relay(then_hangs_up(EVENTS + chunk(b"data: 1\n\n"))) as it, it.client() as client:
        await client.send(post(STREAM))
        with pytest.raises(Closed) as broken:
            await client.answer()
        said = broken.value.said
        assert b"data: 1\n\n" in said
        assert "it died" in json.loads(said.rpartition(b"data: ")[2].strip())["error"]["message"]
        assert it.results == ["broken"]


@promise
async def test_a_stream_that_is_cut_within_a_chunk_ends_without_its_last_chunk():
    async with relay(then_hangs_up(EVENTS + chunk(b"data: 1\n\n") + b"ff\r\ndata: ha")) as it:
        with pytest.raises(Closed):
            await it.ask(post(STREAM))


@promise
async def test_an_answer_that_is_cut_is_asked_for_again_rather_than_passed_off_as_whole():
    cut = ok(b"hello")[:-2]
    async with relay(then_hangs_up(cut), HELLO) as it, it.client() as client:
        await client.send(post())
        await it.recover()
        assert (await client.answer())[::2] == (200, b"hello")


@promise
async def test_an_answer_that_is_always_cut_is_never_a_200():
    async with relay(then_hangs_up(ok(b"hello")[:-2])) as it, it.client() as client:
        await client.send(post())
        await it.recover()
        assert (await client.answer())[0] == 502


@promise
async def test_a_long_answer_that_is_cut_does_not_reach_its_length():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    async with relay(then_hangs_up(head + b"x" * 900_000)) as it:
        with pytest.raises(Closed):
            await it.ask(GET)
        assert it.results == ["broken"]


async def _reset_in_the_middle(request):
    """What a client gets behind ``hello``, when the connection of an answer without a length is reset."""

    async def reset(place):
        await place.write(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await asyncio.wait_for(seen.wait(), BOUND_SECONDS)
        reset_connection(place.writer.transport)

    seen = asyncio.Event()
    async with relay(reset) as it, it.client() as client:
        await client.send(request)
        async with asyncio.timeout(BOUND_SECONDS):
            await client.reader.readuntil(b"hello")
        seen.set()
        return await client.rest()


@promise
async def test_an_answer_without_a_length_that_is_reset_has_no_last_chunk_for_the_client():
    assert await _reset_in_the_middle(GET) == b"\r\n"


@promise
async def test_and_a_client_of_http_1_0_is_reset_too():
    assert await _reset_in_the_middle(b"GET /slots HTTP/1.0\r\n\r\n") == b"(reset)"


OLD_EVENTS = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
OLD_JSON = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"
WORD, DONE = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', b"data: [DONE]\n\n"
FINISHED = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
OUT_OF_MEMORY = b'data: {"error": "out of memory"}\n\n'


@pytest.mark.parametrize(
    ("parts", "body"),
    [
        ((OLD_EVENTS, WORD, WORD, DONE), WORD + WORD + DONE),
        ((OLD_EVENTS, WORD, FINISHED), WORD + FINISHED),  # as transformers serve does
        ((OLD_EVENTS + WORD, OUT_OF_MEMORY), WORD + OUT_OF_MEMORY),
        ((OLD_JSON, b'{"a": ', b"[1]}"), b'{"a": [1]}'),
        ((OLD_JSON, b"Not Found"), b"Not Found"),  # as mlx-lm says it
        ((OLD_JSON.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n"), b"{}"), b"{}"),
        ((b"HTTP/1.0 200 OK\r\nContent-Type: audio/wav\r\n\r\n", b"RIFF", b"..."), b"RIFF..."),
    ],
)
@promise
async def test_an_answer_of_http_1_0_has_an_end_and_leaves_the_clients_connection_open(parts, body):
    async with relay(then_hangs_up(*parts)) as it, it.client() as client:
        for _ in range(2):
            status, head, got = await client.ask(post(STREAM))
            assert (status, got) == (200, body)
            assert b"connection: close" not in head
        assert it.results == ["failed" if OUT_OF_MEMORY in parts else "answered"] * 2


@pytest.mark.parametrize("parts", [(WORD,), (WORD, WORD[:20]), (WORD, DONE[:-1])])
@promise
async def test_a_stream_of_http_1_0_that_ends_too_early_is_broken(parts):
    async with relay(then_hangs_up(OLD_EVENTS, *parts)) as it, it.client() as client:
        with pytest.raises(Closed) as closed:
            await client.ask(post(STREAM))
        assert b'"stream_broken"' in closed.value.said
    assert it.results == ["broken"]


@promise
async def test_half_a_json_of_http_1_0_is_asked_for_again_and_never_handed_on():
    async with relay(then_hangs_up(OLD_JSON + b'{"a": {"b"'), then_hangs_up(OLD_JSON + b'{"a":1}')) as it:
        asked = asyncio.create_task(it.ask(post()))
        await it.recover()
        assert (await asked)[2] == b'{"a":1}'
        assert [request.replayed for request in it.gateway.activity.since(0)] == [True]


@promise
async def test_half_of_a_long_json_is_no_whole_answer():
    long = OLD_JSON + b'{"data":["' + b"x" * 400_000
    async with relay(then_hangs_up(long)) as it, it.client() as client:
        with pytest.raises(Closed):
            await client.ask(post())
    assert it.results == ["broken"]


@promise
async def test_a_stream_of_http_1_0_goes_on_behind_the_comments_that_its_client_has_got():
    settings = GatewaySettings(loading_state=True)
    with patch.object(held_requests, "ANNOUNCE_AFTER_SECONDS", 0.0):
        async with relay(then_hangs_up(OLD_EVENTS, WORD, DONE), settings=settings) as it:
            it.turn(State.STARTING)
            async with it.client() as client:
                await client.send(post(STREAM))
                async with asyncio.timeout(BOUND_SECONDS):
                    comment = await client.reader.readuntil(b"\n\n\r\n")
                it.turn(State.READY)
                rest = await client.reader.readuntil(b"0\r\n\r\n")
    assert b": starting" in comment
    assert chunk(WORD) in rest or chunk(WORD + DONE) in rest


@pytest.mark.parametrize("framing", ["close", "chunks"])
@promise
async def test_and_an_error_reads_as_it_was_written(framing):
    error = b'{"error": "no such model"}'
    head = b"HTTP/1.%d 400 Bad Request\r\nContent-Type: application/json\r\n"
    said = {
        "close": head % 0 + b"\r\n" + error,
        "chunks": head % 1 + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(error) + b"0\r\n\r\n",
    }[framing]
    with patch.object(held_requests, "ANNOUNCE_AFTER_SECONDS", 0.0):
        async with relay(then_hangs_up(said), settings=GatewaySettings(loading_state=True)) as it:
            it.turn(State.STARTING)
            async with it.client() as client:
                await client.send(post(STREAM))
                async with asyncio.timeout(BOUND_SECONDS):
                    await client.reader.readuntil(b"\n\n\r\n")
                it.turn(State.READY)
                rest = await client.rest()
    event = next(line for line in rest.splitlines() if line.startswith(b"data: "))
    assert json.loads(event[6:])["error"]["message"] == error.decode()


NAMED = b'{"model": "/models/tiny", "choices": []}'


@pytest.mark.parametrize(
    "said",
    [
        ok(NAMED, b"Content-Type: application/json\r\n"),
        OLD_JSON + NAMED,
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunk(NAMED[:12])
        + chunk(NAMED[12:])
        + b"0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@promise
async def test_the_engines_name_of_its_model_goes_out_and_comes_back_as_the_clients(said, version):
    async with relay(then_hangs_up(said)) as it:
        given = replace(it.server.plan.parameters, upstream_model="/models/tiny", public_model="small")
        it.server.plan = replace(it.server.plan, parameters=given)
        request = post(b'{"model":"small","messages":[]}').replace(b"HTTP/1.1", f"HTTP/{version}".encode())
        _, _, body = await it.ask(request)
        assert json.loads(it.upstream.requests[0].partition(b"\r\n\r\n")[2])["model"] == "/models/tiny"
    assert json.loads(body) == {"model": "small", "choices": []}


@promise
async def test_in_a_stream_too_however_it_is_cut():
    said = b'data: {"model":"/models/tiny","choices":[{"delta":{"content":"\\"model\\":\\"/models/tiny\\""}}]}\n\n'
    pieces = [chunk(said[at : at + 5]) for at in range(0, len(said), 5)]
    async with relay(says(EVENTS, *pieces, chunk(DONE) + b"0\r\n\r\n")) as it, it.client() as client:
        given = replace(it.server.plan.parameters, upstream_model="/models/tiny", public_model="small")
        it.server.plan = replace(it.server.plan, parameters=given)
        for _ in range(2):
            _, _, body = await client.ask(post(STREAM))
            assert body == said.replace(b'"model":"/models/tiny",', b'"model":"small",') + DONE


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab and more",
        b"HTTP/1.1 204 No Content\r\n\r\nand more",
        EVENTS + chunk(b"data: 1\n\n") + b"0\r\n\r\n" + ok(b"another"),
        b"HTTP/1.1 200 OK\r\nX-Header: " + b"x" * 300_000,
        b"HTTP/2 200\r\n\r\n",
    ],
)
@promise
async def test_an_answer_that_is_none_is_never_handed_on(answer):
    async with relay(then_hangs_up(answer), settings=GatewaySettings(replay=False)) as it:
        assert (await it.ask(post()))[0] == 502


@promise
async def test_an_error_to_head_has_no_body_and_the_next_request_is_answered():
    request = b"HEAD /slots HTTP/1.1\r\n" + HOST + b"\r\n"
    async with relay(hang_up, HELLO, settings=GatewaySettings(replay=False)) as it, it.client() as client:
        assert (await client.ask(request, to_head=True))[0] == 502
        assert (await client.ask(GET))[::2] == (200, b"hello")


@promise
async def test_after_an_error_the_connection_goes_on():
    async with relay(hang_up, HELLO, settings=GatewaySettings(replay=False)) as it, it.client() as client:
        assert (await client.ask(post()))[0] == 502
        assert (await client.ask(post()))[::2] == (200, b"hello")


@promise
async def test_a_stream_to_http_1_0_that_breaks_off_is_reset():
    async with relay(then_hangs_up(EVENTS + chunk(b"data: 1\n\n"))) as it, it.client() as client:
        await client.send(b"GET /slots HTTP/1.0\r\n\r\n")
        assert (await client.rest()).endswith(b"(reset)")


@promise
async def test_a_connection_is_not_used_for_the_next_launch():
    async with relay(HELLO) as it, it.client() as client:
        assert (await client.ask(GET))[0] == 200
        it.restart()
        assert (await client.ask(GET))[0] == 200
        assert it.upstream.connections == 2


@promise
async def test_nor_is_one_whose_answer_ends_after_its_launch():
    gate = asyncio.Event()

    async def late(place):
        await gate.wait()
        await HELLO(place)

    async with relay(late, HELLO) as it, it.client() as client:
        await client.send(GET)
        await it.upstream.until(1)
        it.restart()
        gate.set()
        assert (await client.answer())[0] == 200
        assert (await client.ask(GET))[0] == 200
        assert it.upstream.connections == 2


@promise
async def test_who_still_streams_when_the_server_is_stopped_hears_of_it():
    async def streams(place):
        await place.write(EVENTS + chunk(b"data: 1\n\n"))
        await waits(place)

    async with relay(streams) as it, it.client() as client:
        await client.send(post(STREAM))
        async with asyncio.timeout(BOUND_SECONDS):
            await client.reader.readuntil(b"data: 1\n\n\r\n")
        it.server.state = State.STOPPING
        it.gateway.changed(it.server)
        said = await client.rest()
        assert b"was cut off" in said
        assert not said.endswith(b"0\r\n\r\n")


@promise
async def test_who_comes_while_nothing_serves_waits_and_is_answered():
    async with relay(HELLO) as it, it.client() as client:
        it.server.state = State.STARTING
        it.gateway.changed(it.server)
        await client.send(post())
        await until(lambda: it.gateway.counts()[1] == 1)
        assert not it.upstream.requests
        it.server.state = State.READY
        it.gateway.changed(it.server)
        assert (await client.answer())[::2] == (200, b"hello")


async def waiting(it, count):
    await until(lambda: it.gateway.counts()[1] == count)


@promise
async def test_a_server_that_goes_while_a_connection_to_it_is_made_gets_nothing():
    """A request that waits is not sent as well."""

    def arrive(exchange):
        let_go(exchange)
        it.turn(State.STOPPING)

    async with relay(HELLO, settings=GatewaySettings(replay=False)) as it, it.client() as client:
        let_go = it.gateway.arrive
        with patch.object(it.gateway, "arrive", arrive):
            await client.send(post())
            await waiting(it, 1)
        assert (await it.ask(b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"))[0] == 503
        assert (it.upstream.connections, it.upstream.requests) == (0, [])
        it.restart()
        assert (await client.answer())[::2] == (200, b"hello")
        assert (it.upstream.connections, len(it.upstream.requests)) == (1, 1)
        assert it.results == ["answered"]


@promise
async def test_who_leaves_while_a_connection_to_the_server_is_made_costs_it_nothing():
    async with relay(HELLO) as it, it.client() as client:
        let_go = it.gateway.arrive

        def arrive(exchange):
            let_go(exchange)
            exchange.client_left()
            exchange._client._exchange = None

        with patch.object(it.gateway, "arrive", arrive):
            await client.send(post())
            await until(lambda: it.results == ["cancelled"])
        assert (await it.ask(GET))[0] == 200
        assert it.upstream.connections == 1


@promise
async def test_a_server_that_cannot_be_reached_is_asked_when_it_can_be():
    async with relay(HELLO, settings=GatewaySettings(replay=False)) as it, it.client() as client:
        target, it.server.target = it.server.target, None
        it.gateway.changed(it.server)
        await client.send(post())
        await waiting(it, 1)
        it.server.target = target
        it.turn(State.READY)
        assert (await client.answer())[::2] == (200, b"hello")


@promise
async def test_after_a_crash_requests_are_sent_again_in_the_order_of_their_arrival():
    crash, bodies = asyncio.Event(), [b'{"n":%d}' % n for n in range(8)]

    async def dies(place):
        await crash.wait()
        await hang_up(place)

    async with relay(*[dies] * len(bodies), HELLO) as it, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(it.client()) for _ in bodies]
        for count, (client, body) in enumerate(zip(clients, bodies, strict=True), 1):
            await client.send(post(body))
            await it.upstream.until(count)
        crash.set()
        await waiting(it, len(bodies))
        let_go = [
            exchange.wish.body for exchange in map(it.gateway._exchanges.get, it.gateway._scheduler.waiting)
        ]
        assert let_go == bodies
        it.restart()
        assert [(await client.answer())[0] for client in clients] == [200] * len(bodies)
        assert [sent.rpartition(b"\r\n\r\n")[2] for sent in it.upstream.requests] == bodies * 2


@pytest.mark.parametrize("why", ["", "nobody waits for q any more"])
@promise
async def test_a_load_that_nobody_waits_for_any_more_holds_up_neither_others_nor_the_next_who_wants_it(why):
    async with relay(HELLO) as it, it.client() as client:
        async with it.client() as leaver:
            await leaver.send(post(b'{"model":"q"}'))
            await until(lambda: it.owner.loads == ["q"])
        await waiting(it, 0)
        assert (await client.ask(post(b'{"model":"p"}')))[::2] == (200, b"hello")
        it.gateway.loaded("q", why)
        await client.send(post(b'{"model":"q"}'))
        await until(lambda: it.owner.loads == ["q", "q"])
        it.gateway.loaded("q", "it does not fit")
        assert (await client.answer())[0] == 503


@promise
async def test_who_comes_back_while_the_load_is_given_up_has_it_begun_anew():
    async with relay(HELLO) as it, it.client() as client:
        async with it.client() as leaver:
            await leaver.send(post(b'{"model":"q"}'))
            await until(lambda: it.owner.loads == ["q"])
        await waiting(it, 0)
        await client.send(post(b'{"model":"q"}'))
        await waiting(it, 1)
        it.gateway.loaded("q", "")  # superseded, for nobody waited
        assert it.owner.loads == ["q", "q"]
        await waiting(it, 1)


@promise
async def test_two_servers_answer_each_to_its_own_name_and_one_that_goes_disturbs_nobody_at_the_other():
    crash = asyncio.Event()

    async def dies(place):
        await crash.wait()
        await hang_up(place)

    async with (
        relay(dies, HELLO) as it,
        behind(it, "q", says(ok(b"q's"))) as second,
        it.client() as to_p,
        it.client() as to_q,
    ):
        await to_p.send(post(b'{"model":"p"}'))
        await it.upstream.until(1)
        assert (await to_q.ask(post(b'{"model":"q"}')))[::2] == (200, b"q's")
        crash.set()
        await waiting(it, 1)
        assert (await to_q.ask(post(b'{"model":"q"}')))[::2] == (200, b"q's")
        second.state = State.SLEEPING
        it.gateway.changed(second)
        it.restart()
        assert (await to_p.answer())[::2] == (200, b"hello")
        await to_q.send(post(b'{"model":"q"}'))
        await until(lambda: it.owner.loads == ["q"])
        assert set(it.owner.uses) == {"p", "q"}


# --- smuggling: one request and one only, or none at all


def with_headers(*lines: bytes, body: bytes = b"") -> bytes:
    return (
        b"POST /v1/completions HTTP/1.1\r\n"
        + HOST
        + b"".join(line + b"\r\n" for line in lines)
        + b"\r\n"
        + body
    )


CHUNKED = b"Transfer-Encoding: chunked"
SMUGGLED = b"GET /slots HTTP/1.1\r\nHost: x\r\n\r\n"
BAD_HEADS = {
    "both lengths": with_headers(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n" + SMUGGLED),
    "both lengths, the other order": with_headers(CHUNKED, b"Content-Length: 5", body=b"0\r\n\r\n"),
    "two lengths": with_headers(b"Content-Length: 2", b"Content-Length: 3", body=b"abc"),
    "twice the same length": with_headers(b"Content-Length: 2", b"Content-Length: 2", body=b"ab"),
    "a list of lengths": with_headers(b"Content-Length: 2, 2", body=b"ab"),
    "a signed length": with_headers(b"Content-Length: +2", body=b"ab"),
    "a negative length": with_headers(b"Content-Length: -2", body=b"ab"),
    "a length in hex": with_headers(b"Content-Length: 0x2", body=b"ab"),
    "a length with a blank": with_headers(b"Content-Length: 1 2", body=b"ab"),
    "an empty length": with_headers(b"Content-Length:", body=b"ab"),
    "an endless length": with_headers(b"Content-Length: " + b"9" * 40, body=b"ab"),
    "two codings": with_headers(CHUNKED, CHUNKED, body=b"0\r\n\r\n"),
    "a coding that is not known": with_headers(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "chunked, but not last": with_headers(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
    "nearly chunked": with_headers(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "chunked in quotes": with_headers(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"),
    "a vertical tab": with_headers(b"Transfer-Encoding:\x0bchunked", body=b"0\r\n\r\n"),
    "a blank before the colon": with_headers(b"Content-Length : 2", body=b"ab"),
    "a header that begins with a blank": with_headers(b" Content-Length: 2", body=b"ab"),
    "a folded line": with_headers(b"X-Folded: a", b" b: c", body=b""),
    "a folded coding": with_headers(b"Transfer-Encoding:", b" chunked", body=b"0\r\n\r\n"),
    "a header without a name": with_headers(b": value"),
    "a header without a colon": with_headers(b"Content-Length"),
    "a zero byte": with_headers(b"X-Zero: a\0b"),
    "a bare CR": with_headers(b"X-Bare: a\rContent-Length: 3"),
    "a bare LF": b"GET /slots HTTP/1.1\nHost: x\n\r\n\r\n",
    "bare LFs only": b"GET /slots HTTP/1.1\nHost: x\n\n\r\n\r\n",
    "two hosts": b"GET /slots HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no host": b"GET /slots HTTP/1.1\r\n\r\n",
    "an absolute target": b"GET http://elsewhere/slots HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a blank in the target": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /slots\r\n\r\n",
    "HTTP/1.2": b"GET /slots HTTP/1.2\r\nHost: x\r\n\r\n",
    "chunked in HTTP/1.0": b"POST /v1/completions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + b"\0" * 32 + b"\r\n\r\n",
    "garbage": bytes(range(256)) + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD_HEADS)
@promise
async def test_a_head_that_two_servers_would_read_differently_is_refused(name):
    async with relay(HELLO) as it, it.client() as client:
        await client.send(BAD_HEADS[name])
        status, _, body = await client.answer()
        assert status in {400, 501, 505}
        assert json.loads(body)["error"]["message"]
        assert await client.rest() == b""
        assert not it.upstream.requests


BAD_CHUNKS = {
    "hex with a prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a blank behind the size": b"5 \r\nhello\r\n0\r\n\r\n",
    "a blank before it": b" 5\r\nhello\r\n0\r\n\r\n",
    "a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "a negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "a size of sixteen digits": b"f" * 16 + b"\r\nhello\r\n0\r\n\r\n",
    "a size that ends in LF": b"5\nhello\r\n0\r\n\r\n",
    "no line end behind the data": b"5\r\nhello0\r\n\r\n",
    "two other bytes behind the data": b"5\r\nhelloXX0\r\n\r\n",
    "LF behind the data": b"5\r\nhello\n0\r\n\r\n",
    "more data than it says": b"4\r\nhello\r\n0\r\n\r\n",
    "an extension with a bare LF": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "an extension that does not end": b"5;" + b"x" * 70_000,
    "trailers that do not end": b"0\r\n" + b"X-Trailer: x\r\n" * 5_000,
    "digits of another alphabet": "٥".encode() + b"\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
@promise
async def test_a_chunk_that_two_servers_would_read_differently_is_refused(name):
    async with relay(HELLO) as it, it.client() as client:
        await client.send(with_headers(CHUNKED, body=BAD_CHUNKS[name]))
        assert (await client.rest())[:10] == b"HTTP/1.1 4"
        assert not it.upstream.requests


@promise
async def test_what_follows_a_refused_request_is_not_read_as_another():
    async with relay(HELLO) as it, it.client() as client:
        await client.send(with_headers(b"Content-Length: 2", b"Content-Length: 3", body=b"abc") + GET + GET)
        assert (await client.answer())[0] == 400
        assert await client.rest() == b""
        assert not it.upstream.requests


@promise
async def test_a_header_of_the_server_cannot_split_the_answer():
    split = ok(b"hello", b"X-Split: a\rSet-Cookie: b\r\n")
    async with relay(says(split), settings=GatewaySettings(replay=False)) as it:
        assert (await it.ask(GET))[0] == 502


# --- what a connection may cost


@promise
async def test_a_head_that_never_ends_is_given_up():
    async with (
        relay(HELLO, settings=GatewaySettings(client_timeout_seconds=0.1)) as it,
        it.client() as client,
    ):
        await client.send(GET[:-2])
        assert (await client.rest())[:12] == b"HTTP/1.1 408"


@promise
async def test_a_head_cannot_be_stretched_byte_by_byte():
    async with (
        relay(HELLO, settings=GatewaySettings(client_timeout_seconds=0.2)) as it,
        it.client() as client,
    ):
        dripping = asyncio.create_task(_drip(client, GET[:-2], b"X-More: 1\r\n"))
        said = await client.rest()
        dripping.cancel()
        assert said[:12] == b"HTTP/1.1 408" or said == b"(reset)"
        assert not it.upstream.requests


async def _drip(client, first: bytes, more: bytes):
    await client.send(first)
    while True:
        await client.send(more)
        await asyncio.sleep(0.02)


@promise
async def test_a_body_that_never_ends_is_given_up():
    async with (
        relay(HELLO, settings=GatewaySettings(client_timeout_seconds=0.1)) as it,
        it.client() as client,
    ):
        await client.send(post(b"x" * 10)[:-1])
        assert (await client.rest())[:12] == b"HTTP/1.1 408"


@promise
async def test_a_connection_that_asks_for_nothing_is_closed_without_a_word():
    async with (
        relay(HELLO, settings=GatewaySettings(client_timeout_seconds=0.1)) as it,
        it.client() as client,
    ):
        assert await client.rest() in {b"", b"(reset)"}
        assert it.gateway.counts()[2] == 0


@promise
async def test_an_idle_connection_is_closed_after_its_time():
    async with relay(HELLO, settings=GatewaySettings(idle_timeout_seconds=0.1)) as it, it.client() as client:
        assert (await client.ask(GET))[0] == 200
        assert await client.rest() in {b"", b"(reset)"}


@promise
async def test_an_answer_that_takes_long_is_no_idle_connection():
    overdue = asyncio.Event()

    async def late(place):
        looked_at = it.gateway._connections.expire
        due = asyncio.get_running_loop().time() + 0.2  # four times what a connection without a request has

        def expire(now):
            looked_at(now)
            if now > due:
                overdue.set()

        with patch.object(it.gateway._connections, "expire", expire):
            await overdue.wait()
        await HELLO(place)

    brief = GatewaySettings(client_timeout_seconds=0.05, idle_timeout_seconds=0.05)
    async with relay(late, settings=brief) as it:
        assert (await it.ask(post()))[0] == 200
        assert overdue.is_set()


@pytest.mark.parametrize("ends", [b"\r\n\r\n", b""])
@promise
async def test_a_head_that_is_too_long_is_431(ends):
    async with relay(HELLO, settings=GatewaySettings(max_head_bytes=1000)) as it, it.client() as client:
        await client.send(GET[:-2] + b"X-Long: " + b"x" * 2000 + ends)
        assert (await client.rest())[:12] == b"HTTP/1.1 431"
        assert not it.upstream.requests


@pytest.mark.parametrize("framing", ["length", "chunks"])
@promise
async def test_a_body_that_is_too_long_is_413(framing):
    body = b"x" * 1001
    request = post(body) if framing == "length" else with_headers(CHUNKED, body=chunk(body) + b"0\r\n\r\n")
    async with relay(HELLO, settings=GatewaySettings(max_body_bytes=1000)) as it, it.client() as client:
        await client.send(request)
        assert (await client.rest())[:12] == b"HTTP/1.1 413"
        assert not it.upstream.requests


@promise
async def test_many_small_chunks_count_together():
    async with relay(HELLO, settings=GatewaySettings(max_body_bytes=1000)) as it, it.client() as client:
        await client.send(with_headers(CHUNKED), *[chunk(b"x" * 100)] * 11)
        assert (await client.rest())[:12] == b"HTTP/1.1 413"


@promise
async def test_who_leaves_takes_its_request_along():
    async with relay(waits) as it, it.client() as client:
        await client.send(post(STREAM))
        await it.upstream.until(1)
        client.leave()
        async with asyncio.timeout(BOUND_SECONDS):
            await it.upstream.left.wait()
        assert it.results == ["cancelled"]


@promise
async def test_who_leaves_in_the_middle_of_a_stream_ends_it():
    async def streams(place):
        await place.write(EVENTS + chunk(b"data: 1\n\n"))
        await waits(place)

    async with relay(streams) as it, it.client() as client:
        await client.send(post(STREAM))
        async with asyncio.timeout(BOUND_SECONDS):
            await client.reader.readuntil(b"data: 1\n\n")
        client.leave()
        async with asyncio.timeout(BOUND_SECONDS):
            await it.upstream.left.wait()
        assert it.results == ["cancelled"]


@promise
async def test_who_leaves_while_it_waits_is_forgotten():
    async with relay(HELLO) as it, it.client() as client:
        it.server.state = State.STARTING
        it.gateway.changed(it.server)
        await client.send(post())
        await until(lambda: it.gateway.counts()[1] == 1)
        client.leave()
        await until(lambda: it.gateway.counts() == (0, 0, 0))
        assert it.results == ["cancelled"]


@promise
async def test_empty_lines_without_end_do_not_keep_a_connection():
    async with (
        relay(HELLO, settings=GatewaySettings(client_timeout_seconds=0.1)) as it,
        it.client() as client,
    ):
        dripping = asyncio.create_task(_drip(client, b"", b"\r\n"))
        assert await client.rest() in {b"", b"(reset)"}
        dripping.cancel()


@promise
async def test_late_clients_are_let_go_also_while_somebody_waits_for_the_server():
    hasty = GatewaySettings(client_timeout_seconds=0.1, hold_timeout_seconds=BOUND_SECONDS * 10)
    async with relay(HELLO, settings=hasty) as it, it.client() as waiting, it.client() as late:
        it.server.state = State.BACKOFF
        it.gateway.changed(it.server)
        await waiting.send(post())
        await until(lambda: it.gateway.counts()[1] == 1)
        await late.send(b"POST /v1/completions HTTP/1.1\r\n")
        assert (await late.answer())[0] == 408


@promise
async def test_a_stream_that_waits_is_told_so_again_and_again_and_then_answered():
    stream = says(EVENTS + chunk(b"data: 1\n\n") + b"0\r\n\r\n")
    async with relay(stream, settings=GatewaySettings(loading_state=True)) as it:
        with patch.object(held_requests, "ANNOUNCE_AFTER_SECONDS", 0.02):
            it.server.state = State.BACKOFF
            it.gateway.changed(it.server)
            async with it.client() as client:
                await client.send(post(STREAM))
                async with asyncio.timeout(BOUND_SECONDS):
                    for _ in range(3):
                        await client.reader.readuntil(b"\r\n: backoff; 0 s, place 1\n\n")
                it.restart()
                async with asyncio.timeout(BOUND_SECONDS):
                    await client.reader.readuntil(b"data: 1\n\n\r\n0\r\n\r\n")
        assert it.results == ["answered"]


@promise
async def test_how_far_the_server_is_is_looked_up_once_for_all_who_wait_and_for_nobody_else():
    samples = sweeps = 0

    def sample():
        nonlocal samples
        samples += 1

    async with relay(HELLO, settings=GatewaySettings(loading_state=True)) as it:
        looked_at = it.gateway._connections.expire

        def expire(now):
            nonlocal sweeps
            sweeps += 1
            looked_at(now)

        it.server.resident_bytes = sample
        it.turn(State.STARTING)
        with (
            patch.object(held_requests, "ANNOUNCE_AFTER_SECONDS", 0.02),
            patch.object(it.gateway._connections, "expire", expire),
        ):
            async with it.client() as plain:
                await plain.send(post())
                await waiting(it, 1)
                await until(lambda: sweeps > 5)
            assert not samples
            await waiting(it, 0)
            sweeps = 0
            async with it.client() as one, it.client() as two, it.client() as three:
                for client in (one, two, three):
                    await client.send(post(STREAM))
                async with asyncio.timeout(BOUND_SECONDS):
                    for client in (one, two, three):
                        for _ in range(3):
                            await client.reader.readuntil(b": starting; ")
                assert 3 <= samples <= sweeps


@promise
async def test_a_long_prompt_of_anthropics_api_is_recorded_by_its_tokens():
    """Its head and its comments come first; the engine says no rate; the client hangs up behind the last event."""
    start = b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":40,'
    start += b'"cache_read_input_tokens":2,"output_tokens":0}}}\n\n'
    token = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"x"}}\n\n'
    end = b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":9}}\n\n'
    end += b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    read, told = asyncio.Event(), asyncio.Event()

    async def engine(place):
        await place.write(EVENTS + chunk(b":\n\n"))
        await read.wait()
        await place.write(chunk(b":\n\n" + start))
        await place.write(chunk(token))
        await told.wait()
        await place.write(chunk(end))
        await place.reader.read()

    async with relay(engine) as it, it.client() as client:
        await client.send(post(STREAM, path=b"/v1/messages"))
        await client.reader.readuntil(b":\n\n")
        await asyncio.sleep(0.05)
        read.set()
        await client.reader.readuntil(b'"text":"x"')
        await asyncio.sleep(0.05)
        told.set()
        await client.reader.readuntil(b'"type":"message_stop"}\n\n')
        client.leave()
        await until(lambda: it.results == ["answered"])
        (seen,) = it.gateway.activity.since(0)
        assert (seen.prompt_tokens, seen.cached_tokens, seen.output_tokens) == (42, 2, 9)
        assert 0.04 <= seen.first_byte_seconds <= seen.seconds - 0.04  # uvloop counts in milliseconds
        assert seen.tokens_per_second == pytest.approx(8 / (seen.seconds - seen.first_byte_seconds), rel=0.01)


@promise
async def test_who_hangs_up_before_the_last_event_has_cancelled():
    async def engine(place):
        await place.write(EVENTS + chunk(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'))
        await place.reader.read()

    async with relay(engine) as it, it.client() as client:
        await client.send(post(STREAM))
        await client.reader.readuntil(b'"x"')
        client.leave()
        await until(lambda: it.results)
        assert it.results == ["cancelled"]


@promise
async def test_an_address_of_60000_characters_is_414_and_no_server_is_asked():
    async with relay(HELLO) as it:
        for longer in (b"?x=" + b"a" * 60_000, b"?x=" + b"a" * 600_000):
            asked = b"GET /slots" + longer + b" HTTP/1.1\r\n" + HOST + b"\r\n"
            assert (await it.ask(asked))[0] == 414
        for headers in (b"X-A: " + b"a" * 9_000 + b"\r\n", b"X-A: a\r\n" * 200):
            assert (await it.ask(b"GET /slots HTTP/1.1\r\n" + HOST + headers + b"\r\n"))[0] == 431
        assert it.upstream.requests == []


@promise
async def test_more_connections_than_allowed_are_told_so():
    async with (
        relay(HELLO, settings=GatewaySettings(max_connections=2)) as it,
        it.client() as one,
        it.client() as two,
    ):
        assert (await one.ask(GET))[0] == (await two.ask(GET))[0] == 200
        async with it.client() as third:
            assert (await third.answer())[0] == 503
        two.leave()
        await until(lambda: it.gateway.counts()[2] < 2)
        assert (await it.ask(GET))[0] == 200


@promise
async def test_for_want_of_descriptors_a_new_connection_has_time_to_ask_and_is_told_why_it_had_not(
    monkeypatch,
):
    monkeypatch.setattr(connections, "room_for_clients", lambda: 2)
    async with relay(HELLO) as it, it.client() as one, it.client() as two:
        head, body = post(b"{}").split(b"\r\n\r\n")
        await one.send(head + b"\r\n\r\n")
        async with it.client() as three:
            await until(lambda: it.gateway.counts()[2] == 3)
            assert [(await each.ask(GET))[0] for each in (two, three)] == [200] * 2
        assert (await one.ask(body))[0] == 200
    async with relay(HELLO) as it, contextlib.AsyncExitStack() as clients:
        idle = await clients.enter_async_context(it.client())
        assert (await idle.ask(GET))[0] == 200
        four = [await clients.enter_async_context(it.client()) for _ in range(4)]
        assert [(await each.ask(GET))[0] for each in four] == [200] * 4
    async with relay(HELLO) as it, contextlib.AsyncExitStack() as clients:
        five = [await clients.enter_async_context(it.client()) for _ in range(5)]
        await until(lambda: it.gateway.counts()[2] == 4)
        assert sorted([(await each.ask(GET))[0] for each in five]) == [200, 200, 200, 200, 503]


SENT = 200 * 2**20
PIECE = chunk(b"data: " + b"x" * 65_000 + b"\n\n")


@promise
async def test_a_client_that_reads_nothing_makes_the_server_wait_and_costs_little_memory():
    written = 0

    async def floods(place):
        nonlocal written
        await place.write(EVENTS)
        while written < SENT:
            await place.write(PIECE)
            written += len(PIECE)
        await place.write(b"0\r\n\r\n")

    async with relay(floods) as it, it.client() as client:
        await client.send(post(STREAM))
        before = rss_bytes()
        await settled(lambda: written)
        assert written < SENT / 4  # what sockets and buffers hold
        assert rss_bytes() - before < 16 * 2**20
        assert await received(client) > SENT
        assert rss_bytes() - before < 16 * 2**20


async def settled(figure):
    """Until it grows no more."""
    last = -1
    while last != (last := figure()) or not last:  # noqa: ASYNC110 - a full socket sends no event
        await asyncio.sleep(0.2)


async def received(client) -> int:
    """Bytes until the last chunk."""
    count, tail = 0, b""
    async with asyncio.timeout(BOUND_SECONDS):
        while not tail.endswith(b"\r\n0\r\n\r\n"):
            data = await client.reader.read(2**20)
            assert data
            count, tail = count + len(data), (tail + data)[-7:]
    return count


def rss_bytes() -> int:
    import psutil

    return psutil.Process().memory_info().rss


@promise
async def test_a_client_that_takes_nothing_is_let_go():
    async def floods(place):
        await place.write(EVENTS)
        while True:
            await place.write(PIECE)

    async with (
        relay(floods, settings=GatewaySettings(client_timeout_seconds=0.1)) as it,
        it.client() as client,
    ):
        await client.send(post(STREAM))
        await until(lambda: it.results)
        assert it.results == ["cancelled"]
        assert it.gateway.counts()[0] == 0


@promise
async def test_a_slow_reader_does_not_slow_the_others():
    async def floods(place):
        await place.write(EVENTS)
        while True:
            await place.write(PIECE)

    async with relay(floods, HELLO) as it, it.client() as slow:
        await slow.send(post(STREAM))
        await it.upstream.until(1)
        for _ in range(20):
            assert (await it.ask(post()))[0] == 200


# --- any split of the bytes


PAIR = post(b'{"a":1}') + with_headers(CHUNKED, body=chunk(b"hello ") + chunk(b"world") + b"0\r\n\r\n") + GET


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(cuts=st.lists(st.integers(1, len(PAIR) - 1), unique=True, max_size=12))
@promise
async def test_any_split_of_the_bytes_is_the_same_requests(cuts):
    edges = [0, *sorted(cuts), len(PAIR)]
    parts = [PAIR[start:end] for start, end in itertools.pairwise(edges)]
    async with relay(HELLO) as it, it.client() as client:
        sending = asyncio.create_task(client.send(*parts))
        assert [(await client.answer())[0] for _ in range(3)] == [200] * 3
        await sending
        assert [request.partition(b"\r\n\r\n")[2] for request in it.upstream.requests] == [
            b'{"a":1}',
            b"hello world",
            b"",
        ]


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.binary(min_size=1, max_size=400))
@promise
async def test_no_garbage_reaches_the_server_or_breaks_the_gateway(data):
    async with relay(HELLO, settings=GatewaySettings(client_timeout_seconds=0.05)) as it:
        async with it.client() as client:
            await client.send(data)
            await client.rest()
        assert not it.upstream.requests
        assert (await it.ask(GET))[0] == 200


ANSWER = EVENTS + chunk(b"data: 1\n\n") + chunk(b"data: 2\n\n") + b"0\r\n\r\n"


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(cuts=st.lists(st.integers(1, len(ANSWER) - 1), unique=True, max_size=8))
@promise
async def test_any_split_of_an_answer_is_the_same_answer(cuts):
    edges = [0, *sorted(cuts), len(ANSWER)]
    parts = [ANSWER[start:end] for start, end in itertools.pairwise(edges)]

    async def in_parts(place):
        for part in parts:
            await place.write(part)
            await asyncio.sleep(0)

    async with relay(in_parts) as it, it.client() as client:
        for _ in range(2):
            assert (await client.ask(post(STREAM)))[::2] == (200, b"data: 1\n\ndata: 2\n\n")
