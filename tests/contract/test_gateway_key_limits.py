"""Keys with limits, as their clients meet them: in each API's shape, and each request counted."""

from __future__ import annotations

import json
import os
import time
from contextlib import asynccontextmanager

import pytest

from supervisor.gateway.auth.keys import KeyFile
from supervisor.gateway.telemetry.usage_tally import UsagePlace, day_of
from supervisor.plan.listen import Offer
from supervisor.profile.definition import GatewaySettings

from ..fakes.launching import until
from ..fakes.loops import promise
from ..fakes.relay import EVENTS, HOST, behind, chunk, ok, post, relay, says, waits

pytestmark = pytest.mark.usefixtures("each_loop")

ANSWER = ok(b'{"usage":{"completion_tokens":20,"prompt_tokens":100,"total_tokens":120}}')
OFFERS = (Offer("p", ("model-p", "p")), Offer("q", ("q",)))


@asynccontextmanager
async def keyed(tmp_path, **limits):
    """A gateway, and the header of a key with these limits."""
    file = KeyFile(tmp_path / "keys.json")
    key = file.add("laptop", "inference", limits)
    async with relay(says(ANSWER), offers=OFFERS, keys=file.path) as it:
        yield it, f"Authorization: Bearer {key}\r\n".encode()


async def ask(it, header, body=b"{}", path=b"/v1/chat/completions"):
    status, head, said = await it.ask(post(body, path, header))
    return status, head, json.loads(said)


async def get(it, header, path):
    status, _, said = await it.ask(b"GET " + path + b" HTTP/1.1\r\n" + HOST + header + b"\r\n")
    return status, json.loads(said)


@promise
async def test_another_model_is_refused_in_the_shape_of_each_api(tmp_path):
    async with keyed(tmp_path, models=("p",)) as (it, key):
        for body in (b'{"model": "p"}', b'{"model": "model-p"}', b"{}"):
            assert (await ask(it, key, body))[0] == 200
        status, _, said = await ask(it, key, b'{"model": "q"}')
        assert (status, said["error"]["code"], said["error"]["type"]) == (
            403,
            "key_model",
            "permission_error",
        )
        status, _, said = await ask(it, key, b'{"model": "q"}', b"/v1/messages")
        assert (status, said["type"], said["error"]["type"]) == (403, "error", "permission_error")
        assert "laptop may not use q" in said["error"]["message"]
        assert len(it.upstream.requests) == 3
        assert not it.owner.loads


@promise
async def test_a_request_without_a_model_counts_as_the_profile_that_answers(tmp_path):
    async with keyed(tmp_path, models=("q",)) as (it, key), behind(it, "q", says(ANSWER)):
        assert (await ask(it, key))[2]["error"]["code"] == "key_model"
        assert (await ask(it, key, b'{"model": "q"}'))[0] == 200


@promise
async def test_a_key_for_one_model_is_not_answered_by_another_where_clients_cannot_switch(tmp_path):
    file = KeyFile(tmp_path / "keys.json")
    key = f"Authorization: Bearer {file.add('laptop', 'inference', {'models': ('q',)})}\r\n".encode()
    settings = GatewaySettings(switch_on_request=False)
    async with relay(says(ANSWER), offers=OFFERS, keys=file.path, settings=settings) as it:
        assert (await ask(it, key, b'{"model": "q"}'))[2]["error"]["code"] == "key_model"
        assert not it.upstream.requests


@promise
async def test_the_models_of_a_key_are_all_that_it_sees(tmp_path):
    async with keyed(tmp_path, models=("q",)) as (it, key):
        status, said = await get(it, key, b"/v1/models")
        assert (status, [each["id"] for each in said["data"]]) == (200, ["q"])
        assert (await get(it, key, b"/v1/models/q"))[0] == 200
        assert (await get(it, key, b"/v1/models/p"))[0] == 404
        assert (await get(it, key, b"/props?model=p"))[0] == 403


@promise
async def test_a_feed_of_models_tells_a_key_of_its_models_only(tmp_path):
    async with keyed(tmp_path, models=("q",)) as (it, key), it.client() as client:
        await client.send(b"GET /models/sse HTTP/1.1\r\n" + HOST + key + b"\r\n")
        await client.reader.readuntil(b"\r\n\r\n")
        it.gateway.loaded("p", "it failed")
        it.turn(it.server.state.STARTING)
        it.gateway.loaded("q", "it failed")
        told = b""
        while not told:  # signs of life come between
            told = (await client.reader.readuntil(b"\n\n")).partition(b"data: ")[2]
        assert json.loads(told)["model"] == "q"


@promise
async def test_a_rate_is_429_with_the_time_to_wait_in_the_shape_of_each_api(tmp_path):
    async with keyed(tmp_path, rate="2/h") as (it, key):
        assert [(await ask(it, key))[0] for _ in range(2)] == [200, 200]
        status, head, said = await ask(it, key)
        assert (status, said["error"]["code"], said["error"]["type"]) == (429, "key_rate", "rate_limit_error")
        assert b"\r\nretry-after: 1800\r\n" in head
        status, head, said = await ask(it, key, path=b"/v1/messages")
        assert (status, said["type"], said["error"]["type"]) == (429, "error", "rate_limit_error")
        assert b"\r\nretry-after: " in head
        assert (await get(it, key, b"/v1/models"))[0] == 200


@promise
async def test_tokens_a_day_are_those_that_answers_had_and_those_before_a_restart(tmp_path):
    async with keyed(tmp_path, tokens_per_day=1000) as (it, key):
        usage = it.gateway.figures.usage
        usage.written(day_of(time.time()), {"laptop": 800})
        assert [(await ask(it, key))[0] for _ in range(2)] == [200, 200]
        status, head, said = await ask(it, key)
        assert (status, said["error"]["code"]) == (429, "key_tokens")
        assert b"\r\nretry-after: " in head
        assert usage.tokens_on(day_of(time.time()), "laptop") == 1040
        refused = usage.since_start[UsagePlace("", "laptop", "")]
        assert (refused.requests, refused.failed) == (1, 1)


@promise
async def test_who_hangs_up_in_mid_answer_has_used_what_came(tmp_path):
    key = KeyFile(tmp_path / "keys.json").add("laptop", "inference", {"tokens_per_day": 2})
    header = f"Authorization: Bearer {key}\r\n".encode()
    events = [
        b'data: {"choices":[{"delta":{"content":%s}}]}\n\n' % each for each in (b"null", b'"a"', b'"b"')
    ]

    async def says_and_waits(place):
        await place.write(EVENTS + chunk(b": begins\n" + events[0]) + chunk(b"\n" + events[1] + events[2]))
        await waits(place)

    async with relay(says_and_waits, offers=OFFERS, keys=tmp_path / "keys.json") as it:
        async with it.client() as client:
            await client.send(post(b'{"stream": true}', more=header))
            await client.reader.readuntil(b'"b"}}]}')
        await until(lambda: it.results == ["cancelled"])
        status, _, said = await ask(it, header)
        assert (status, said["error"]["code"]) == (429, "key_tokens")
        (request, _) = it.gateway.activity.since(0)
        assert (request.result, request.output_tokens, request.partial_tokens) == ("cancelled", None, 2)


@promise
async def test_an_expired_key_is_401_and_says_so(tmp_path):
    async with keyed(tmp_path, expires="2020-01-01T00:00:00Z") as (it, key):
        status, head, said = await ask(it, key)
        assert (status, said["error"]["code"]) == (401, "key_expired")
        assert "The key laptop has expired" in said["error"]["message"]
        assert b"\r\nwww-authenticate: bearer\r\n" in head
        status, _, said = await ask(it, key, path=b"/v1/messages")
        assert (status, said["error"]["type"]) == (401, "authentication_error")
        assert (await ask(it, b""))[2]["error"]["code"] == "invalid_api_key", "a key is still asked for"


def test_a_key_expires_while_it_is_used_and_limits_change_within_a_second(tmp_path):
    from supervisor.gateway.auth.keys import Keyring

    file, now = KeyFile(tmp_path / "keys.json"), [1_798_761_598.0]
    key = file.add("laptop", "inference", {"expires": "2026-12-31T23:59:59Z"}).encode()
    ring = Keyring(file.path, clock=lambda: now[0], wall=lambda: now[0])
    assert ring.find(key).name == "laptop"
    assert not ring.expired(key)
    now[0] += 1.0
    assert ring.find(key) is None
    assert ring.expired(key) == "laptop"
    assert not ring.limits_tokens
    file.limit("laptop", {"expires": None, "tokens_per_day": 5})
    os.utime(file.path, (1, 1))  # within the resolution of a clock
    now[0] += 1.0
    assert ring.find(key).limits.tokens_per_day == 5
    assert ring.limits_tokens
