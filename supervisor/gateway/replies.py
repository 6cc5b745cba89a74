"""Answers of our own to one client: a page, or what is the trouble."""

from __future__ import annotations

from http import HTTPStatus

from .api.dialects import Trouble, answer
from .head import HEAD_END, Head, Header
from .relay.client import Client
from .visit import Visit

Page = tuple[int, bytes, bytes]
"""Status, content type, body; without a type there is no body."""


def say(client: Client, head: Head, trouble: Trouble, visit: Visit) -> None:
    """In the shape of the API that the client speaks."""
    keep = head.keep_alive and head.version == "1.1"
    client.write(
        answer(
            trouble,
            visit.dialect,
            version=head.version,
            keep_alive=keep,
            extra_headers=visit.headers,
            without_body=head.method == "HEAD",
        )
    )
    client.next_request(keep_alive=keep)


def reply(client: Client, head: Head, page: Page, headers: tuple[Header, ...]) -> None:
    status, kind, body = page
    keep = head.keep_alive and head.version == "1.1"
    lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode("ascii"))]
    if kind:
        lines += [b"content-type: " + kind, b"content-length: %d" % len(body)]
    lines += [b"%s: %s" % header for header in headers]
    lines.append(b"connection: keep-alive" if keep else b"connection: close")
    client.write(b"\r\n".join(lines) + HEAD_END + (b"" if head.method == "HEAD" else body))
    client.next_request(keep_alive=keep)
