"""
What we say ourselves, in the words of the API that a client speaks.  Pure.

OpenAI's shape with the types of llama-server's ``format_error_response``; Anthropic's shape and types
(https://docs.claude.com/en/api/errors).  Both packages choose their exception by the status.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Literal

from ..http_heads import Header

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
    extra_headers: Iterable[Header] = (),
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
    said = {"type": "error", "code": trouble.code, "message": message, "param": None, "sequence_number": 0}
    return b"\n\nevent: error\ndata: %s\n\n" % _json(said | {"error": error})


def waiting_comment(text: str) -> bytes:
    """A comment of an event stream; clients pass over it, proxies see that there is life."""
    return f": {' '.join(text.split())}\n\n".encode()


def chunk(payload: bytes) -> bytes:
    """One chunk of a chunked body.  Nothing for nothing: an empty chunk would end the body."""
    return b"%x\r\n%s\r\n" % (len(payload), payload) if payload else b""


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
