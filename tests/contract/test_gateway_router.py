"""What llama.cpp's router has and its web UI asks for: the models with their states, loads, unloads, the feed."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from unittest.mock import patch

import pytest

from supervisor.gateway import model_states
from supervisor.plan.listen import Offer
from supervisor.profile.definition import GatewaySettings
from supervisor.server.lifecycle_table import State

from ..fakes.launching import BOUND_SECONDS, until
from ..fakes.relay import HOST, behind, ok, post, relay, says
from .test_gateway_wakes import promise, request

pytestmark = pytest.mark.usefixtures("each_loop")

HELLO = says(ok(b"hello"))
SSE = request("GET", "/models/sse")


async def document(it, path, method="GET", body=b""):
    status, _, said = await it.ask(request(method, path, body))
    return status, json.loads(said)


async def asked(it, path, model):
    status, said = await document(it, path, "POST", json.dumps({"model": model}).encode())
    return status, said.get("error", {}).get("code") or said


async def statuses(it):
    _, said = await document(it, "/models")
    return {entry["id"]: entry["status"] for entry in said["data"]}


BEAT = b": still here\n\n"  # may come at any time


class Feed:
    """A client of ``/models/sse``."""

    def __init__(self, client):
        self._client = client

    async def piece(self):
        async with asyncio.timeout(BOUND_SECONDS):
            size = int(await self._client.reader.readuntil(b"\r\n"), 16)
            return (await self._client.reader.readexactly(size + 2))[:-2]

    async def event(self):
        """The next that is no comment."""
        while (piece := await self.piece()).startswith(b":"):
            pass
        assert piece.startswith(b"data: ")
        assert piece.endswith(b"\n\n")
        return json.loads(piece[6:])

    async def change(self):
        said = await self.event()
        assert said["event"] == "status_change"
        return said["model"], said["data"]


@asynccontextmanager
async def feed(it):
    async with it.client() as client:
        await client.send(SSE)
        head = (await client.reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200 ok")
        assert b"content-type: text/event-stream" in head
        yield Feed(client)


# --- what the page asks for first


@promise
async def test_each_model_has_its_status_in_the_routers_words():
    loaded, unloaded = {"value": "loaded", "args": []}, {"value": "unloaded", "args": []}
    loading, failed = {"value": "loading", "args": []}, unloaded | {"failed": True, "exit_code": 1}
    async with relay(HELLO) as it:
        for state, wanted in {
            **dict.fromkeys((State.READY, State.DEGRADED, State.DRAINING), loaded),
            **dict.fromkeys((State.PREPARING, State.STARTING, State.BACKOFF), loading),
            **dict.fromkeys((State.STOPPING, State.KILLING), loading),
            **dict.fromkeys((State.SLEEPING, State.STOPPED), unloaded),
            State.FAILED: failed,
        }.items():
            it.turn(state)
            assert await statuses(it) == {"p": wanted, "q": unloaded}


@promise
async def test_several_models_are_a_router_whatever_becomes_of_them():
    async with relay(HELLO) as it:
        for state in State:
            it.turn(state)
            status, props = await document(it, "/props?autoload=false")
            assert (status, props["role"]) == (200, "router")
            assert props["default_generation_settings"]["params"] == {}


@promise
async def test_a_single_model_is_none_and_neither_is_one_of_several():
    async with relay(HELLO, offers=(Offer("p", ("p",)),)) as it:
        assert "role" not in (await document(it, "/props"))[1]
    async with relay(HELLO) as it:
        status, props = await document(it, "/props?model=q&autoload=false")
        assert (status, props["model_alias"], props["is_sleeping"], "role" in props) == (
            200,
            "q",
            True,
            False,
        )


# --- loads


@promise
async def test_a_load_is_that_of_a_person_and_the_model_is_loading_from_then_on():
    async with relay(HELLO) as it, feed(it) as told:
        assert await asked(it, "/models/load", "q") == (200, {"success": True})
        assert (it.owner.by_person, it.upstream.requests) == (["q"], [])
        assert await told.change() == ("q", {"status": "loading"})
        assert (await statuses(it))["q"]["value"] == "loading"
        assert await asked(it, "/models/unload", "q") == (409, "loading")
        async with behind(it, "q", HELLO):
            assert await told.change() == ("q", {"status": "loaded"})
            assert (await statuses(it))["q"]["value"] == "loaded"


@pytest.mark.parametrize("state", [State.SLEEPING, State.FAILED, State.STOPPED])
@promise
async def test_a_model_that_is_not_loaded_can_be(state):
    async with relay(HELLO) as it:
        it.turn(state)
        assert await asked(it, "/models/load", "P") == (200, {"success": True})
        assert it.owner.by_person == ["p"]


@promise
async def test_a_load_that_comes_to_nothing_is_told_until_the_next_one_begins():
    async with relay(HELLO) as it, feed(it) as told:
        await asked(it, "/models/load", "q")
        it.gateway.loaded("q", "it does not fit")
        assert [await told.change() for _ in range(2)] == [
            ("q", {"status": "loading"}),
            ("q", {"status": "unloaded", "exit_code": 1}),
        ]
        assert (await statuses(it))["q"]["failed"] is True
        await asked(it, "/models/load", "q")
        assert "failed" not in (await statuses(it))["q"]


@promise
async def test_what_cannot_be_loaded_or_unloaded_is_refused_in_words():
    async with relay(HELLO) as it:
        assert await asked(it, "/models/load", "p") == (400, "already_loaded")
        assert await asked(it, "/models/unload", "q") == (400, "not_loaded")
        it.server.is_held = True
        assert await asked(it, "/models/unload", "p") == (409, "held")
        for path in ("/models/load", "/models/unload"):
            assert await asked(it, path, "nobody") == (404, "model_not_found")
            assert (await document(it, path, "POST", b"{}"))[0] == 400
            assert (await document(it, path, "POST", b"no json"))[0] == 400
        for method, path in (("POST", "/models"), ("DELETE", "/models?model=p")):
            status, said = await document(it, path, method, b'{"model":"p"}')
            assert (status, said["error"]["code"]) == (501, "not_supported")
            assert "goss-supervisor model" in said["error"]["message"]
        assert (it.server.calls, it.owner.loads) == ([], [])


@promise
async def test_an_unload_is_told_when_the_memory_is_free():
    async with relay(HELLO) as it, feed(it) as told:
        assert await asked(it, "/models/unload", "p") == (200, {"success": True})
        assert it.server.calls == ["sleep"]
        for state in (State.DRAINING, State.STOPPING, State.SLEEPING):
            it.turn(state)
        assert await told.change() == ("p", {"status": "loading"})
        assert await told.change() == ("p", {"status": "unloaded", "exit_code": 0})


@pytest.mark.parametrize(
    "sent", [post(b'{"model":"q"}', b"/models/load"), post(b'{"model":"p"}', b"/models/unload"), SSE]
)
@promise
async def test_a_page_of_another_site_does_none_of_it(sent):
    for strange in (b"Origin: http://evil.example\r\n", b"Sec-Fetch-Site: cross-site\r\n"):
        async with relay(HELLO) as it:
            status, _, _ = await it.ask(sent.replace(HOST, HOST + strange))
            assert (status, it.server.calls, it.owner.loads) == (403, [], [])


# --- the feed


@promise
async def test_the_feed_tells_each_change_once_to_each_who_watches():
    async with relay(HELLO) as it, feed(it) as one, feed(it) as other:
        for state in (State.READY, State.BACKOFF, State.STARTING, State.READY, State.FAILED):
            it.turn(state)
        for each in (one, other):
            assert [await each.change() for _ in range(3)] == [
                ("p", {"status": "loading"}),
                ("p", {"status": "loaded"}),
                ("p", {"status": "unloaded", "exit_code": 1}),
            ]


@promise
async def test_while_a_model_loads_the_feed_tells_how_much_of_it_is_there():
    async with relay(HELLO) as it, feed(it) as told:
        it.server.resident_bytes = lambda: 40  # of the 100 that it will have
        it.turn(State.STARTING)
        stages = {"stages": ["text_model"], "current": "text_model"}
        assert await told.change() == ("p", {"status": "loading", "progress": {**stages, "value": 0.4}})
        it.server.resident_bytes = lambda: 80
        assert await told.change() == ("p", {"status": "loading", "progress": {**stages, "value": 0.8}})


@promise
async def test_another_list_of_models_is_told_as_a_whole():
    async with relay(HELLO) as it, feed(it) as told:
        offers = (Offer("p", ("p",)), Offer("r", ("r",)))
        await it.gateway.open(replace(it.gateway.listener.listen, offers=offers))
        assert await told.event() == {"model": "*", "event": "models_reload"}


@promise
async def test_a_feed_with_nothing_to_tell_shows_that_it_is_alive():
    with patch.object(model_states, "BEAT_SECONDS", 0.05):
        async with relay(HELLO) as it, feed(it) as told:
            for _ in range(3):
                assert (await told.piece()).startswith(b":")


@promise
async def test_who_watches_keeps_no_model_loaded_and_none_awake():
    async with relay(HELLO, settings=GatewaySettings(idle_unload_seconds=0.05)) as it, feed(it):
        await until(lambda: "sleep" in it.server.calls)
        assert not it.gateway.is_busy("default")
        assert it.gateway.activity.since(0) == []


@promise
async def test_a_client_that_leaves_is_forgotten():
    async with relay(HELLO) as it:
        async with feed(it), feed(it):
            assert len(it.gateway._models._watchers) == 2
        await until(lambda: not it.gateway._models._watchers)


@promise
async def test_a_client_that_reads_too_slowly_is_told_to_ask_for_all():
    async with relay(HELLO) as it, feed(it) as told:
        (watcher,) = it.gateway._models._watchers
        connection = watcher._answer._client
        connection.pause_writing()
        for state in (State.STARTING, State.READY):
            it.turn(state)
        connection.resume_writing()
        assert await told.event() == {"model": "*", "event": "models_reload"}
        it.turn(State.SLEEPING)
        assert await told.change() == ("p", {"status": "unloaded", "exit_code": 0})


@promise
async def test_the_feed_ends_whole_when_the_daemon_is_stopped():
    async with relay(HELLO) as it, it.client() as client:
        await client.send(SSE)
        await until(lambda: it.gateway._models._watchers)
        it.gateway.begin_to_end()
        await it.gateway.finish()
        status, _, body = await client.answer()
        assert (status, body.replace(BEAT, b"")) == (200, b"")


@promise
async def test_a_client_of_http_1_0_gets_the_feed_without_chunks():
    async with relay(HELLO) as it, it.client() as client:
        await client.send(SSE.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert b"connection: close" in await client.reader.readuntil(b"\r\n\r\n")
        it.turn(State.SLEEPING)
        async with asyncio.timeout(BOUND_SECONDS):
            while (said := await client.reader.readuntil(b"\n\n")) == BEAT:
                pass
        assert json.loads(said.removeprefix(b"data: "))["data"]["status"] == "unloaded"


# --- answers that go on without their page


@promise
async def test_the_stream_of_a_conversation_is_looked_for_where_its_model_is():
    async with relay(says(ok(b"of p"))) as it, behind(it, "q", says(ok(b"of q"))):
        for method in ("GET", "DELETE"):
            for model in ("p", "q"):
                said = await it.ask(request(method, f"/v1/stream?conv_id=1%3A%3A{model}&from=0"))
                assert said[::2] == (200, f"of {model}".encode())
        assert (await it.ask(request("GET", "/v1/stream?conv_id=1")))[2] == b"of p"


@promise
async def test_whose_streams_still_run_is_asked_of_all_servers():
    of_p, of_q = b'[{"conversation_id":"1::p"}]', b'[{"conversation_id":"2::q"}]'
    ids = b'{"conversation_ids":["1::p","2::q"]}'
    async with relay(says(ok(of_p))) as it, behind(it, "q", says(ok(of_q))) as other:
        lookup = request("POST", "/v1/streams/lookup", ids)
        assert json.loads((await it.ask(lookup))[2]) == json.loads(of_p) + json.loads(of_q)
        assert it.upstream.requests[0].endswith(ids)
        other.state = State.SLEEPING
        it.gateway.changed(other)
        assert json.loads((await it.ask(lookup))[2]) == json.loads(of_p)
    async with relay(says(ok(b"", status=b"404 Not Found"))) as it:
        assert (await it.ask(lookup))[::2] == (200, b"[]")
