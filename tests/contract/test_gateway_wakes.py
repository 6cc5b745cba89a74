"""Only what uses a model wakes, loads or switches; everything else is answered without it."""

from __future__ import annotations

import json

import pytest
from urllib3.filepost import encode_multipart_formdata

from supervisor.plan.listen import Offer
from supervisor.profile.definition import GatewaySettings
from supervisor.server.lifecycle_table import State

from ..fakes.launching import until
from ..fakes.loops import promise
from ..fakes.relay import GET, HOST, behind, ok, post, relay, says

pytestmark = pytest.mark.usefixtures("each_loop")

HELLO = says(ok(b"hello"))
OTHER = b'{"model":"q"}'
USES = (
    *("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses", "/v1/embeddings"),
    *("/v1/rerank", "/v1/audio/transcriptions", "/completion", "/infill", "/tokenize", "/apply-template"),
    *("/v1/messages/count_tokens", "/v1/chat/completions/input_tokens"),
)
NOT_FOUND = (
    *(("POST", path) for path in ("/nosuch", "/v1/nosuch", "/api/chat", "/api/show", "/models/x", "/")),
    *(("GET", path) for path in ("/robots.txt", "/api/tags", "/v1/chat/completions", "/v1/nosuch/7")),
    *(("DELETE", path) for path in ("/models/x", "/v1/models/x", "/v1/chat/completions")),
    *(("HEAD", path) for path in ("/v1/chat/completions", "/nosuch")),
    ("PUT", "/v1/messages"),
    ("POST", "/v1/messages/batches"),
)
ASLEEP = (
    *(("GET", path) for path in ("/", "/index.html", "/favicon.ico", "/bundle.js", "/sw.js", "/build.json")),
    *(("GET", path) for path in ("/slots", "/lora-adapters", "/v1/stream")),
    *(("POST", path) for path in ("/props", "/lora-adapters", "/slots/0")),
    ("POST", "/v1/chat/completions/control"),
    ("HEAD", "/"),
)
ANSWERED = (
    *(("GET", path) for path in ("/props", "/v1/models", "/health")),
    *(("HEAD", path) for path in ("/props", "/models/sse")),
    ("POST", "/v1/streams/lookup"),
)
REFUSED = (("POST", "/models/unload", 400), ("POST", "/models", 501), ("DELETE", "/models", 501))
OPTIONS = tuple(("OPTIONS", path) for path in ("/", "*", "/v1/chat/completions", "/nosuch"))


def request(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\n".encode() + HOST
    return head + (b"Content-Length: %d\r\n\r\n" % len(body) + body if body else b"\r\n")


def is_anthropic(path: str) -> bool:
    return path.startswith("/v1/messages")


# --- asleep


@pytest.mark.parametrize("path", USES)
@promise
async def test_what_uses_a_model_wakes_it(path):
    async with relay(HELLO) as it, it.client() as client:
        it.turn(State.SLEEPING)
        await client.send(post(path=path.encode()))
        await until(lambda: it.owner.loads == ["p"])
        it.turn(State.READY)
        assert (await client.answer())[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        *((*each, 404) for each in NOT_FOUND),
        *((*each, 503) for each in ASLEEP),
        *((*each, 200) for each in ANSWERED),
        *REFUSED,
        *((*each, 204) for each in OPTIONS),
    ],
)
@pytest.mark.parametrize("body", [b"", OTHER])
@promise
async def test_nothing_else_wakes_or_switches(method, path, expected, body):
    async with relay(HELLO) as it:
        it.turn(State.SLEEPING)
        status, head, said = await it.ask(request(method, path, body), to_head=method == "HEAD")
        assert (status, it.server.calls, it.owner.loads) == (expected, [], [])
        assert it.upstream.requests == []
        if status >= 400 and b"application/json" in head and method != "HEAD":
            document = json.loads(said)
            assert ("type" in document) == is_anthropic(path)
            assert document["error"]["message"]


@promise
async def test_what_was_not_found_is_listed_as_refused():
    async with relay(HELLO) as it:
        it.turn(State.SLEEPING)
        await it.ask(request("POST", "/nosuch", OTHER))
        (seen,) = it.gateway.activity.since(0)
        assert (seen.status, seen.result, seen.endpoint) == (404, "refused", "other")


# --- awake


@pytest.mark.parametrize(("method", "path"), [*NOT_FOUND, *ASLEEP])
@promise
async def test_a_request_that_uses_no_model_switches_to_none(method, path):
    async with relay(HELLO, settings=GatewaySettings(min_warm_seconds=0.0)) as it:
        await it.ask(request(method, path, OTHER), to_head=method == "HEAD")
        await it.ask(request(method, path, b'{"model":"nobody"}'), to_head=method == "HEAD")
        assert it.owner.loads == []


@pytest.mark.parametrize("path", USES)
@promise
async def test_a_request_that_uses_another_model_does(path):
    async with relay(HELLO, settings=GatewaySettings(min_warm_seconds=0.0)) as it, it.client() as client:
        await client.send(post(OTHER, path.encode()))
        await until(lambda: it.owner.loads)
        assert (it.owner.loads, it.upstream.requests) == (["q"], [])


@promise
async def test_a_form_with_audio_names_its_model_too():
    form, kind = encode_multipart_formdata({"file": ("a.wav", b"RIFF" * 9999, "audio/wav"), "model": "q"})
    sent = post(form, b"/v1/audio/transcriptions", b"Content-Type: " + kind.encode() + b"\r\n")
    async with relay(HELLO, settings=GatewaySettings(min_warm_seconds=0.0)) as it, it.client() as client:
        await client.send(sent)
        await until(lambda: it.owner.loads == ["q"])
        it.turn(State.READY, profile="q")
        assert (await client.answer())[0] == 200
        assert it.upstream.requests[0].endswith(form)
        assert [each.model for each in it.gateway.activity.since(0)] == ["q"]
    async with relay(HELLO, settings=GatewaySettings(unknown_model="reject")) as it:
        assert (await it.ask(sent.replace(b"\r\n\r\nq\r\n", b"\r\n\r\nz\r\n")))[0] == 404


@promise
async def test_what_this_version_does_not_know_is_asked_of_a_server_that_runs():
    async with relay(HELLO, settings=GatewaySettings(unknown_model="reject")) as it:
        for path in ("/v1/moderations", "/predict", "/a/file/below/path.txt"):
            assert (await it.ask(request("POST", path, b'{"model":"nobody"}')))[::2] == (200, b"hello")


@promise
async def test_what_this_version_does_not_know_does_not_wait_for_one():
    async with relay(HELLO) as it:
        for state in (State.STARTING, State.BACKOFF, State.DRAINING, State.FAILED):
            it.turn(state)
            assert (await it.ask(request("POST", "/nosuch", OTHER)))[0] == 404


@promise
async def test_a_page_is_shown_while_the_web_ui_cannot_be():
    async with relay(HELLO) as it:
        for state in (State.SLEEPING, State.STARTING, State.FAILED):
            it.turn(state)
            status, head, page = await it.ask(request("GET", "/"))
            assert (status, b"text/html" in head) == (503, True)
            assert f'<p id="state" role="status">{state.value.capitalize()}' in page.decode()
            assert b"supervisor/static/asleep.js" in page, "which has the button"
        it.server.why = "<script> is missing"
        assert b"&lt;script> is missing" in (await it.ask(request("GET", "/")))[2]
        it.turn(State.READY)
        assert (await it.ask(request("GET", "/")))[2] == b"hello"


# --- roles

CHAT_AND_MORE = {"p": ("chat",), "q": ("embedding",), "hears": ("transcription",)}
AT_ONCE = GatewaySettings(min_warm_seconds=0.0)


@pytest.mark.parametrize(
    ("path", "profile"),
    [("/v1/embeddings", "q"), ("/embedding", "q"), ("/v1/audio/transcriptions", "hears")],
)
@pytest.mark.parametrize("body", [b"{}", b'{"model":"text-embedding-3-small"}'])
@promise
async def test_a_request_without_a_known_model_goes_to_the_one_of_its_role(path, profile, body):
    async with relay(HELLO, settings=AT_ONCE, roles=CHAT_AND_MORE) as it, it.client() as client:
        await client.send(post(body, path.encode()))
        await until(lambda: it.owner.loads == [profile])
        it.turn(State.READY, profile=profile)
        assert (await client.answer())[0] == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", b'{"model":"p"}'),
        ("/v1/rerank", b"{}"),
        ("/v1/rerank", OTHER),
        ("/v1/audio/speech", b"{}"),
        ("/v1/images/generations", OTHER),
        ("/v1/audio/translations", b'{"model":"p"}'),
    ],
)
@promise
async def test_a_model_that_cannot_answer_is_neither_woken_nor_switched_to(path, body):
    async with relay(HELLO, settings=AT_ONCE, roles=CHAT_AND_MORE) as it:
        it.turn(State.SLEEPING)
        status, _, said = await it.ask(post(body, path.encode()))
        assert (status, json.loads(said)["error"]["code"]) == (404, "model_not_found")
        assert (it.server.calls, it.owner.loads, it.upstream.requests) == ([], [], [])
        (seen,) = it.gateway.activity.since(0)
        assert (seen.status, seen.result) == (404, "refused")


@promise
async def test_a_model_that_runs_says_itself_that_it_cannot_answer():
    no = says(ok(b"{}", status=b"501 Not Implemented"))
    async with relay(no, settings=AT_ONCE, roles={"p": ("chat",)}) as it:
        for path in (b"/v1/embeddings", b"/v1/audio/speech"):
            assert (await it.ask(post(b"{}", path)))[0] == 501


@promise
async def test_the_answer_with_embeddings_can_only_repeat_the_models_own_name():
    async with relay(HELLO, roles={"p": ("embedding",)}) as it:
        await it.ask(post(b'{"model":"text-embedding-3-small"}', b"/v1/embeddings"))
        assert it.upstream.requests[0].endswith(b'{"model":"p"}')


@promise
async def test_without_switching_on_request_the_running_one_says_it():
    fixed = GatewaySettings(switch_on_request=False, min_warm_seconds=0.0)
    async with relay(HELLO, settings=fixed, roles=CHAT_AND_MORE) as it:
        assert (await it.ask(post(b"{}", b"/v1/embeddings")))[0] == 200
        assert it.owner.loads == []


@promise
async def test_the_list_has_role_and_context():
    models = says(ok(json.dumps({"data": [{"id": "x", "meta": {"n_ctx": 2048}}]}).encode()))
    async with relay(models, roles=CHAT_AND_MORE) as it:
        for state in (State.READY, State.SLEEPING):
            it.turn(state)
            listed = json.loads((await it.ask(request("GET", "/v1/models")))[2])["data"]
            assert [(each["id"], each["role"], each["context"]) for each in listed] == [
                ("p", "chat", 2048),
                ("q", "embedding", None),
                ("hears", "transcription", None),
            ]


# --- properties

PROPS = {
    "default_generation_settings": {"params": {"seed": 1}, "n_ctx": 2048},
    "model_alias": "/home/me/models/x.gguf",
    "model_path": "/home/me/models/x.gguf",
    "chat_template": "{{ x }}",
    "is_sleeping": False,
}


ALONE = (Offer("p", ("p",)),)


def props_are(**changed):
    return says(ok(json.dumps(PROPS | changed).encode()))


async def props(it, status=200):
    found, _, said = await it.ask(request("GET", "/props"))
    assert found == status, said
    return json.loads(said)


@promise
async def test_properties_name_the_model_as_the_list_does_and_no_path_of_the_disk():
    async with relay(props_are(), offers=ALONE) as it:
        assert await props(it) == PROPS | {"model_alias": "p", "model_path": "p"}


@promise
async def test_while_it_sleeps_its_properties_are_those_that_were_seen_last():
    async with relay(props_are(), props_are(chat_template="new"), offers=ALONE) as it:
        await props(it)
        awake = await props(it)
        it.turn(State.SLEEPING)
        assert await props(it) == awake | {"is_sleeping": True}
        it.turn(State.STARTING)
        assert (await props(it, 503))["error"]["message"] == "Loading model"
        assert it.server.calls == []


@promise
async def test_of_a_model_that_was_never_seen_the_web_ui_gets_what_it_cannot_do_without():
    async with relay(props_are()) as it:
        it.turn(State.SLEEPING, profile="q")
        seen = await props(it)
        assert (seen["model_alias"], seen["model_path"], seen["is_sleeping"]) == ("q", "q", True)
        assert seen["default_generation_settings"] == {"params": {}, "n_ctx": 0}
        assert seen.keys() >= {"total_slots", "modalities", "chat_template", "bos_token", "eos_token"}


@promise
async def test_the_context_that_it_had_is_told_where_it_is_known():
    models = says(ok(json.dumps({"data": [{"meta": {"n_ctx": 2048}}]}).encode()))
    async with relay(models) as it:
        await it.ask(request("GET", "/v1/models"))
        it.turn(State.SLEEPING)
        assert (await props(it))["default_generation_settings"] == {"params": {}, "n_ctx": 2048}


@promise
async def test_a_server_that_does_not_tell_its_properties_is_no_fault():
    async with relay(says(ok(b"[]")), says(ok(b"no json")), props_are()) as it, it.client() as client:
        for _ in range(2):
            assert (await props(it))["model_alias"] == "p"
        assert (await props(it))["chat_template"] == "{{ x }}"
        assert (await client.ask(GET))[0] == 200


@pytest.mark.parametrize("what", ["load", "unload"])
@promise
async def test_a_model_that_nobody_has_is_neither_loaded_nor_unloaded(what):
    async with relay(HELLO) as it:
        status, _, said = await it.ask(request("POST", f"/supervisor/{what}?model=typing-error"))
        assert (status, json.loads(said)["error"]["code"]) == (404, "model_not_found")
        assert (it.server.calls, it.owner.loads) == ([], [])


@promise
async def test_without_loads_on_request_a_model_that_a_person_loaded_answers_to_its_name():
    settings = GatewaySettings(switch_on_request=False)
    async with relay(HELLO, settings=settings) as it, behind(it, "q", says(ok(b"q's"))) as second:
        assert (await it.ask(post(OTHER)))[::2] == (200, b"q's")
        second.state = State.SLEEPING
        it.gateway.changed(second)
        assert (await it.ask(post(OTHER)))[::2] == (200, b"hello")
        assert it.owner.loads == []
