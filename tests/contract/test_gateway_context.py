"""Requests that share a context: who waits is counted by the engine, and what never fits is refused at once."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, replace

import pytest

from supervisor.gateway.waiting import HeldRequests
from supervisor.profile.definition import GatewaySettings
from supervisor.server.lifecycle_table import State

from ..fakes.launching import until
from ..fakes.loops import promise
from ..fakes.relay import ok, post, relay, says
from .test_stream_errors_real import ENGINE, engine, loaded

pytestmark = pytest.mark.usefixtures("each_loop")

TOO_LONG = (  # of llama-server b11434
    b'{"error":{"code":400,"message":"request (1290 tokens) exceeds the available context size (1024 tokens), '
    b'try increasing it","type":"exceed_context_size_error","n_prompt_tokens":1290,"n_ctx":1024}}'
)
MODELS = ok(b'{"data":[{"id":"p","meta":{"n_ctx":1024}}]}')
LONG = json.dumps({"messages": [{"role": "user", "content": "word " * 400}], "max_tokens": 50}).encode()
COUNTERS = {
    "/v1/chat/completions": b"POST /v1/chat/completions/input_tokens",
    "/v1/messages": b"POST /v1/messages/count_tokens",
}


class Slots:
    """An engine that answers its first chat only when it is let, and counts ``tokens`` in each prompt."""

    def __init__(self, tokens):
        self.tokens, self.let_go, self.chats = tokens, asyncio.Event(), 0

    async def step(self, place):
        request = self.it.upstream.requests[-1]
        if request.startswith(tuple(COUNTERS.values())):
            await place.write(ok(b'{"input_tokens":%d}' % self.tokens))
        elif request.startswith(b"GET /v1/models"):
            await place.write(MODELS)
        else:
            self.chats += 1
            if self.chats == 1:
                await self.let_go.wait()
            await place.write(ok(b'{"usage":{"prompt_tokens":400,"completion_tokens":10}}'))


def share(it, slots):
    """Its slots share 1024 tokens."""
    slots.it = it
    it.server.plan = replace(it.server.plan, shared_context_tokens=1024, context_slots=4)
    it.gateway.changed(it.server)


@pytest.mark.parametrize("path", COUNTERS)
@promise
async def test_one_that_never_fits_is_told_both_numbers_while_the_others_go_on(path):
    slots = Slots(tokens=1290)
    async with relay(slots.step) as it, it.client() as first, it.client() as second:
        share(it, slots)
        await first.send(post(LONG))
        await it.upstream.until(1)
        status, _, body = await second.ask(post(LONG, path.encode()))
        error = json.loads(body)["error"]
        assert status == 400
        assert "1290" in error["message"]
        assert "1024" in error["message"]
        assert (error.get("code"), error["type"]) in {
            ("context_length_exceeded", "invalid_request_error"),
            (None, "invalid_request_error"),
        }
        slots.let_go.set()
        assert (await first.answer())[0] == 200
        assert slots.chats == 1
        assert [(each.status, each.result) for each in it.gateway.activity.since(0)] == [
            (400, "refused"),
            (200, "answered"),
        ]


@promise
async def test_one_that_fits_by_the_engines_count_goes_at_once_though_its_bytes_looked_too_many():
    slots = Slots(tokens=300)
    async with relay(slots.step) as it, it.client() as first, it.client() as second:
        share(it, slots)
        await first.send(post(LONG))
        await it.upstream.until(1)
        assert (await second.ask(post(LONG)))[0] == 200  # while the first is being answered
        slots.let_go.set()
        assert (await first.answer())[0] == 200
        waited = [each.context_wait_seconds > 0 for each in it.gateway.activity.since(0)]
        assert waited == [True, False]


@promise
async def test_while_all_fit_nothing_is_counted():
    slots = Slots(tokens=300)
    async with relay(slots.step) as it, it.client() as first, it.client() as second:
        share(it, slots)
        await first.send(post(b'{"max_tokens":1}'))
        await it.upstream.until(1)
        assert (await second.ask(post(b'{"max_tokens":1}')))[0] == 200
        slots.let_go.set()
        await first.answer()
        assert len(it.upstream.requests) == 2


@promise
async def test_an_engine_that_cannot_count_decides_itself_once_there_is_room():
    slots = Slots(tokens=300)

    async def old(place):
        if slots.it.upstream.requests[-1].startswith(COUNTERS["/v1/chat/completions"]):
            await place.write(ok(b"{}", status=b"404 Not Found"))
        else:
            await slots.step(place)

    async with relay(old) as it, it.client() as first, it.client() as second:
        share(it, slots)
        await first.send(post(LONG))
        await it.upstream.until(1)
        await second.send(post(LONG))
        await it.upstream.until(3)
        (held,) = it.gateway.now.held
        assert replace(held, longest_seconds=0) == HeldRequests(
            "p", 1, 0, "room in the context that its slots share"
        )
        assert (it.gateway.context_use("default").waiting, slots.chats) == (1, 1)
        slots.let_go.set()
        assert [(await each.answer())[0] for each in (first, second)] == [200, 200]
        assert it.gateway.now.held == []


@promise
async def test_one_that_waited_too_long_for_room_is_told_so():
    slots = Slots(tokens=700)
    settings = GatewaySettings(hold_timeout_seconds=0.1)
    async with relay(slots.step, settings=settings) as it, it.client() as first, it.client() as second:
        share(it, slots)
        await first.send(post(LONG))
        await it.upstream.until(1)
        status, head, body = await second.ask(post(LONG))
        assert (status, json.loads(body)["error"]["code"]) == (503, "no_room")
        assert b"retry-after: " in head
        slots.let_go.set()
        await first.answer()


@pytest.mark.parametrize("path", COUNTERS)
@promise
async def test_the_engines_own_refusal_comes_in_the_shape_of_the_api(path):
    async with relay(says(ok(TOO_LONG, status=b"400 Bad Request")), says(ok(b"fine"))) as it:
        async with it.client() as client:
            status, _, body = await client.ask(post(b"{}", path.encode()))
            assert status == 400
            error = json.loads(body)["error"]
            assert error["type"] == "invalid_request_error"
            assert error.get("code") == ("context_length_exceeded" if "chat" in path else None)
            assert (await client.ask(post(b"{}")))[2] == b"fine"  # on the same connection
        (refused, _) = it.gateway.activity.since(0)
        assert (refused.status, refused.result) == (400, "answered")
        assert "1290 tokens" in refused.note


@promise
async def test_requests_that_wait_for_a_load_tell_what_that_waits_for():
    async with relay(says(ok(b"q's"))) as it, it.client() as client, it.client() as other:
        it.owner.awaited = {"q": "waits for p, which answers 2 requests"}
        await client.send(post(b'{"model":"q"}'))
        await other.send(post(b'{"model":"q"}'))
        await until(lambda: it.gateway.counts()[1] == 2)
        (held,) = it.gateway.now.held
        assert asdict(held) | {"longest_seconds": 0} == {
            "profile": "q",
            "requests": 2,
            "longest_seconds": 0,
            "reason": "waits for p, which answers 2 requests",
        }
        it.owner.awaited = {}
        it.turn(State.STARTING, "q")
        assert it.gateway.now.held[0].reason == "starting"


@pytest.mark.engine
@pytest.mark.skipif(not ENGINE, reason="GOSS_TEST_LLAMA_SERVER names no llama-server")
def test_the_real_engine_counts_what_it_would_take_and_refuses_with_these_numbers(tmp_path):
    tools = [{"type": "function", "function": {"name": "get", "parameters": {"type": "object"}}}]
    parts = [{"type": "text", "text": "tell me"}, {"type": "text", "text": " more"}]
    chat = {"messages": [{"role": "user", "content": parts}], "tools": tools, "max_tokens": 1}
    huge = {"messages": [{"role": "user", "content": "word " * 400}]}

    async def story(target):
        async with relay(says(b"")) as it:
            await loaded(target)
            it.server.target = target
            it.gateway.changed(it.server)

            async def asks(path, body):
                return json.loads((await it.ask(post(json.dumps(body).encode(), path.encode())))[2])

            counted = await asks("/v1/chat/completions/input_tokens", chat)
            answered = await asks("/v1/chat/completions", chat)
            assert counted["input_tokens"] == answered["usage"]["prompt_tokens"]
            error = (await asks("/v1/chat/completions", huge))["error"]
            assert error["code"] == "context_length_exceeded"
            assert error["n_ctx"] == 512
            counted = await asks("/v1/chat/completions/input_tokens", huge)
            assert counted["input_tokens"] == error["n_prompt_tokens"]

    with engine(tmp_path) as target:
        asyncio.run(story(target))
