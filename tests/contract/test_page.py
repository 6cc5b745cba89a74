"""The page over real sockets: its files, who sees what, the stream of events, and control."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from contextlib import asynccontextmanager
from dataclasses import replace
from unittest.mock import patch

import pytest

from supervisor import __version__
from supervisor.gateway.auth.keys import KeyFile
from supervisor.gateway.pages import page_feed
from supervisor.gateway.pages.page_endpoints import MOST_STREAMS, STATIC
from supervisor.server.lifecycle_table import State

from ..fakes.launching import BOUND_SECONDS, until
from ..fakes.loops import promise
from ..fakes.relay import EVENTS, HOST, Place, chunk, ok, post, relay, says, waits

pytestmark = pytest.mark.usefixtures("each_loop")

OWN = b"Origin: http://localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
TOKEN = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'


def get(path: str, more: bytes = b"", method: str = "GET") -> bytes:
    return f"{method} /supervisor{path} HTTP/1.1\r\n".encode() + HOST + more + b"\r\n"


def send(path: str, document, more: bytes = JSON) -> bytes:
    return post(json.dumps(document).encode(), f"/supervisor{path}".encode(), more)


def header(head: bytes, name: str) -> str:
    found = re.search(rf"\r\n{name}: (.*?)\r\n".encode(), head)
    return found[1].decode() if found else ""


class Stream:
    """An EventSource: the events that came, each with its kind, id and document."""

    def __init__(self, client):
        self._client = client
        self._text = b""

    async def open(self, query="", more=b""):
        await self._client.send(get(f"/events{query}", more))
        head = await self._client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert b"content-type: text/event-stream\r\n" in head
        return self

    async def next(self, kind=""):
        """The next event, of that kind if one is named; None where the stream ends."""
        async with asyncio.timeout(BOUND_SECONDS):
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

    async def ends(self):
        while await self.next() is not None:
            pass


@asynccontextmanager
async def looking(it, query="", more=b""):
    async with it.client() as client:
        yield await Stream(client).open(query, more)


@asynccontextmanager
async def guarded(tmp_path):
    """A gateway with an admin's key and one for inference, and both keys."""
    file = KeyFile(tmp_path / "keys.json")
    admin, inference = file.add("box", "admin"), file.add("laptop", "inference")
    async with relay(says(ok(b"{}")), keys=file.path) as it:
        yield it, admin, inference


def bearer(key: str) -> bytes:
    return f"Authorization: Bearer {key}\r\n".encode()


async def log_in(it, **said) -> bytes:
    """The header with the cookie of a new session."""
    async with it.client() as client:
        await client.send(send("/session", said, JSON + OWN))
        head = await client.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 204 ")
    return b"Cookie: " + re.search(rb"set-cookie: ([^;]+)", head)[1] + b"\r\n"


# --- files


@promise
async def test_the_page_is_public_and_may_load_nothing_of_elsewhere():
    async with relay(waits) as it:
        status, head, body = await it.ask(get("/"))
        assert (status, body) == (200, (STATIC / "index.html").read_bytes())
        assert header(head, "content-type") == "text/html; charset=utf-8"
        policy = header(head, "content-security-policy")
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert header(head, "x-frame-options") == "deny"
        assert header(head, "x-content-type-options") == "nosniff"
        assert header(head, "referrer-policy") == "no-referrer"
        assert header(head, "cross-origin-opener-policy") == "same-origin"
        assert header(head, "cross-origin-resource-policy") == "same-origin"


@promise
async def test_each_file_of_the_page_is_served_with_its_type():
    kinds = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "html": "text/html"}
    async with relay(waits) as it:
        for file in sorted(STATIC.iterdir()):
            status, head, body = await it.ask(get(f"/static/{file.name}"))
            assert (status, body) == (200, file.read_bytes()), file
            assert header(head, "content-type").partition(";")[0] == kinds[file.suffix[1:]]
            assert header(head, "cache-control") == "no-cache"


@promise
async def test_a_browser_that_has_a_file_gets_it_no_second_time():
    async with relay(waits) as it:
        _, head, _ = await it.ask(get("/static/index.html"))
        tag = header(head, "etag")
        status, head, body = await it.ask(get("/", f"If-None-Match: {tag}\r\n".encode()))
        assert (status, body, header(head, "etag")) == (304, b"", tag)
        assert "content-security-policy" in head.decode()
        status, _, body = await it.ask(get("/", method="HEAD"), to_head=True)
        assert (status, body) == (200, b"")


@promise
async def test_nothing_but_the_pages_files_is_served():
    paths = ["/static/", "/static/nothing.js", "/static/..%2fpage_feed.py", "/static/../page_endpoints.py"]
    async with relay(waits) as it:
        for path in [
            *paths,
            "/static/__init__.py",
            "/static//index.html",
            "/static/index.html/",
            "/static/x/y.js",
            f"/static/{'x' * 300}.js",
        ]:
            assert (await it.ask(get(path)))[0] == 404, path
        assert it.gateway.activity.count == 0


@promise
async def test_without_the_slash_it_is_the_same_page():
    async with relay(waits) as it:
        status, head, _ = await it.ask(get(""))
        assert (status, header(head, "location")) == (308, "supervisor/")


@promise
async def test_while_the_model_sleeps_our_page_stands_in_and_leads_to_the_other():
    async with relay(waits) as it:
        it.turn(State.SLEEPING)
        it.server.why = "<b>&"
        status, head, body = await it.ask(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert status == 503
        assert b"Sleeping (&lt;b>&amp;)." in body
        assert b'href="supervisor/"' in body
        assert b"<script>" not in body
        assert "script-src 'self'" in header(head, "content-security-policy")


# --- the session


@promise
async def test_on_loopback_without_keys_everybody_sees_it_and_nobody_edits():
    async with relay(waits) as it:
        _, head, body = await it.ask(get("/session"))
        assert header(head, "cache-control") == "no-store"
        assert json.loads(body) == {
            "admin": True,
            "can_edit": False,
            "asks_for_key": False,
            "version": __version__,
            "prefix": "",
        }
        cookie = await log_in(it, code=it.gateway.sessions.new_code())
        assert json.loads((await it.ask(get("/session", cookie)))[2])["can_edit"] is True


@pytest.mark.parametrize("path", ["/events", "/control"])
def test_a_stranger_and_a_key_for_inference_see_nothing(tmp_path, path):
    @promise
    async def story():
        async with guarded(tmp_path) as (it, _, inference):
            for more, status, code in ((b"", 401, "invalid_api_key"), (bearer(inference), 403, "key_scope")):
                asked = send(path, {"op": "status"}, JSON + more) if path == "/control" else get(path, more)
                found, _, body = await it.ask(asked)
                assert (found, json.loads(body)["error"]["code"]) == (status, code)
                session = json.loads((await it.ask(get("/session", more)))[2])
                assert (session["admin"], session["version"]) == (False, "")
            assert it.owner.asked == []

    story()


@promise
async def test_a_key_begins_a_session_that_no_script_reads_and_no_other_site_sends(tmp_path):
    async with guarded(tmp_path) as (it, admin, _):
        status, head, body = await it.ask(send("/session", {"key": f" {admin}\n"}, JSON + OWN))
        assert (status, body) == (204, b"")
        value, *flags = (part.strip() for part in header(head, "set-cookie").split(";"))
        assert re.fullmatch(
            r"goss_session_[0-9a-f]{8}=[a-z0-9_-]{43}", value
        )  # heads come in small letters here
        assert flags == ["httponly", "samesite=strict", "path=/supervisor/", "max-age=43200"]


@promise
async def test_the_cookie_is_for_the_pages_path_and_for_tls_where_that_is_spoken(tmp_path):
    async with guarded(tmp_path) as (it, admin, _):
        listener = it.gateway.listener
        listener.prefix, listener.listen = "/llm", replace(listener.listen, tls_certificate="c.pem")
        asked = send("/session", {"key": admin}, JSON + OWN).replace(b"POST /", b"POST /llm/")
        status, head, _ = await it.ask(asked)
        assert status == 204
        assert header(head, "set-cookie").endswith("; path=/llm/supervisor/; max-age=43200; secure")
        assert (await it.ask(get("/").replace(b"GET /", b"GET /llm/")))[0] == 200


@promise
async def test_with_a_session_the_page_sees_and_does_all(tmp_path):
    async with guarded(tmp_path) as (it, admin, _):
        cookie = await log_in(it, key=admin)
        session = json.loads((await it.ask(get("/session", cookie)))[2])
        assert (session["admin"], session["can_edit"], session["asks_for_key"]) == (True, True, True)
        async with looking(it, more=cookie) as page:
            assert (await page.next())[0] == "hello"
        assert (await it.ask(send("/control", {"op": "status"}, JSON + OWN + cookie)))[0] == 200
        assert it.owner.asked == [{"op": "status", "can_edit": True}]
        for path in (b"/metrics", b"/slots", b"/v1/models"):
            assert (await it.ask(b"GET " + path + b" HTTP/1.1\r\n" + HOST + cookie + b"\r\n"))[0] == 401


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ({"key": "gs-nobody"}, 401, "invalid_api_key"),
        ({"key": ""}, 401, "invalid_api_key"),
        ({"code": "never"}, 401, "invalid_code"),
        ({"key": "INFERENCE"}, 403, "key_scope"),
        ({"key": "EXPIRED"}, 401, "key_expired"),
        ({}, 400, "no_key"),
        ({"key": 7}, 400, "no_key"),
        ({"key": "\ud800"}, 401, "invalid_api_key"),  # half of a pair, as JSON may have it
        ({"code": "\ud800"}, 401, "invalid_code"),
        ([], 400, "no_key"),
    ],
)
def test_nothing_else_begins_a_session(tmp_path, said, status, code):
    @promise
    async def story():
        async with guarded(tmp_path) as (it, _, inference):
            old = KeyFile(tmp_path / "keys.json").add("old", "admin", {"expires": "2026-01-01T00:00:00Z"})
            keys = {"INFERENCE": inference, "EXPIRED": old}
            asked = {"key": keys[said["key"]]} if said in [{"key": name} for name in keys] else said
            found, head, body = await it.ask(send("/session", asked, JSON + OWN))
            assert (found, json.loads(body)["error"]["code"]) == (status, code)
            assert b"set-cookie" not in head
            assert inference.encode() not in body

    story()


@pytest.mark.parametrize(("path", "most"), [("/session", 64 * 1024), ("/control", 1024 * 1024)])
def test_no_body_is_longer_than_the_page_needs(path, most):
    """A stranger could fill the memory of all clients' bodies otherwise."""

    @promise
    async def story():
        async with relay(waits) as it:
            long = JSON + OWN + b"Expect: 100-continue\r\nContent-Length: %d\r\n" % (most + 1)
            status, _, body = await it.ask(get(path, long, "POST"))
            assert (status, json.loads(body)["error"]["code"]) == (413, "body_too_large")

    story()


FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"


@pytest.mark.parametrize(
    "more",
    [
        JSON,  # without an origin
        JSON + b"Sec-Fetch-Site: same-site\r\n",
        JSON + b"Origin: http://localhost:3000\r\n",
        JSON + b"Origin: http://evil.example\r\n",
        JSON + b"Origin: null\r\n",
        FORM + OWN,
        b"Content-Type: text/plain\r\n" + OWN,
        OWN,
    ],
)
def test_another_page_can_do_nothing_with_the_session(tmp_path, more):
    @promise
    async def story():
        async with guarded(tmp_path) as (it, admin, _):
            cookie = await log_in(it, key=admin)
            assert (await it.ask(send("/control", {"op": "unload"}, more + cookie)))[0] == 403
            assert it.owner.asked == []

    story()


@promise
async def test_who_logs_out_sees_nothing_more_at_once(tmp_path):
    async with guarded(tmp_path) as (it, admin, _):
        cookie = await log_in(it, key=admin)
        async with looking(it, more=cookie) as page:
            status, head, _ = await it.ask(get("/session", cookie + OWN, "DELETE"))
            assert (status, "max-age=0" in header(head, "set-cookie")) == (204, True)
            await page.ends()
        assert (await it.ask(get("/events", cookie)))[0] == 401


@promise
async def test_the_stream_of_a_key_that_is_removed_ends(tmp_path):
    with patch.object(page_feed, "CHECK_SECONDS", 0.1):
        async with guarded(tmp_path) as (it, admin, _):
            cookie = await log_in(it, key=admin)
            async with looking(it, more=cookie) as page, looking(it, more=bearer(admin)) as other:
                KeyFile(tmp_path / "keys.json").remove("box")
                await page.ends()
                await other.ends()
            assert (await it.ask(get("/events", cookie)))[0] == 401


@promise
async def test_neither_key_nor_session_is_in_what_is_kept_of_requests(tmp_path):
    async with guarded(tmp_path) as (it, admin, _):
        cookie = await log_in(it, key=admin)
        await it.ask(send("/session", {"key": "gs-wrong"}, JSON + OWN))
        await it.ask(send("/control", {"op": "status"}, JSON + cookie))
        _, _, metrics = await it.ask(b"GET /metrics HTTP/1.1\r\n" + HOST + bearer(admin) + b"\r\n")
        kept = repr(it.gateway.activity.since(0)) + metrics.decode()
        for secret in (admin, "gs-wrong", cookie.decode().partition("=")[2].strip()):
            assert secret not in kept


# --- the events


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
        await place.write(chunk(TOKEN) * 6)
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


def has_tokens(now):
    return any(each["output_tokens"] for each in now["active"])


@promise
async def test_one_that_waits_says_for_what(tmp_path):
    async with relay(waits) as it, looking(it) as page, it.client() as client:
        it.turn(State.STARTING)
        await client.send(post(b'{"stream":true}'))
        (row,) = (await page.until("active", lambda now: now["active"]))["active"]
        assert (row["phase"], row["why"], row["output_tokens"]) == ("waiting", "starting", 0)
        it.turn(State.READY)
        (row,) = (await page.until("active", lambda now: now["active"][0]["phase"] != "waiting"))["active"]
        assert (row["phase"], row["why"]) == ("prompt", "")


@promise
async def test_changes_at_once_are_told_once():
    async with relay(waits) as it, looking(it) as page:
        await page.next("status")
        for state in (State.STARTING, State.READY, State.DRAINING):
            it.owner.said, it.owner.happened = {"state": state.value}, state
            it.turn(state)
        assert (await page.next("status"))[2] == {"state": "draining"}


@promise
async def test_what_is_no_count_of_tokens_is_not_given_as_one():
    async with relay(waits) as it, looking(it) as page, it.client() as client:
        await client.send(post(b"{}"))
        (row,) = (await page.until("active", lambda now: now["active"]))["active"]
        assert (row["phase"], row["stream"], row["output_tokens"]) == ("answer", False, None)


@promise
async def test_a_browser_that_comes_back_gets_what_it_missed():
    async with relay(says(ok(b"{}"))) as it:
        for _ in range(3):
            await one_request(it)
        async with looking(it) as page:
            _, id_, _ = await page.next("requests")
        await one_request(it)
        for query, more in (("", f"Last-Event-ID: {id_}\r\n".encode()), (f"?last={id_}", b"")):
            async with looking(it, query, more) as page:
                assert (await page.next("hello"))[2]["resumed"] is True
                document = (await page.next("requests"))[2]
                assert [each["number"] for each in document["requests"]] == [4]


@promise
async def test_more_pages_than_there_may_be_are_told_so():
    async with relay(waits) as it:
        clients = [it.client() for _ in range(MOST_STREAMS)]
        opened = [await Stream(await client.__aenter__()).open() for client in clients]
        status, head, body = await it.ask(get("/events"))
        assert (status, header(head, "retry-after")) == (503, "5")
        assert "Close one" in json.loads(body)["error"]["message"]
        await clients[0].__aexit__(None, None, None)
        await until(lambda: len(it.gateway._pages._feed.viewers) < len(opened))
        async with looking(it) as page:
            assert await page.next("hello")
        for client in clients[1:]:
            await client.__aexit__(None, None, None)


def removed(file):
    """Windows refuses it in the moment in which the gateway reads the file."""
    with contextlib.suppress(PermissionError):
        file.unlink()
    return not file.exists()


@promise
async def test_the_log_of_a_server_comes_with_its_last_lines_and_goes_on(tmp_path):
    log = tmp_path / "log"
    log.write_text("".join(f"{number}\n" for number in range(700)))
    async with relay(waits) as it:
        it.owner.logs["default"] = log
        async with looking(it, "?log=default") as page:
            told = [(await page.next("log"))[2] for _ in range(3)]
            assert [(len(each["lines"]), each["reset"]) for each in told] == [
                (200, True),
                (200, False),
                (100, False),
            ]
            assert (told[0]["server"], told[0]["lines"][0], told[2]["lines"][-1]) == ("default", "200", "699")
            with log.open("a") as file:
                file.write("more\n")
            assert (await page.next("log"))[2] == {"server": "default", "lines": ["more"], "reset": False}
            await until(lambda: removed(log))
            assert (await page.next("log"))[2] == {"server": "default", "lines": [], "reset": True}
        status, _, body = await it.ask(get("/events?log=nobody"))
        assert (status, json.loads(body)["error"]["code"]) == (404, "not_found")


@promise
async def test_a_stream_ends_when_the_daemon_does():
    async with relay(waits) as it, looking(it) as page:
        await page.next("hello")
        it.gateway.begin_to_end()
        finishing = asyncio.ensure_future(it.gateway.finish())
        await page.ends()
        await finishing
        assert it.gateway.counts()[2] == 0, "no connection is left"


# --- control


@promise
async def test_the_daemons_lines_come_as_they_are_said():
    gate = asyncio.Event()

    async def control(request):
        yield {"job": 1, "again_seconds": 2}
        await gate.wait()
        yield {"job": 1, "final": True}

    async with relay(waits) as it, it.client() as client:
        it.owner.control = control
        await client.send(send("/control", {"op": "run", "command": "pull"}))
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"content-type: application/x-ndjson\r\n" in head
        assert json.loads(await line_of(client)) == {"job": 1, "again_seconds": 2}
        gate.set()
        assert json.loads(await line_of(client)) == {"job": 1, "final": True}
        assert await line_of(client) == b""
        assert (await client.ask(get("/session")))[0] == 200  # on the same connection


async def line_of(client) -> bytes:
    """The next chunk."""
    size = int(await client.reader.readuntil(b"\r\n"), 16)
    return (await client.reader.readexactly(size + 2))[:-2]


@promise
async def test_a_page_that_leaves_is_waited_for_no_longer():
    left = asyncio.Event()

    async def control(request):
        try:
            yield {}
            await asyncio.Event().wait()
        finally:
            left.set()

    async with relay(waits) as it:
        it.owner.control = control
        async with it.client() as client:
            await client.send(send("/control", {"op": "status"}))
            await client.reader.readuntil(b"{}\n")
        await left.wait()
        assert (await it.ask(get("/session")))[0] == 200, "others are served on"


@promise
async def test_a_bug_is_no_answer_that_never_comes(caplog):
    async def control(request):
        yield {}
        raise RuntimeError

    async with relay(waits) as it:
        it.owner.control = control
        _, _, body = await it.ask(send("/control", {"op": "status"}))
        assert [json.loads(line) for line in body.splitlines()][-1]["error"].startswith(
            "goss-supervisor failed"
        )


@pytest.mark.parametrize("op", ["running", "start", "hold", "stop", "requests", "watch", "nothing"])
def test_what_a_page_may_not_ask_is_refused(op):
    @promise
    async def story():
        async with relay(waits) as it:
            status, _, body = await it.ask(send("/control", {"op": op}))
            assert (status, json.loads(body)["error"]["code"]) == (403, "not_for_pages")
            assert it.owner.asked == []

    story()
