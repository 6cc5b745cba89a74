"""What is below ``/supervisor/`` for the page: its files, the session, the events, and control."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from ... import __version__
from ...decoding import parse
from ...errors import NotFound
from ...server.background import beside_the_loop
from ..api.routes import READING, Trouble
from ..auth.guard import RequestContext
from ..auth.page_sessions import SESSION_SECONDS, PageSessions, is_of_another_user
from ..backends import Backends, PageOwner, progress
from ..http_heads import Head, HeaderLine, query_value
from ..listener import Listener
from ..relay.answer import LongAnswer
from ..relay.client_connection import AskedOf, ClientConnection, PlainAnswer
from ..telemetry.activity import KEPT
from .log_follow import FollowedLog
from .page_control import ControlAnswer, checked_request
from .page_feed import (
    PROMPT_SECONDS,
    SOON_SECONDS,
    TICK_SECONDS,
    FeedHost,
    PageFeed,
    PageViewer,
    number_to_resume,
)

log = logging.getLogger(__name__)

MOST_STREAMS: Final = 20
RETRY_SECONDS: Final = 5
_EVENTS: Final = b"text/event-stream"
_LINES: Final = b"application/x-ndjson"
_JSON: Final = b"application/json; charset=utf-8"
_NO_STORE: Final[HeaderLine] = (b"cache-control", b"no-store")
_TOO_MANY: Final = Trouble(
    503,
    "too_many_pages",
    f"{MOST_STREAMS} pages of this daemon are open already. Close one, then reload this page.",
    retry_seconds=RETRY_SECONDS,
)
_NO_JSON: Final = Trouble(
    403, "content_type", "The body has to be JSON, and the header Content-Type application/json."
)
_NO_SUCH_KEY: Final = Trouble(
    401,
    "invalid_api_key",
    "This key is not known here.",
    "goss-supervisor key add NAME --scope admin makes one.",
)
_NO_SUCH_CODE: Final = Trouble(
    401, "invalid_code", "This link was used already, or is older than a minute.", "goss-supervisor open"
)
_ANOTHER_USER: Final = Trouble(
    403, "another_user", "This link is for the user who runs goss-supervisor.", "goss-supervisor open"
)
_NOT_ADMIN: Final = Trouble(
    403,
    "key_scope",
    "This key has the scope inference, and the page needs the scope admin.",
    "goss-supervisor key add NAME --scope admin makes one.",
)


class PageHost(FeedHost, Protocol):
    """What the page needs of the gateway, beside what it shows of it."""

    sessions: PageSessions
    listener: Listener
    backends: Backends

    def judged(self, head: Head) -> RequestContext:
        """Who asks, and whether they may, as if the request came now."""

    def run(self, work: Coroutine[None, None, None]) -> None:
        """Do this in the background."""


class PageEndpoints:
    """Of one gateway; ``owner`` has the servers."""

    def __init__(self, host: PageHost, owner: PageOwner) -> None:
        self._host, self._owner = host, owner
        self._sessions, self._listener = host.sessions, host.listener
        self._feed = PageFeed(host, owner)
        self._boot = secrets.token_hex(4)
        self._loop = asyncio.get_running_loop()
        self._answers: set[ControlAnswer] = set()
        self._timer: asyncio.Handle | None = None
        self._due = 0.0  # of the timer: uvloop's has no ``when`` if that is now
        self._looked = 0.0

    # --- requests

    def receive(
        self, client: ClientConnection, head: Head, body: bytes, context: RequestContext
    ) -> AskedOf | None:
        """Answer this request; what it gives is one whose answer goes on."""
        path = head.path.removeprefix(self._listener.prefix)
        answer: PageAnswer
        match path.removeprefix("/supervisor/"), head.method:
            case _ if context.route.handler is None:
                self._host.run(self._send_stand_in(client, head))
                return None
            case "events", "GET":
                return self._watch(client, head, context)
            case "control", "POST":
                return self._control(client, head, body, context)
            case "session", "POST":
                answer = self._log_in(client, head, body)
            case "session", "DELETE":
                answer = self._log_out(head)
            case "session", _:
                answer = self._session(context)
            case "/supervisor", _:
                answer = (308, b"text/plain", b""), ((b"location", b"supervisor/"),)
            case name, method if method in READING:
                file = name.removeprefix("static/") if name else "index.html"
                self._host.run(self._send_file(client, head, file))
                return None
            case _:
                answer = Trouble(404, "not_found", "Nothing is served at this path by this method.")
        _reply(client, head, answer)
        return None

    async def _send_stand_in(self, client: ClientConnection, head: Head) -> None:
        """In place of llama-server's web UI; becomes that once the model is loaded."""
        answer = await static_file("asleep.html", None)
        text = progress(self._host.backends.main).replace("&", "&amp;").replace("<", "&lt;")
        text = text[0].upper() + text[1:]
        if not isinstance(answer, Trouble):
            (_, kind, body), headers = answer
            answer = (503, kind, body.replace(b"{state}", text.encode())), headers
        _reply(client, head, answer)

    async def _send_file(self, client: ClientConnection, head: Head, name: str) -> None:
        _reply(client, head, await static_file(name, head.get(b"if-none-match")))

    # --- the session

    def _session(self, context: RequestContext) -> PageAnswer:
        is_admin = context.caller.scope == "admin"
        document = {
            "admin": is_admin,
            "can_edit": may_edit(context),
            "asks_for_key": self._listener.rules.asks_for_key(self._listener.keyring),
            "version": __version__ if is_admin else "",
            "prefix": self._listener.prefix,
        }
        return (200, _JSON, json.dumps(document).encode("ascii")), (_NO_STORE,)

    def _log_in(self, client: ClientConnection, head: Head, body: bytes) -> PageAnswer:
        if not is_json(head):
            return _NO_JSON
        try:
            sent = parse(body)
        except ValueError:
            sent = {}
        key, code = sent.get("key"), sent.get("code")
        if isinstance(code, str):
            if not self._sessions.takes(_bytes_of(code)):
                return _NO_SUCH_CODE
            if is_of_another_user(client.address):
                log.warning("another user of this computer wanted the session that was begun by open")
                return _ANOTHER_USER
            return self._with_cookie(head, self._sessions.begin(), SESSION_SECONDS)
        if not isinstance(key, str):
            return Trouble(400, "no_key", "The body names no key.", '{"key": "gs-…"} does.')
        caller = self._listener.keyring.find(_bytes_of(key))
        if caller is None:
            expired = self._listener.keyring.expired(_bytes_of(key))
            return _expired(expired) if expired else _NO_SUCH_KEY
        if caller.scope != "admin":
            return _NOT_ADMIN
        return self._with_cookie(head, self._sessions.begin(_bytes_of(key)), SESSION_SECONDS)

    def _log_out(self, head: Head) -> PageAnswer:
        self._sessions.end(head)
        self._feed.check()
        return self._with_cookie(head, "", 0)

    def _with_cookie(self, head: Head, value: str, seconds: int) -> PageAnswer:
        secure = "; Secure" if self._listener.listen.tls_certificate else ""
        path = head.path.removesuffix("session")
        terms = f"HttpOnly; SameSite=Strict; Path={path}; Max-Age={seconds}{secure}"
        cookie = f"{self._sessions.cookie}={value}; {terms}"
        return (204, b"", b""), ((b"set-cookie", cookie.encode("ascii")), _NO_STORE)

    # --- control

    def _control(
        self, client: ClientConnection, head: Head, body: bytes, context: RequestContext
    ) -> AskedOf | None:
        request = checked_request(body, may_edit=may_edit(context)) if is_json(head) else _NO_JSON
        if isinstance(request, Trouble):
            _reply(client, head, request)
            return None
        answer = LongAnswer(client, head, context.headers, _LINES)
        return ControlAnswer(answer, self._owner.control(request), self._answers)

    # --- the events

    def _watch(self, client: ClientConnection, head: Head, context: RequestContext) -> AskedOf | None:
        if len(self._feed.viewers) >= MOST_STREAMS:
            _reply(client, head, _TOO_MANY)
            return None
        try:
            followed = self._follow(query_value(head.target, "log"))
        except NotFound as error:
            _reply(client, head, Trouble(404, "not_found", str(error), error.hint))
            return None
        return PageViewer(
            LongAnswer(client, head, context.headers, _EVENTS),
            self._feed,
            self._boot,
            number_to_resume(head, self._boot, self._feed.activity.count, KEPT),
            now=self._loop.time,
            stays=lambda: self._host.judged(head).trouble is None,
            soon=self.look,
            followed=followed,
        )

    def _follow(self, server: str) -> FollowedLog | None:
        """The log of this server, the one that others look at if some do.  Raises NotFound."""
        if not server:
            return None
        path = self._owner.log_of(server)
        known = (each for each in self._feed.logs if each.path == path)
        return next(known, None) or FollowedLog(server, path, run=self._host.run, soon=self.look)

    def look(self) -> None:
        """Something has changed: whoever looks hears of it soon.  Costs nothing while nobody does."""
        if self._feed.viewers:
            self._look_at(max(self._loop.time(), self._looked + PROMPT_SECONDS))

    def _look_at(self, when: float) -> None:
        if self._timer is None or when < self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._due = self._loop.call_at(when, self._look), when

    def _look(self) -> None:
        self._timer, self._looked = None, self._loop.time()
        try:
            is_behind = self._feed.look(self._looked)
        except Exception:  # the page is worth no request of a client
            log.exception("the page cannot be told what happens")
            is_behind = False
        if self._feed.viewers:
            self._look_at(self._looked + (SOON_SECONDS if is_behind else TICK_SECONDS))

    def end(self) -> None:
        """The daemon ends."""
        if self._timer is not None:
            self._timer.cancel()
        for viewer in list(self._feed.viewers):
            viewer.end()
        for answer in list(self._answers):
            answer.end()


def _expired(name: str) -> Trouble:
    how = f"goss-supervisor key set {name} --expires 30d makes it valid again."
    return Trouble(401, "key_expired", f"The key {name} has expired.", how)


def _bytes_of(secret: str) -> bytes:
    """JSON may hold half of a surrogate pair, which is in no key."""
    return secret.strip().encode(errors="replace")


def may_edit(context: RequestContext) -> bool:
    """Whether the caller has shown who it is, which nobody needs to on loopback."""
    return context.caller.scope == "admin" and bool(context.caller.name)


def is_json(head: Head) -> bool:
    """Of a body that no form of another site can send."""
    kind = (head.get(b"content-type") or b"").partition(b";")[0]
    return kind.strip().lower() == b"application/json"


def _reply(client: ClientConnection, head: Head, answer: PageAnswer) -> None:
    if isinstance(answer, Trouble):
        client.refuse(answer, keep_alive=head.persists)
    else:
        client.reply(*answer)


STATIC: Final = Path(__file__).parent / "static"
_NAME: Final = re.compile(r"(?:[a-z0-9_-]+/)*[a-z0-9_-][a-z0-9._-]*\.([a-z]+)", re.ASCII)
_LONGEST_NAME: Final = 100
_KINDS: Final = {
    "css": b"text/css; charset=utf-8",
    "html": b"text/html; charset=utf-8",
    "ico": b"image/x-icon",
    "js": b"text/javascript; charset=utf-8",
    "json": b"application/json",
    "png": b"image/png",
    "svg": b"image/svg+xml",
    "webmanifest": b"application/manifest+json",
}
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final[tuple[HeaderLine, ...]] = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Nothing of elsewhere, nothing inline, and in no frame."""
_NO_FILE: Final = Trouble(404, "not_found", "The page has no such file.")


PageAnswer = tuple[PlainAnswer, tuple[HeaderLine, ...]] | Trouble


async def static_file(name: str, known: bytes | None) -> PageAnswer:
    """The file of this name with its headers; 304 for a browser that has the one with the tag ``known``."""
    found = _NAME.fullmatch(name) if len(name) <= _LONGEST_NAME else None
    kind = _KINDS.get(found[1]) if found else None
    if kind is None:
        return _NO_FILE
    try:
        return await beside_the_loop(partial(_read, name, kind, known))
    except OSError as error:
        return Trouble(503, "unreadable", f"{name} cannot be read: {error.strerror}. Reload the page.")


def _read(name: str, kind: bytes, known: bytes | None) -> PageAnswer:
    try:
        with (STATIC / name).open("rb") as file:
            stat = os.fstat(file.fileno())
            tag = b'"%x-%x"' % (stat.st_mtime_ns, stat.st_size)
            headers = (*HEADERS, (b"cache-control", b"no-cache"), (b"etag", tag))
            if known == tag:
                return (304, b"", b""), headers
            return (200, kind, file.read()), headers
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return _NO_FILE
