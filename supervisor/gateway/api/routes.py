"""
What a request means in the APIs that clients speak: its route, the model that it names, and how errors look.

The paths are those of llama-server b11434 (its server.cpp) and our own under ``/supervisor/``, matched
literally.  llama-server decodes ``%``-escapes before it matches, and cuts the path at a ``#``.  So a path
that is not plain needs an administrator's key, and no spelling of ``/slots`` gets around that.

OpenAI's shape has the types of llama-server's ``format_error_response``; Anthropic's has its own
(https://docs.claude.com/en/api/errors).  Both client packages choose their exception by the status.

The UI (b11434) takes the first entry as the active model and looks its details up in ``models``, another
list in the same order.  So the active profile is first in both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final, Literal
from urllib.parse import unquote

from ...plan.listen import Offer
from ...profile.definition import Effort
from ..http_heads import HeaderLine

CallerAccess = Literal["public", "inference", "admin"]
HandlerName = Literal[
    "health",  # llama-server's: 200, or 503 while the model loads
    "live",  # the daemon answers
    "ready",  # and its server does
    "models",
    "model",
    "metrics",
    "load",
    "unload",
    "method",  # 405: another method than this path of ours has
    "unknown",  # 404: nothing of ours, though under /supervisor/
]
READING: Final = frozenset(("GET", "HEAD"))


@dataclass(frozen=True, slots=True)
class Route:
    """
    ``handler`` is None for what is relayed.  ``label`` is one of a bounded set, never a client's own words.

    ``wakes`` is False for what only looks: it does not start a server that sleeps.  ``generates`` is work
    for the model: it counts for the idle time and for what may run at once.
    """

    access: CallerAccess
    handler: HandlerName | None
    dialect: Dialect
    wakes: bool
    generates: bool
    label: str


def _both(*paths: str) -> tuple[str, ...]:
    return (*paths, *(f"/v1{path}" for path in paths))


_OURS: Final[tuple[tuple[str, tuple[str, ...], HandlerName, CallerAccess], ...]] = (
    ("GET", ("/health", "/v1/health"), "health", "public"),
    ("GET", ("/supervisor/health",), "live", "public"),
    ("GET", ("/supervisor/ready",), "ready", "public"),
    ("GET", ("/models", "/v1/models"), "models", "inference"),
    ("GET", ("/metrics",), "metrics", "admin"),
    ("POST", ("/supervisor/load",), "load", "admin"),
    ("POST", ("/supervisor/unload",), "unload", "admin"),
)
_GENERATING: Final = (
    *("/completion", "/infill", "/embedding", "/v1/messages", "/v1/systemone"),
    *_both("/completions", "/chat/completions", "/responses", "/embeddings"),
    *_both("/rerank", "/reranking", "/audio/transcriptions"),
)
_SMALL: Final = (
    *("/tokenize", "/detokenize", "/apply-template", "/v1/messages/count_tokens"),
    *_both("/chat/completions/input_tokens", "/responses/input_tokens"),
    *("/v1/chat/completions/control", "/v1/stream"),  # on a request under way: must not wait behind it
)
_LOOKING: Final[tuple[tuple[str, CallerAccess], ...]] = (
    ("/props", "inference"),
    ("/lora-adapters", "inference"),
    ("/slots", "admin"),
)
_PAGES: Final = ("/", "/index.html", "/build.json", "/version.json", "/_app/version.json")
_WORKER: Final = "/sw.js"
_STREAMS: Final = "/v1/streams/lookup"
"""
These two a page of the web UI asks for by itself, as long as it is open: whether there is a newer one every
minute (its pwa.constants.ts), and which streams are under way whenever its tab is looked at.
"""

_ASSET: Final = re.compile(
    r"/(?:(?:_app|recommended-mcp)/(?:[\w-]+/)*)?[\w-][\w.-]*\.(?:js|css|svg|png|jpe?g|ico|woff2?|webmanifest)",
    re.ASCII,
)
"""Files of the web UI, which llama-server gives without a key too.  Its list differs from build to build."""
_PLAIN_V1: Final = re.compile(r"/v1(?:/\w[\w.-]*)+", re.ASCII)

_UNKNOWN: Final = Route("admin", handler=None, dialect="openai", wakes=True, generates=False, label="other")
_SLOT: Final = replace(_UNKNOWN, label="/slots/*")
_NOT_OURS: Final = replace(_UNKNOWN, handler="unknown", wakes=False, label="/supervisor/*")
_OTHER_METHOD: Final = replace(_NOT_OURS, handler="method")
_V1: Final = replace(_UNKNOWN, access="inference", label="/v1/*")
_V1_POST: Final = replace(_V1, generates=True)
_MODEL: Final = replace(_V1, handler="model", wakes=False, label="/v1/models/*")
_UI: Final = replace(_UNKNOWN, access="public", label="ui")


def _dialect(path: str) -> Dialect:
    if path.startswith("/v1/messages"):
        return "anthropic"
    return "responses" if path.startswith(("/responses", "/v1/responses")) else "openai"


def _relayed() -> dict[str, Route]:
    """By path, whatever the method: it is llama-server that says which it takes."""
    paths = (*_GENERATING, *_SMALL)
    relayed = {path: replace(_V1, dialect=_dialect(path), label=path) for path in paths}
    return relayed | {_STREAMS: replace(_V1, wakes=False, label=_STREAMS)}


def _known() -> dict[tuple[str, str], Route]:
    known = {("POST", path): replace(_RELAYED[path], generates=True) for path in _GENERATING}
    for path, access in _LOOKING:
        known["GET", path] = replace(_UNKNOWN, access=access, wakes=False, label=path)
    for path in _PAGES:
        known["GET", path] = _UI
    known["GET", _WORKER] = replace(_UI, wakes=False)
    for method, paths, handler, access in _OURS:
        for path in paths:
            known[method, path] = replace(_UNKNOWN, access=access, handler=handler, wakes=False, label=path)
    return known | {("HEAD", path): route for (method, path), route in known.items() if method == "GET"}


_RELAYED: Final = _relayed()
_KNOWN: Final = _known()
_OUR_PATHS: Final = frozenset(path for _, paths, _, _ in _OURS for path in paths)


def route_of(method: str, path: str, prefix: str = "") -> Route:
    """``path`` is without the query, not decoded; ``prefix`` is llama-server's ``--api-prefix``."""
    if prefix:
        path = _inside(path, prefix)
    return _KNOWN.get((method, path)) or _RELAYED.get(path) or _by_shape(method, path)


def _by_shape(method: str, path: str) -> Route:
    if path == "/supervisor" or path.startswith("/supervisor/"):
        return _OTHER_METHOD if path in _OUR_PATHS else _NOT_OURS
    if path.startswith("/v1/models"):
        return _MODEL if method in READING and path.startswith("/v1/models/") else _UNKNOWN
    if _PLAIN_V1.fullmatch(path):
        return _V1_POST if method == "POST" else _V1
    if path.startswith("/slots/"):
        return _SLOT
    return _UI if method in READING and ".." not in path and _ASSET.fullmatch(path) else _UNKNOWN


def _inside(path: str, prefix: str) -> str:
    """Without the prefix; our own paths may lack it.  Empty, which is nobody's, where it is missing."""
    if path.startswith(prefix + "/"):
        return path.removeprefix(prefix)
    return path if path.startswith("/supervisor/") else ""


def model_of(path: str, prefix: str = "") -> str:
    """The id in ``/v1/models/{id}``, decoded; it may hold slashes."""
    return unquote(path.removeprefix(prefix).removeprefix("/v1/models/"))


Dialect = Literal["openai", "responses", "anthropic"]

_BOTH: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    504: "timeout_error",
}
_OPENAI: Final = {**_BOTH, 501: "not_supported_error", 503: "unavailable_error"}
_ANTHROPIC: Final = {**_BOTH, 413: "request_too_large", 503: "overloaded_error", 529: "overloaded_error"}
"""Its clients try again what is overloaded."""
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a request gets no answer of a model; ``code`` is for programs (``model_not_found``)."""

    status: int
    code: str
    message: str
    hint: str = ""
    retry_seconds: int = 0  # for the client's next try; 0 says nothing of it

    @property
    def text(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


def body_of(trouble: Trouble, dialect: Dialect) -> bytes:
    """JSON, in the shape of that API."""
    if dialect == "anthropic":
        return _json(_anthropic(trouble))
    return _json({"error": _openai(trouble)})


def answer(
    trouble: Trouble,
    dialect: Dialect,
    *,
    version: str,
    keep_alive: bool,
    extra_headers: Iterable[HeaderLine] = (),
    without_body: bool = False,
) -> bytes:
    """The whole answer; ``version`` is the request's, ``without_body`` is for HEAD (RFC 9110, 9.3.2)."""
    body = body_of(trouble, dialect)
    status = f"HTTP/{version} {trouble.status} {_REASONS.get(trouble.status, '')}"
    lines = [
        status.encode("ascii"),
        b"content-type: application/json",
        b"content-length: %d" % len(body),
        b"connection: keep-alive" if keep_alive else b"connection: close",
        *(b"%s: %s" % header for header in extra_headers),
    ]
    if trouble.retry_seconds:
        lines.append(b"retry-after: %d" % trouble.retry_seconds)
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if without_body else body)


def broken_event(message: str, dialect: Dialect) -> bytes:
    """Ends a stream so that nobody takes it for whole; its first, empty line ends an event that was cut."""
    trouble = Trouble(502, "stream_broken", message)
    if dialect == "anthropic":
        return b"\n\nevent: error\ndata: %s\n\n" % _json(_anthropic(trouble))
    error = _openai(trouble)
    if dialect == "openai":
        return b"\n\ndata: %s\n\n" % _json({"error": error})
    # The reference has code and message at the top; the openai package raises for ``error`` alone.  The event
    # before had a number that is not known.
    event = {"type": "error", "code": trouble.code, "message": message, "param": None, "sequence_number": 0}
    return b"\n\nevent: error\ndata: %s\n\n" % _json(event | {"error": error})


def waiting_comment(text: str) -> bytes:
    """A comment of an event stream; clients pass over it, proxies see that there is life."""
    return f": {' '.join(text.split())}\n\n".encode()


def _openai(trouble: Trouble) -> dict[str, Any]:
    default = "invalid_request_error" if trouble.status < 500 else "server_error"
    kind = _OPENAI.get(trouble.status, default)
    return {"message": trouble.text, "type": kind, "param": None, "code": trouble.code}


def _anthropic(trouble: Trouble) -> dict[str, Any]:
    default = "invalid_request_error" if trouble.status < 500 else "api_error"
    kind = _ANTHROPIC.get(trouble.status, default)
    return {"type": "error", "error": {"type": kind, "message": trouble.text}}


def _json(value: object) -> bytes:
    """ASCII: a message may quote a path that is no UTF-8."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


ModelEntry = dict[str, Any]


def models_document(
    offers: Iterable[Offer], active: str, state: str, upstream: Mapping[str, Any] | None, started: float
) -> ModelEntry:
    """
    ``state`` is the active profile's in one word; every other is unloaded.  ``started`` is in epoch seconds.

    ``upstream`` is what llama-server says of its model (``GET /v1/models``), where it can be asked.  The id
    is the first name that no earlier offer has; an offer without one cannot be asked for, and is left out.
    """
    entries = sorted(_entries(offers, int(started)), key=lambda entry: bool(entry["profile"] != active))
    for entry in entries:
        entry["state"] = state if entry["profile"] == active else "unloaded"
    data, models = [], []
    for entry in entries:
        theirs = upstream if entry["profile"] == active else None
        data.append(_first(theirs, "data") | entry)
        models.append(_first(theirs, "models") | _for_ui(entry))
    return {"object": "list", "data": data, "models": models}


def model_document(document: Mapping[str, Any], name: str) -> ModelEntry | None:
    """The entry of ``models_document`` that has this id or alias, in any case of letters."""
    wanted = name.casefold()
    entry: ModelEntry
    for entry in document["data"]:
        if wanted in {known.casefold() for known in (entry["id"], *entry["aliases"])}:
            return entry
    return None


def _entries(offers: Iterable[Offer], created: int) -> list[ModelEntry]:
    taken: set[str] = set()
    entries: list[ModelEntry] = []
    for offer in offers:
        names = [name for name in offer.names if name.casefold() not in taken]
        taken.update(name.casefold() for name in names)
        if names:
            entries.append(
                {
                    "id": names[0],
                    "object": "model",
                    "created": created,
                    "owned_by": "goss-supervisor",
                    "aliases": names[1:],
                    "profile": offer.profile,
                    "description": offer.description,
                }
            )
    return entries


def _for_ui(entry: ModelEntry) -> ModelEntry:
    return {"name": entry["id"], "model": entry["id"], "type": "model", "description": entry["description"]}


def _first(upstream: Mapping[str, Any] | None, key: str) -> ModelEntry:
    """The first of that list; empty where there is none, or something else."""
    listed = (upstream or {}).get(key)
    first = listed[0] if isinstance(listed, list) and listed else None
    return dict(first) if isinstance(first, dict) else {}


EFFORTS: Final[dict[str, Effort]] = {"low": "low", "medium": "medium", "high": "high"}


@dataclass(frozen=True, slots=True)
class Meant:
    """``profile`` is None for whichever is active, ``effort`` for what else says it."""

    profile: str | None
    effort: Effort | None = None


_ACTIVE: Final = Meant(None)


class Names:
    """The names of all offers, in any case of letters; the first offer that has one keeps it."""

    __slots__ = ("_profiles", "_takes_unknown")

    def __init__(self, offers: Iterable[Offer], unknown: Literal["active", "reject"] = "active") -> None:
        self._profiles: dict[str, str] = {}
        self._takes_unknown = unknown == "active"
        for offer in offers:
            for name in offer.names:
                self._profiles.setdefault(name.casefold(), offer.profile)

    def meant(self, model: str | None) -> Meant | None:
        """
        ``gpt-oss-120b:high`` is a name and an effort, unless it is a name as a whole.  ``None`` is a name
        that nobody has, where such are rejected.
        """
        if not model:
            return _ACTIVE
        name = model.casefold()
        if (profile := self._profiles.get(name)) is not None:
            return Meant(profile)
        base, colon, suffix = name.rpartition(":")
        effort = EFFORTS.get(suffix) if colon else None
        profile = self._profiles.get(base) if effort else None
        return Meant(profile, effort) if profile is not None or self._takes_unknown else None
