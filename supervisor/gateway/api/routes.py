"""
What a request means in the APIs that clients speak: its route, and how errors look.

The paths are those of llama-server b11434 (its server.cpp) and our own under ``/supervisor/``, matched
literally.  llama-server decodes ``%``-escapes before it matches, and cuts the path at a ``#``.  So a path
that is not plain needs an administrator's key, and no spelling of ``/slots`` gets around that.

OpenAI's shape has the types of llama-server's ``format_error_response``; Anthropic's has its own
(https://docs.claude.com/en/api/errors).  Both client packages choose their exception by the status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from http import HTTPStatus
from math import inf
from typing import Any, Final, Literal
from urllib.parse import unquote

from ...profile.definition import Role
from ..http_heads import HeaderLine, query_value

CallerAccess = Literal["public", "inference", "admin"]
HandlerName = Literal[
    "health",  # llama-server's: 200, or 503 while the model loads
    "live",  # the daemon answers
    "ready",  # and its server does
    "worker",  # what it lends
    "models",
    "model",
    "props",  # llama-server's, as last seen while it sleeps
    "metrics",
    "load",
    "unload",
    "load-model",  # these four as llama.cpp's router has them, for its web UI
    "unload-model",
    "model-events",
    "streams",
    "not-here",  # what that router does and this program does not: 501
    "page",  # in place of the web UI
    "supervisor",  # our own page: its files, sessions, events and control
    "options",  # 204
    "method",  # 405: another method than this path of ours has
    "unknown",  # 404
]
READING: Final = frozenset(("GET", "HEAD"))


@dataclass(frozen=True, slots=True)
class Route:
    """
    ``handler`` is None for what is relayed.  ``label`` is one of a bounded set, never a client's own words.

    ``wakes`` is True for what uses a model: that model is woken, loaded or switched to for it.  All else only
    goes to a server that serves; ``otherwise`` answers it while none does (None: it waits for one that is
    coming, and is 503 while it sleeps).  ``generates`` is work for the model: it counts for the idle time and
    for what may run at once.
    """

    access: CallerAccess
    handler: HandlerName | None
    dialect: Dialect
    wakes: bool
    generates: bool
    label: str
    otherwise: HandlerName | None = None
    role: Role | None = None  # of the models that it is for; None for any
    needs_role: bool = False  # no other model can answer it
    takes_session: bool = False  # a page that has logged in needs no key

    @property
    def names_model(self) -> bool:
        """Whether its body can say which model it is about."""
        return self.wakes or self.handler in {"load-model", "unload-model"}

    @property
    def most_body_bytes(self) -> float:
        """What we answer ourselves needs no more, and still less where nobody has to say who they are."""
        own = 2**20 if self.handler is not None else inf
        return 2**16 if self.access == "public" else own


def _both(*paths: str) -> tuple[str, ...]:
    return (*paths, *(f"/v1{path}" for path in paths))


_OURS: Final[tuple[tuple[str, tuple[str, ...], HandlerName, CallerAccess], ...]] = (
    ("GET", ("/health", "/v1/health"), "health", "public"),
    ("GET", ("/supervisor/health",), "live", "public"),
    ("GET", ("/supervisor/ready",), "ready", "public"),
    ("GET", ("/models", "/v1/models"), "models", "inference"),
    ("GET", ("/models/sse",), "model-events", "inference"),
    ("POST", ("/models/load",), "load-model", "admin"),
    ("POST", ("/models/unload",), "unload-model", "admin"),
    ("POST", ("/models",), "not-here", "inference"),
    ("DELETE", ("/models",), "not-here", "inference"),
    ("POST", ("/v1/streams/lookup",), "streams", "inference"),  # by each web UI whose tab is looked at
    ("GET", ("/props",), "props", "inference"),
    ("GET", ("/metrics",), "metrics", "admin"),
    ("GET", ("/supervisor/worker",), "worker", "inference"),
    ("POST", ("/supervisor/load",), "load", "admin"),
    ("POST", ("/supervisor/unload",), "unload", "admin"),
    ("GET", ("/supervisor", "/supervisor/", "/supervisor/session"), "supervisor", "public"),
    ("POST", ("/supervisor/session",), "supervisor", "public"),
    ("DELETE", ("/supervisor/session",), "supervisor", "public"),
    ("GET", ("/supervisor/events",), "supervisor", "admin"),
    ("POST", ("/supervisor/control",), "supervisor", "admin"),
)
_GENERATING: Final = (
    *("/completion", "/infill", "/embedding", "/v1/messages", "/v1/systemone"),
    *_both("/completions", "/chat/completions", "/responses", "/embeddings"),
    *_both("/rerank", "/reranking", "/audio/transcriptions"),
)
_OF_OTHER_ENGINES: Final = (
    *_both("/audio/translations", "/audio/speech"),
    *_both("/images/generations", "/images/edits", "/images/variations"),
)
"""llama-server has none of these."""
_SMALL: Final = (
    *("/tokenize", "/detokenize", "/apply-template", "/v1/messages/count_tokens"),
    *_both("/chat/completions/input_tokens", "/responses/input_tokens"),
)
WORK: Final = frozenset((*_GENERATING, *_OF_OTHER_ENGINES, "/v1/*"))
"""Labels of what is work for a model when it comes by POST; the last is any API of another version."""
OF_A_MODEL: Final = (*_GENERATING, *_OF_OTHER_ENGINES, *_SMALL)
"""All that uses a model, and all by POST.  Nothing else wakes, loads or switches."""
_OF_A_RUNNING_SERVER: Final[tuple[tuple[str, str, CallerAccess], ...]] = (
    ("POST", "/v1/chat/completions/control", "inference"),  # on a request under way: must not wait behind it
    ("GET", "/v1/stream", "inference"),
    ("DELETE", "/v1/stream", "inference"),
    ("GET", "/lora-adapters", "inference"),
    ("POST", "/lora-adapters", "admin"),
    ("POST", "/props", "admin"),
    ("GET", "/slots", "admin"),
)
_ROLES: Final[tuple[tuple[str, Role], ...]] = (
    ("/embedding", "embedding"),
    ("/rerank", "rerank"),
    ("/audio/speech", "speech"),
    ("/audio/", "transcription"),
    ("/images/", "image"),
)
_PAGES: Final = ("/", "/index.html")
_UI_DATA: Final = ("/build.json", "/version.json", "/_app/version.json")

_ASSET: Final = re.compile(
    r"/(?:(?:_app|recommended-mcp)/(?:[\w-]+/)*)?[\w-][\w.-]*\.(?:js|css|svg|png|jpe?g|ico|woff2?|webmanifest)",
    re.ASCII,
)
"""Files of the web UI, which llama-server gives without a key too.  Its list differs from build to build."""
_PLAIN_V1: Final = re.compile(r"/v1(?:/\w[\w.-]*)+", re.ASCII)
_LOOKS: Final = Route("admin", handler=None, dialect="openai", wakes=False, generates=False, label="other")
_UNKNOWN: Final = replace(_LOOKS, otherwise="unknown")
"""Of another build, or a file below ``--path``: a server that runs may know it; else it is 404."""
_NOWHERE: Final = replace(_LOOKS, handler="unknown")
_SLOT: Final = replace(_LOOKS, label="/slots/*")
_NOT_OURS: Final = replace(_NOWHERE, label="/supervisor/*")
_OTHER_METHOD: Final = replace(_NOT_OURS, handler="method")
_V1: Final = replace(_UNKNOWN, access="inference", label="/v1/*")
_V1_POST: Final = replace(_V1, generates=True)
_MODEL: Final = replace(_V1, handler="model", label="/v1/models/*")
_UI: Final = replace(_LOOKS, access="public", label="ui")
_STATIC: Final = replace(_UI, handler="supervisor", label="/supervisor/static/*")
_PAGE: Final = replace(_UI, otherwise="page")


def _dialect(path: str) -> Dialect:
    if path.startswith("/v1/messages"):
        return "anthropic"
    return "responses" if path.startswith(("/responses", "/v1/responses")) else "openai"


def _role(path: str) -> Role | None:
    path = path.removeprefix("/v1")
    return next((role for start, role in _ROLES if path.startswith(start)), None)


def _known() -> dict[tuple[str, str], Route]:
    known: dict[tuple[str, str], Route] = {}
    for path in OF_A_MODEL:
        known["POST", path] = replace(
            _LOOKS,
            access="inference",
            dialect=_dialect(path),
            wakes=True,
            generates=path not in _SMALL,
            label=path,
            role=_role(path),
            needs_role=path in _OF_OTHER_ENGINES,
        )
    for method, path, access in _OF_A_RUNNING_SERVER:
        known[method, path] = replace(_LOOKS, access=access, label=path)
    known |= {("GET", path): _PAGE for path in _PAGES} | {("GET", path): _UI for path in _UI_DATA}
    for method, paths, handler, access in _OURS:
        for path in paths:
            ours = path.startswith("/supervisor/")
            known[method, path] = replace(
                _LOOKS, access=access, handler=handler, label=path, takes_session=ours
            )
    return known | {("HEAD", path): route for (method, path), route in known.items() if method == "GET"}


def _with_other_methods() -> dict[str, Route]:
    """By path: llama-server answers 404 to those that the table does not have."""
    asked = {path: replace(_NOWHERE, label=route.label) for (_, path), route in _KNOWN.items()}
    return asked | {
        path: replace(asked[path], access="inference", dialect=_dialect(path)) for path in OF_A_MODEL
    }


_KNOWN: Final = _known()
_OTHER_METHODS: Final = _with_other_methods()
_OUR_PATHS: Final = frozenset(path for _, paths, _, _ in _OURS for path in paths)


def route_of(method: str, path: str, prefix: str = "") -> Route:
    """``path`` is without the query, not decoded; ``prefix`` is llama-server's ``--api-prefix``."""
    path = _inside(path, prefix) if prefix else path
    found = _KNOWN.get((method, path)) or _by_shape(method, path)
    return replace(found, handler="options", generates=False) if method == "OPTIONS" else found


def _by_shape(method: str, path: str) -> Route:
    if path.startswith("/supervisor/static/") and method in READING:
        return _STATIC
    if path == "/supervisor" or path.startswith("/supervisor/"):
        return _OTHER_METHOD if path in _OUR_PATHS else _NOT_OURS
    if path.startswith("/v1/models/") and method in READING:
        return _MODEL
    if path in _OTHER_METHODS:
        return _OTHER_METHODS[path]
    if path.startswith(("/v1/models", "/models/")):
        return _NOWHERE
    if _PLAIN_V1.fullmatch(path):
        return _of_tomorrow(method, path)
    if path.startswith("/slots/"):
        return _SLOT
    return _UI if method in READING and ".." not in path and _ASSET.fullmatch(path) else _UNKNOWN


def _of_tomorrow(method: str, path: str) -> Route:
    """An API that this version does not know."""
    if _dialect(path) == "anthropic":  # llama-server's 404 has not the shape of this API
        return replace(_V1, handler="unknown", dialect="anthropic")
    return _V1_POST if method == "POST" else _V1


def _inside(path: str, prefix: str) -> str:
    """Without the prefix; our own paths may lack it.  Empty, which is nobody's, where it is missing."""
    if path.startswith(prefix + "/"):
        return path.removeprefix(prefix)
    return path if path == "/supervisor" or path.startswith("/supervisor/") else ""


def model_of(path: str, prefix: str = "") -> str:
    """The id in ``/v1/models/{id}``, decoded; it may hold slashes."""
    return unquote(path.removeprefix(prefix).removeprefix("/v1/models/"))


def model_in_query(target: bytes) -> str:
    """
    ``?model=``, or the model of ``?conv_id=ID::MODEL``, as the web UI calls a conversation where there are
    several models.
    """
    return query_value(target, "model") or query_value(target, "conv_id").partition("::")[2]


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
    """
    Why a request gets no answer of a model; ``code`` is for programs (``model_not_found``).  The tokens are
    those of a prompt that is too long, and of the context.
    """

    status: int
    code: str
    message: str
    hint: str = ""
    retry_seconds: int = 0  # for the client's next try; 0 says nothing of it
    prompt_tokens: int = 0
    context_tokens: int = 0

    @property
    def text(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


def too_long(prompt_tokens: int, context_tokens: int) -> Trouble:
    """For a prompt that does not fit into the context, even by itself."""
    return Trouble(
        400,
        "context_length_exceeded",
        f"The prompt is too long: it has {prompt_tokens} tokens and exceeds the available context size, "
        f"which is {context_tokens} tokens.",
        "Shorten the conversation, or raise ctx-size in the profile.",
        prompt_tokens=prompt_tokens,
        context_tokens=context_tokens,
    )


_TOO_LONG: Final = re.compile(rb'"type": ?"exceed_context_size_error"')
_NUMBERS: Final = (re.compile(rb'"n_prompt_tokens": ?(\d{1,10})'), re.compile(rb'"n_ctx": ?(\d{1,10})'))


def too_long_in(body: bytes) -> Trouble | None:
    """The same, where llama-server says so (b11434, server_task_result_error::to_json); else None."""
    found = [number.search(body) for number in _NUMBERS] if _TOO_LONG.search(body) else [None]
    prompt, context = [int(each[1]) for each in found if each] if all(found) else (0, 0)
    return too_long(prompt, context) if context else None


def body_of(trouble: Trouble, dialect: Dialect) -> bytes:
    """JSON, in the shape of that API."""
    return _json(_anthropic(trouble) if dialect == "anthropic" else {"error": _openai(trouble)})


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
    error: dict[str, Any] = {"message": trouble.text, "type": kind, "param": None, "code": trouble.code}
    if trouble.context_tokens:  # llama-server's names, for its web UI
        error |= {"n_prompt_tokens": trouble.prompt_tokens, "n_ctx": trouble.context_tokens}
    return error


def _anthropic(trouble: Trouble) -> dict[str, Any]:
    default = "invalid_request_error" if trouble.status < 500 else "api_error"
    kind = _ANTHROPIC.get(trouble.status, default)
    message = trouble.text
    if trouble.context_tokens:  # its clients look for these words
        message = f"prompt is too long: {trouble.prompt_tokens} tokens > {trouble.context_tokens} maximum"
    return {"type": "error", "error": {"type": kind, "message": message}}


def _json(value: object) -> bytes:
    """ASCII: a message may quote a path that is no UTF-8."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")
