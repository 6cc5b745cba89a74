"""Peers on real sockets: who answers, what they get to see, and what a client sees when they fail."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from unittest.mock import patch

import pytest

from supervisor.gateway import peer_watch
from supervisor.gateway.auth.keys import KeyFile
from supervisor.gateway.peer_choice import PeerList, PeerModel
from supervisor.plan.listen import Offer
from supervisor.profile.definition import GatewaySettings
from supervisor.profile.peer import Peer
from supervisor.server.diagnosis import Diagnosis
from supervisor.server.lifecycle_table import State

from ..fakes.launching import BOUND_SECONDS, free_port, until
from ..fakes.peers import a_peer, entry, name_peers
from ..fakes.relay import EVENTS, HOST, Closed, chunk, hang_up, ok, post, relay, says, then_hangs_up, waits
from .test_gateway_wakes import promise

pytestmark = pytest.mark.usefixtures("each_loop")

HERE = says(ok(b"here"))
STREAM = EVENTS + chunk(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n')


def asks(model: str, more: bytes = b"", **fields) -> bytes:
    return post(json.dumps({"model": model, **fields}).encode(), more=more)


def refusal(status: bytes, more: bytes = b"") -> bytes:
    return ok(b'{"error":{"message":"no"}}', more, status)


async def code_of(it, request: bytes) -> tuple[int, str]:
    status, _, said = await it.ask(request)
    return status, json.loads(said)["error"]["code"]


async def message_of(it, request: bytes) -> str:
    return json.loads((await it.ask(request))[2])["error"]["message"]


def place(it) -> str:
    """Of the last request."""
    return it.gateway.activity.since(0)[-1].profile


@asynccontextmanager
async def peers(it, **scripts):
    """Peers of these names, each with the model m; a script may be steps and what else is to be known."""
    async with AsyncExitStack() as stack:
        made = []
        for name, given in scripts.items():
            steps, about = given if isinstance(given, tuple) else ([given], {})
            about = {"models": [entry("m")], **about}
            made.append(await stack.enter_async_context(a_peer(name, *steps, **about)))
        await name_peers(it, *(each.peer for each in made))
        yield made


# --- who answers


@promise
async def test_a_model_that_only_a_peer_has_is_asked_for_by_its_name_or_with_the_peers():
    async with relay(HERE) as it, peers(it, big=says(ok(b"there"))) as (big,):
        for name in ("m", "M", "big/m", "Big/m"):
            assert (await it.ask(asks(name)))[2] == b"there"
            assert place(it) == "big/m"
        assert (await it.ask(asks("p")))[2] == (await it.ask(asks("unknown")))[2] == b"here"
        assert len(big.requests) == 4


@promise
async def test_what_is_on_offer_here_is_answered_here_and_the_peers_is_still_there_by_its_own_name():
    async with relay(HERE) as it, peers(it, big=([says(ok(b"there"))], {"models": [entry("p")]})):
        assert (await it.ask(asks("p")))[2] == b"here"
        assert (await it.ask(asks("big/p")))[2] == b"there"


@promise
async def test_a_loaded_model_comes_first_then_the_peer_with_the_fewest_requests():
    held = says(ok(b"loaded"))
    unloaded = {"models": [entry("m", "unloaded")]}
    async with relay(HERE) as it, peers(it, a=([held], unloaded), b=held, c=held) as (a, b, c):
        async with it.client() as one, it.client() as two:
            b.script[:] = [waits]
            await one.send(asks("m"))
            await b.until(1)
            assert (await two.ask(asks("m")))[2] == b"loaded"
        assert [len(each.requests) for each in (a, b, c)] == [0, 1, 1]


@promise
async def test_the_effort_behind_the_name_goes_with_the_request():
    async with relay(HERE) as it, peers(it, big=says(ok(b"there"))) as (big,):
        await it.ask(asks("big/m:high"))
        sent = json.loads(big.requests[0].partition(b"\r\n\r\n")[2])
        assert (sent["model"], sent["reasoning_effort"]) == ("m", "high")


@promise
async def test_a_peer_gets_its_own_key_and_nothing_that_is_ours_or_the_clients():
    more = b"Authorization: Bearer client\r\nCookie: goss=1\r\nOrigin: http://localhost\r\nX-Mine: 1\r\n"
    async with relay(HERE) as it, peers(it, big=([says(ok(b"there"))], {"key": "secret"})) as (big,):
        request = asks("m", more).replace(b"/v1/chat/completions ", b"/chat/completions?a=b ")
        assert (await it.ask(request))[0] == 200
        sent = big.requests[0].lower()
        assert sent.startswith(b"post /v1/chat/completions?a=b http/1.1\r\n")
        assert b"authorization: bearer secret\r\n" in sent
        assert b"x-mine: 1\r\n" in sent
        assert b"x-goss-supervisor-hops: " + it.gateway.peers.id.encode() + b"\r\n" in sent
        assert not any(each in sent for each in (b"client", b"cookie", b"origin"))


@promise
async def test_a_request_of_another_kind_is_not_for_peers():
    async with relay(HERE) as it, peers(it, big=says(ok(b"there"))) as (big,):
        await it.ask(b"GET /props?model=m HTTP/1.1\r\n" + HOST + b"\r\n")
        assert big.requests == []


# --- a peer that fails


@promise
async def test_a_request_without_an_answer_goes_to_the_next_peer_once():
    async with relay(HERE) as it, peers(it, a=hang_up, b=hang_up, c=says(ok(b"c"))) as (a, b, c):
        assert await code_of(it, asks("m")) == (502, "server_lost")
        assert [bool(each.requests) for each in (a, b, c)] == [True, True, False]
        b.script[:] = [says(ok(b"b"))]
        assert (await it.ask(asks("m")))[2] == b"b"
        assert it.gateway.activity.since(0)[-1].replayed


@promise
async def test_a_peer_that_cannot_be_reached_costs_no_replay_and_is_asked_again_once_it_is_back():
    async with relay(HERE) as it, peers(it, c=says(ok(b"c"))) as (c,):
        gone = [Peer(f"http://127.0.0.1:{free_port()}", name, models=("m",)) for name in "ab"]
        await name_peers(it, *gone, c.peer)
        for watch in it.gateway.peers.watches[:2]:
            watch.state = "up"  # it has just died
            watch.pool.aim(replace(watch.pool._target, port=watch.peer.port))
        assert (await it.ask(asks("m")))[2] == b"c"
        assert [each.state for each in it.gateway.peers.watches] == ["down", "down", "up"]


@promise
async def test_half_an_answer_ends_visibly_broken():
    async with relay(HERE) as it, peers(it, a=then_hangs_up(STREAM), b=says(ok(b"b"))) as (_, b):
        with pytest.raises(Closed) as closed:
            await it.ask(asks("m", stream=True))
        assert b"stream_broken" in closed.value.said
        assert b"a (http://127.0.0.1:" in closed.value.said
        assert not b.requests
        assert it.results == ["broken"]


@pytest.mark.parametrize("status", [b"429 Too Many Requests", b"503 Unavailable", b"404 Not Found"])
@promise
async def test_what_one_refuses_goes_to_the_next_and_the_last_refusal_is_the_clients(status):
    no = says(refusal(status, b"Retry-After: 7\r\n"))
    async with relay(HERE) as it, peers(it, a=no, b=no, c=says(ok(b"c"))) as (a, b, c):
        assert (await it.ask(asks("m")))[2] == b"c"
        c.script[:] = [no]
        got, head, said = await it.ask(asks("m"))
        assert (got, said) == (int(status[:3]), b'{"error":{"message":"no"}}')
        assert b"retry-after: 7\r\n" in head
        assert [len(each.requests) for each in (a, b, c)] == [2, 2, 2]


@promise
async def test_a_peer_that_refuses_our_key_is_no_fault_of_the_clients():
    wrong = says(refusal(b"401 Unauthorized"))
    async with relay(HERE) as it, peers(it, a=wrong, b=says(ok(b"b"))) as (a, _):
        assert (await it.ask(asks("m")))[2] == b"b"
        await name_peers(it, a.peer)
        assert await code_of(it, asks("m")) == (502, "peer_key")


@promise
async def test_what_is_no_http_is_no_answer():
    async with relay(HERE) as it, peers(it, a=then_hangs_up(b"garbage\r\n\r\n"), b=says(ok(b"b"))):
        assert (await it.ask(asks("m")))[2] == b"b"


@promise
async def test_a_client_that_leaves_takes_its_request_with_it():
    async with relay(HERE) as it, peers(it, a=waits) as (a,):
        async with it.client() as client:
            await client.send(asks("m"))
            await a.until(1)
            assert it.gateway.peers.watches[0].under_way == 1
        async with asyncio.timeout(BOUND_SECONDS):
            await a.left.wait()
        await until(lambda: it.results == ["cancelled"])
        assert it.gateway.peers.watches[0].under_way == 0


@promise
async def test_requests_at_a_peer_that_has_frozen_are_given_up(monkeypatch):
    monkeypatch.setattr(peer_watch, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(peer_watch, "LOOK_SECONDS", 0.01)
    async with relay(HERE) as it, peers(it, a=waits, b=says(ok(b"b"))) as (a, _):
        async with it.client() as client, it.client() as half:
            await client.send(asks("a/m"), b"")
            await a.until(1)
            a.script[:] = [says(STREAM)]
            await half.send(asks("a/m", stream=True))
            await half.reader.readuntil(b"\r\n\r\n")
            a.is_silent = True
            assert (await client.answer())[0] == 502
            assert b"does not answer any more" in await half.rest()
        watch = it.gateway.peers.watches[0]
        assert (watch.state, watch.why) == ("down", "it does not answer within 0.05 s")
        a.is_silent = False
        await until(lambda: watch.state == "up")


# --- here and there


@promise
async def test_a_peer_answers_what_this_computer_refuses():
    async with relay(HERE) as it, peers(it, big=([says(ok(b"there"))], {"models": [entry("p")]})) as (big,):
        it.server.failure = Diagnosis("unknown", "It died.", "")
        it.turn(State.FAILED)
        assert (await it.ask(asks("p")))[2] == b"there"
        big.script[:] = [hang_up]
        assert await code_of(it, asks("p")) == (503, "server_down")
        it.turn(State.READY)
        assert (await it.ask(asks("p")))[2] == b"here"


@promise
async def test_a_model_that_cannot_be_loaded_here_is_answered_by_a_peer():
    there = [says(ok(b"there"))], {"models": [entry("q")]}
    async with relay(HERE) as it, peers(it, big=there), it.client() as client:
        await client.send(asks("q"))
        await until(lambda: it.owner.loads == ["q"])
        it.gateway.loaded("q", "there is no memory for it")
        assert (await client.answer())[2] == b"there"


@promise
async def test_names_of_a_peer_that_is_down_are_known_and_the_reason_is_told():
    async with relay(HERE, settings=GatewaySettings(unknown_model="reject")) as it:
        gone = Peer(f"http://127.0.0.1:{free_port()}", "big", models=("m",))
        await name_peers(it, gone)
        assert await code_of(it, asks("m")) == (503, "peer_down")
        assert "big (http://127.0.0.1:" in await message_of(it, asks("big/m"))
        assert "is down: it cannot be reached" in await message_of(it, asks("big/other"))
        assert "It may be a model of big" in await message_of(it, asks("other"))
        await name_peers(it)
        assert await code_of(it, asks("big/m")) == (404, "model_not_found")


@promise
async def test_a_name_with_a_peers_in_front_means_no_other_model():
    async with relay(HERE) as it, peers(it, big=says(ok(b"there"))):
        assert await code_of(it, asks("big/unknown")) == (404, "model_not_found")


# --- loops


@pytest.mark.parametrize(("knows", "asked"), [(True, [1, 1]), (False, [2, 1])])
@promise
async def test_two_that_name_each_other_do_not_send_requests_round(knows, asked):
    """Whether or not the second knows that its peer is the one that has asked."""
    async with relay(HERE) as one, relay(HERE) as two:
        for it, other, name in ((one, two, "two"), (two, one, "one")):
            await name_peers(it, Peer(f"http://127.0.0.1:{other.port}", name))
            watch = it.gateway.peers.watches[0]
            watch.list = PeerList((PeerModel(name, "m"),))  # as if it had had it a moment ago
            watch.id = watch.id if knows else ""
            it.gateway.peers._changed()
        assert await code_of(one, asks("m")) == (508, "peer_loop")
        await until(lambda: [it.gateway.activity.count for it in (one, two)] == asked)


@promise
async def test_what_is_behind_a_peer_is_served_too_but_not_what_leads_back():
    offers = {name: (Offer(name, (name,)),) for name in ("a", "b", "c")}
    async with AsyncExitStack() as stack:
        ring = {
            name: await stack.enter_async_context(relay(says(ok(name.encode())), offers=offers[name]))
            for name in offers
        }
        for name, it in ring.items():
            it.turn(State.READY, name)
        at = {name: Peer(f"http://127.0.0.1:{it.port}", name) for name, it in ring.items()}
        with patch.object(peer_watch, "LOOK_SECONDS", 0.02):
            for name, following in ("ab", "bc", "ca"):
                await name_peers(ring[name], at[following])

            def known(name):
                return {model.id for model in ring[name].gateway.peers.watches[0].list.models}

            await until(lambda: [known(name) for name in "abc"] == [{"b", "c"}, {"a", "c"}, {"a", "b"}])
        assert (await ring["a"].ask(asks("c")))[2] == b"c"
        assert place(ring["a"]) == "b/c"


@promise
async def test_who_comes_from_a_peer_with_an_unknown_name_gets_no_other_model():
    async with relay(HERE) as it:
        hop = b"X-Goss-Supervisor-Hops: 1234567890abcdef\r\n"
        assert await code_of(it, asks("gone", hop)) == (404, "model_not_found")
        assert (await it.ask(asks("p", hop)))[2] == b"here"
        assert (await it.ask(asks("gone")))[2] == b"here"


# --- keys


@promise
async def test_a_key_for_some_models_is_for_them_at_every_peer_or_at_one(tmp_path):
    file = KeyFile(tmp_path / "keys.json")
    secrets = {
        name: file.add(name, "inference", {"models": (model,)})
        for name, model in {"any": "m", "one": "b/m", "none": "p"}.items()
    }

    def with_key(model, name):
        return asks(model, b"X-Api-Key: " + secrets[name].encode() + b"\r\n")

    async with relay(HERE, keys=file.path) as it, peers(it, a=says(ok(b"a")), b=says(ok(b"b"))):
        answers = [
            (await it.ask(with_key(*asked)))[2] for asked in (("m", "any"), ("b/m", "any"), ("m", "one"))
        ]
        assert answers == [b"a", b"b", b"b"]
        for asked in (("a/m", "one"), ("m", "none"), ("b/m", "none")):
            assert await code_of(it, with_key(*asked)) == (403, "key_model")
        listed = (
            b"GET /v1/models HTTP/1.1\r\n" + HOST + b"X-Api-Key: " + secrets["one"].encode() + b"\r\n\r\n"
        )
        assert [each["id"] for each in json.loads((await it.ask(listed))[2])["data"]] == ["m"]


# --- lists


async def listed(it, more: bytes = b""):
    status, _, said = await it.ask(b"GET /v1/models HTTP/1.1\r\n" + HOST + more + b"\r\n")
    assert status == 200
    return [(each["id"], each["owned_by"], each["aliases"]) for each in json.loads(said)["data"]]


@promise
async def test_the_list_has_the_models_of_peers_and_says_whose_they_are():
    mine = {"models": [entry("m"), entry("p", "unloaded")]}
    async with relay(HERE) as it, peers(it, a=([HERE], mine), b=([HERE], mine)):
        ours = [("p", "goss-supervisor", []), ("q", "goss-supervisor", [])]
        theirs = [("m", "a", ["a/m"]), ("a/p", "a", []), ("b/m", "b", []), ("b/p", "b", [])]
        assert await listed(it) == [*ours, *theirs]
        for name in ("m", "a/m", "b/m"):
            status, _, said = await it.ask(
                b"GET /v1/models/" + name.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n"
            )
            assert (status, json.loads(said)["peer"]) == (200, name.partition("/")[0] if "/" in name else "a")
        passed = b"X-Goss-Supervisor-Hops: 1234567890abcdef\r\n"  # is the id of both
        assert await listed(it, passed) == ours


@promise
async def test_a_peer_that_lists_ten_thousand_models_is_bounded_and_named_ones_are_found():
    many = {"models": [f"m{number}" for number in range(10_000)]}
    async with relay(HERE) as it, peers(it, big=([says(ok(b"there"))], many)) as (big,):
        watch = it.gateway.peers.watches[0]
        assert (len(watch.list.models), watch.state) == (1000, "up")
        assert "it lists 10,000 models, and the first 1,000 are served" in watch.why
        assert (await it.ask(asks("m9999")))[2] == b"here"
        await name_peers(it, replace(big.peer, models=("m9999",)))
        assert it.gateway.peers.watches[0].why == ""
        assert (await it.ask(asks("m9999")))[2] == b"there"


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"listing": ok(b"<html>")}, "its /v1/models is no list of models"),
        ({"listing": ok(b'{"data": {}}')}, "it has no list called data"),
        ({"listing": ok(b"", status=b"500 Oops")}, "it answers 500 to /v1/models"),
        ({"listing": refusal(b"401 No")}, "it refuses requests without a key (401)"),
        ({"listing": b"garbage\r\n\r\n"}, "answer is broken"),
        ({"listing": ok(b'{"data": ' + b"[" * 50_000)}, "nested too deeply"),
    ],
)
@promise
async def test_what_is_wrong_with_a_peer_is_told_in_words(about, why):
    async with relay(HERE) as it, peers(it, big=([HERE], about)):
        [said] = it.gateway.peers.documents()
        assert said["state"] == "down"
        assert why in said["why"]


@promise
async def test_entries_that_are_no_models_are_left_out():
    odd = [{"id": 7}, {"id": ""}, {"id": "a b"}, {"id": "x\x1b[2J"}, {"id": "y" * 300}, "text", entry("m")]
    async with (
        relay(HERE) as it,
        peers(it, big=([HERE], {"listing": ok(json.dumps({"data": odd}).encode())})),
    ):
        assert [each.id for each in it.gateway.peers.watches[0].list.models] == ["m"]


@promise
async def test_any_endpoint_is_a_peer_and_one_whose_main_model_loads_is_not_ready():
    loading = {"ready": ok(b'{"state":"starting","why":"","id":"1234567890abcdef"}', status=b"503 No")}
    async with relay(HERE) as it, peers(it, a=([says(ok(b"a"))], loading), b=([says(ok(b"b"))], {"id": ""})):
        states = [(each["state"], each["why"]) for each in it.gateway.peers.documents()]
        assert states == [("not ready", "its main model is starting"), ("up", "")]
        assert (await it.ask(asks("m")))[2] == b"b"
        assert (await it.ask(asks("a/m")))[2] == b"a"


# --- changes


@promise
async def test_a_reload_keeps_the_peers_that_stay_and_drops_the_others():
    async with relay(HERE) as it, peers(it, a=says(ok(b"a")), b=says(ok(b"b"))) as (a, _):
        kept = it.gateway.peers.watches[0]
        await name_peers(it, a.peer)
        assert it.gateway.peers.watches == [kept]
        assert (await it.ask(asks("m")))[2] == b"a"
        await name_peers(it)
        assert (await it.ask(asks("m")))[2] == b"here"


@promise
async def test_a_missing_key_is_told_and_the_variable_may_come_later(monkeypatch):
    async with relay(HERE) as it, a_peer("big", says(ok(b"there")), models=["m"], key="secret") as big:
        await name_peers(it, replace(big.peer, secret="", api_key_env="BIG_KEY"))
        assert "the variable BIG_KEY is not set" in it.gateway.peers.watches[0].why
        assert big.looks == 0
        monkeypatch.setenv("BIG_KEY", "secret")
        it.gateway.peers.watches[0].look_soon()
        await until(lambda: it.gateway.peers.watches[0].state == "up")
        assert (await it.ask(asks("m")))[2] == b"there"
