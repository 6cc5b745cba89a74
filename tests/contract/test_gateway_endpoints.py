"""What the gateway answers itself, in each state of a real server process, as clients and monitors see it."""

from __future__ import annotations

import itertools
import json
import re
from contextlib import asynccontextmanager
from dataclasses import replace

import psutil
import pytest

from supervisor.gateway.auth.keys import KeyFile
from supervisor.gateway.endpoints import Endpoints
from supervisor.home.places import keys_file
from supervisor.paths import Paths
from supervisor.plan.listen import Listen, Offer
from supervisor.profile.definition import GatewaySettings
from supervisor.server.lifecycle_table import State

from ..fakes.launching import free_port, until
from ..fakes.relay import HOST
from .test_gateway_listener import CHAT, client, promise

pytestmark = pytest.mark.usefixtures("each_loop")

LOADING = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'
READING = (
    "/health",
    "/v1/health",
    "/supervisor/health",
    "/supervisor/ready",
    "/models",
    "/v1/models",
    "/v1/models/p",
    "/v1/models/nobody",
    "/metrics",
    "/supervisor/nothing",
)
OFFERS = (Offer("p", ("org/model:Q4_K_M", "p"), "the one"), Offer("other", ("other", "o"), "another"))


def request(method, path, more=b""):
    return f"{method} {path} HTTP/1.1\r\n".encode() + HOST + more + b"\r\n"


async def ask(someone, path, method="GET", more=b""):
    """Status and document, or text where it is no JSON."""
    status, head, body = await someone.ask(request(method, path, more), to_head=method == "HEAD")
    return status, json.loads(body) if b"application/json" in head and body else body


def listen(**settings):
    return Listen("p", "127.0.0.1", free_port(), GatewaySettings(**settings), OFFERS)


@asynccontextmanager
async def serving(it, **more):
    """A client at the address of a server that is up."""
    asked = it.through("p", listen=listen(), **more)
    assert (await it.run(asked)).result == "ready"
    async with client(asked.port) as someone:
        yield someone


@asynccontextmanager
async def loading(it):
    """A client, and the gate behind which the server loads."""
    gate = it.tmp_path / "loaded"
    asked = it.through("p", listen=listen(), load_gate=gate)
    starting = await it.gateway.launch(asked.plan, asked.listen)
    await it.until(lambda: it.server.state is State.STARTING)
    async with client(asked.port) as someone:
        yield someone, gate
    gate.touch()
    await starting


# --- health


@promise
async def test_while_it_loads_health_is_llama_servers_own_words(it):
    async with loading(it) as (someone, gate):
        for path in ("/health", "/v1/health"):
            status, head, body = await someone.ask(request("GET", path))
            assert (status, body) == (503, LOADING)
            assert b"content-type: application/json; charset=utf-8\r\n" in head
        own = it.gateway.gateway.peers.id
        assert await ask(someone, "/supervisor/health") == (200, {"status": "ok", "state": "starting"})
        assert await ask(someone, "/supervisor/ready") == (503, {"state": "starting", "why": "", "id": own})
        gate.touch()
        await it.until(lambda: it.server.state is State.READY)
        assert await ask(someone, "/health") == (200, {"status": "ok"})
        assert await ask(someone, "/supervisor/ready") == (200, {"state": "ready", "why": "", "id": own})


@promise
async def test_a_sleeper_is_healthy_and_nothing_that_looks_wakes_it(it):
    async with serving(it) as someone:
        await it.server.sleep()
        for path in (*READING, "/slots", "/props"):
            await ask(someone, path)
        assert await ask(someone, "/health") == (200, {"status": "ok"})
        assert (await ask(someone, "/supervisor/ready"))[0] == 200
        assert (await ask(someone, "/supervisor/health"))[1]["state"] == "sleeping"
        assert (it.server.state, it.launches) == (State.SLEEPING, 1)


@promise
async def test_a_server_that_has_failed_is_told_with_why_and_what_to_do(it):
    gate = it.tmp_path / "model.gguf"
    gate.write_bytes(b"GGUF")
    asked = it.through("p", listen=listen())
    asked = replace(asked, plan=replace(asked.plan, model_files=(str(gate),)))
    await it.run(asked)
    gate.unlink()
    psutil.Process(it.server.child.identity.pid).kill()
    await it.until(lambda: it.server.state is State.FAILED)
    async with client(asked.port) as someone:
        status, said = await ask(someone, "/health")
        assert (status, said["error"]["code"]) == (503, "server_down")
        assert "model.gguf does not exist" in said["error"]["message"]
        assert "Correct model in the profile" in said["error"]["message"]
        assert (await ask(someone, "/supervisor/ready"))[0] == 503
        assert await ask(someone, "/supervisor/health") == (200, {"status": "ok", "state": "failed"})
        status, said = await ask(someone, "/v1/models")
        assert (status, said["data"][0]["state"]) == (200, "failed")


@promise
async def test_while_requests_end_before_a_switch_it_is_not_ready(it):
    gate = it.tmp_path / "gate"
    first = it.through("p", listen=listen(), chat_gate=gate)
    await it.run(first)
    async with client(first.port) as busy, client(first.port) as someone:
        await busy.send(CHAT)
        await until(lambda: it.gateway.under_way("default") == 1)
        unloading = it.server.sleep()
        await it.until(lambda: it.server.state is State.DRAINING)
        assert (await someone.ask(request("GET", "/health")))[::2] == (503, LOADING)
        assert (await ask(someone, "/supervisor/ready"))[1]["state"] == "draining"
        gate.touch()
        assert (await busy.answer())[0] == 200
        await unloading


# --- models


def states(document):
    return {entry["id"]: entry["state"] for entry in document["data"]}


@promise
async def test_the_models_are_those_on_offer_each_with_its_state(it):
    async with loading(it) as (someone, gate):
        seen = []
        for step in (lambda: None, gate.touch, it.server.sleep):
            step()
            wanted = (State.STARTING, State.READY, State.SLEEPING)[len(seen)]
            await it.until(lambda wanted=wanted: it.server.state is wanted)
            for path in ("/models", "/v1/models"):
                status, document = await ask(someone, path)
                assert status == 200
                assert [entry["name"] for entry in document["models"]] == ["org/model:Q4_K_M", "other"]
            seen.append(states(document))
        assert [each["org/model:Q4_K_M"] for each in seen] == ["starting", "ready", "sleeping"]
        assert {each["other"] for each in seen} == {"unloaded"}
        assert (document["data"][0]["aliases"], document["data"][0]["owned_by"]) == (["p"], "goss-supervisor")


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("org/model:Q4_K_M", "org/model:Q4_K_M"),
        ("org%2Fmodel%3AQ4_K_M", "org/model:Q4_K_M"),
        ("ORG/Model:q4_k_m", "org/model:Q4_K_M"),
        ("p", "org/model:Q4_K_M"),
        ("o?x=1", "other"),
    ],
)
def test_one_model_is_found_by_any_of_its_names(tmp_path, named, found):
    @promise
    async def story(it):
        async with serving(it) as someone:
            status, entry = await ask(someone, f"/v1/models/{named}")
            assert (status, entry["id"], entry["object"]) == (200, found, "model")

    story(tmp_path)


@promise
async def test_a_model_that_is_not_on_offer_is_404_with_where_to_look(it):
    async with serving(it) as someone:
        for named in ("nobody", "org", "org/model:Q4_K_M/x", "%00%ff", "x" * 500):
            status, said = await ask(someone, f"/v1/models/{named}")
            assert (status, said["error"]["code"]) == (404, "model_not_found")
            assert "/v1/models" in said["error"]["message"]
            assert len(said["error"]["message"]) < 500


# --- metrics


@promise
async def test_metrics_are_ours_and_while_it_serves_llama_servers_too(it):
    async with serving(it) as someone:
        await someone.ask(CHAT)
        status, head, text = await someone.ask(request("GET", "/metrics"))
        assert (status, b"content-type: text/plain; version=0.0.4" in head) == (200, True)
        assert b'goss_supervisor_server_state{server="default",state="ready"} 1.0' in text
        assert b"llamacpp:tokens_predicted_total" in text
        assert re.search(rb'goss_supervisor_device_memory_used_bytes{device="RAM",name=""} [1-9]', text)
        await it.server.sleep()
        _, text = await ask(someone, "/metrics")
        assert b'goss_supervisor_server_state{server="default",state="sleeping"} 1.0' in text
        assert b"llamacpp:" not in text
        assert b'goss_supervisor_upstream_metrics_up{server="default"} 0.0' in text


# --- load and unload


@promise
async def test_unload_and_load_are_begun_and_said_so(it):
    async with serving(it) as someone:
        assert (await ask(someone, "/supervisor/load", "POST")) == (200, {"state": "ready"})
        for _ in range(2):
            assert (await ask(someone, "/supervisor/unload", "POST"))[0] == 202
            await it.until(lambda: it.server.state is State.SLEEPING)
        for _ in range(3):
            assert (await ask(someone, "/supervisor/load", "POST"))[0] == 202
        await it.until(lambda: it.server.state is State.READY)
        assert (await ask(someone, "/supervisor/load", "POST", b"Content-Length: 0\r\n"))[0] == 200
        assert it.launches == 2


@promise
async def test_who_may_ask_what_is_a_matter_of_the_key(it):
    keys = KeyFile(keys_file(Paths.under(it.tmp_path)))
    keys.path.parent.mkdir()
    inference, admin = keys.add("app", "inference"), keys.add("boss", "admin")
    expected = {
        ("GET", "/health"): (200, 200, 200),
        ("GET", "/supervisor/health"): (200, 200, 200),
        ("GET", "/supervisor/ready"): (200, 200, 200),
        ("GET", "/v1/models"): (401, 200, 200),
        ("GET", "/v1/models/p"): (401, 200, 200),
        ("GET", "/metrics"): (401, 403, 200),
        ("POST", "/supervisor/load"): (401, 403, 200),
        ("GET", "/supervisor/nothing"): (401, 403, 404),
        ("POST", "/supervisor/unload"): (401, 403, 202),
    }
    callers = (b"", *(f"Authorization: Bearer {key}\r\n".encode() for key in (inference, admin)))
    asked = it.through("p", listen=listen())
    await it.run(asked)
    for ((method, path), allowed), (place, caller) in itertools.product(expected.items(), enumerate(callers)):
        async with client(asked.port) as someone:
            status, said = await ask(someone, path, method, caller)
        assert (path, status) == (path, allowed[place])
        assert inference not in str(said)
        assert admin not in str(said)


# --- what is not there


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/supervisor/static/nothing.js", 404),
        ("GET", "/supervisor/static/../page_feed.py", 404),
        ("POST", "/supervisor/", 405),
        ("POST", "/supervisor/nothing", 404),
        ("GET", "/supervisor/load/", 404),
        ("GET", "/supervisor/load", 405),
        ("DELETE", "/supervisor/unload", 405),
        ("POST", "/supervisor/health", 405),
        ("PUT", "/supervisor/ready", 405),
    ],
)
def test_under_supervisor_nothing_is_ever_llama_servers(tmp_path, method, path, status):
    @promise
    async def story(it):
        async with serving(it) as someone:
            found, said = await ask(someone, path, method)
            assert (found, said["error"]["message"] != "") == (status, True)
            assert it.gateway.activity.count == 0
            assert (await ask(someone, "/health"))[0] == 200

    story(tmp_path)


# --- the connection


@promise
async def test_each_answer_leaves_the_connection_as_it_was_and_head_is_get_without_its_body(it):
    async with serving(it) as someone:
        for path in READING:
            status, _, body = await someone.ask(request("GET", path))
            same, head, _ = await someone.ask(request("HEAD", path), to_head=True)
            assert (path, same) == (path, status)
            assert b"connection: keep-alive" in head
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
            assert abs(length - len(body)) < 200 if path == "/metrics" else length == len(body)
        await someone.send(*(request("GET", path) for path in READING))  # and one after the other, at once
        assert [(await someone.answer())[0] for _ in READING].count(200) == 8


@promise
async def test_who_wants_the_connection_closed_gets_it_closed(it):
    async with serving(it) as someone:
        _, head, _ = await someone.ask(request("GET", "/health", b"Connection: close\r\n"))
        assert b"connection: close" in head
        assert await someone.rest() == b""


@promise
async def test_a_prefix_of_llama_server_is_theirs_and_ours_alike(it):
    asked = it.through("p", listen=listen())
    plan = replace(asked.plan, api_prefix="/llm", argv=(*asked.plan.argv, "--api-prefix", "/llm"))
    asked = replace(asked, plan=plan)
    await it.run(asked)
    async with client(asked.port) as someone:
        for path, status in (
            ("/llm/health", 200),
            ("/llm/v1/models/org/model:Q4_K_M", 200),
            ("/llm/metrics", 200),
            ("/llm/supervisor/ready", 200),
            ("/supervisor/ready", 200),
        ):
            assert (path, (await ask(someone, path))[0]) == (path, status)


def test_a_fault_of_ours_is_an_error_and_no_silence(tmp_path, monkeypatch):
    async def fails(*_, **__):
        raise ZeroDivisionError

    @promise
    async def story(it):
        async with serving(it) as someone:
            with monkeypatch.context() as patched:
                patched.setattr(Endpoints, "answer", fails)
                status, said = await ask(someone, "/health")
            assert (status, said["error"]["code"]) == (500, "internal_error")
            assert (await ask(someone, "/health"))[0] == 200

    story(tmp_path)
