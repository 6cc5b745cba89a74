"""
A client of GitHub's API that caches each answer with its ETag, one file per address.

When GitHub cannot be reached or limits us, the cached answer is used, with a note of its date.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...download.network import DEFAULT_RETRY, Page, RetryPolicy, Unreachable, again_at, page
from ...errors import NetworkError, NotFound, SupervisorError
from ...files import SHARED, read_json, write_json
from .github import PORTAL, GitHubAccess

MOST_BYTES = 32 << 20  # a page of 30 releases is 2 MB; what is longer than this is no answer of GitHub's
_API = {
    "Accept": "application/vnd.github+json",
    "Accept-Encoding": "gzip",
    "X-GitHub-Api-Version": "2022-11-28",
}
_WITHOUT_A_TOKEN = 60  # requests an hour and address: docs.github.com, "Rate limits for the REST API"
_OFFLINE = "What is installed goes on working. If a proxy or a mirror is needed: engine.proxy, engine.mirror."
_LIMITED = "Set GITHUB_TOKEN to a token of yours (it needs no rights), or use the build that comes pinned."


@dataclass(frozen=True, slots=True)
class GitHubAnswer:
    """``note`` says why it is an old one; "" for a fresh one."""

    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class GitHubClient:
    """
    Asks, tries once more where that may help, and keeps the answers.

    What is kept is asked for again with its ETag; where the network fails or the limit is reached it is
    used as it is, with a note.  Raises NotFound and NetworkError.
    """

    access: GitHubAccess
    answers: Answers
    retry: RetryPolicy = DEFAULT_RETRY

    def api(self, path: str) -> tuple[Any, str]:
        """The JSON at a path below the repository, and the note."""
        answer = self._get(self.access.api_url(path), _API, self.access.api_token, _must_be_json)
        return json.loads(answer.text), answer.note

    def download(self, url: str) -> GitHubAnswer:
        """A short text from the download host, to which no token goes."""
        return self._get(url, {}, "", _must_be_text)

    def _get(
        self, url: str, headers: dict[str, str], token: str, must: Callable[[Page], None]
    ) -> GitHubAnswer:
        kept = self.answers.get(url)
        unless = {"If-None-Match": kept.etag} if kept and kept.etag else {}
        try:
            reply = self._ask(url, {**headers, **unless}, token)
            if reply.status == 304 and kept:
                self.answers.still_holds(url)
                return GitHubAnswer(kept.body)
            check(reply, has_token=bool(token), limited=self._limited)
            must(reply)
        except NetworkError as error:
            if kept is None:
                raise
            return GitHubAnswer(kept.body, f"{str(error).rstrip('.')}; using what it said on {kept.when}")
        text = reply.body.decode("utf-8")
        self.answers.put(url, reply.headers.get("etag", ""), text)
        return GitHubAnswer(text)

    @property
    def _limited(self) -> str:
        """What helps where GitHub allows no more."""
        if self.access.token and not self.access.api_token:
            sent = f"Your token was not sent: {self.access.api} is not encrypted."
            return f"{sent} Use the build that comes pinned, or an https address."
        return _LIMITED

    def _ask(self, url: str, headers: dict[str, str], token: str) -> Page:
        try:
            proxy = self.access.proxy
            reply = page(url, headers, MOST_BYTES, proxy=proxy, retry=self.retry, token=token)
        except Unreachable as failure:
            text = f"GitHub cannot be reached: {str(failure).rstrip('.')}."
            raise NetworkError(text, hint=failure.hint or _OFFLINE) from failure
        if reply.status >= 500:
            raise broken(reply)
        return reply


def _must_be_json(reply: Page) -> None:
    try:
        json.loads(reply.body)
    except ValueError:
        raise _other(reply, ", not with the JSON of GitHub") from None


def _must_be_text(reply: Page) -> None:
    text = reply.body.decode("utf-8", "replace")
    if not text.strip() or "<" in text or "\ufffd" in text:
        raise _other(reply)


def check(reply: Page, *, has_token: bool, limited: str = _LIMITED) -> None:
    """Raises NotFound and NetworkError for what is not a 200; ``limited`` is what helps against a limit."""
    if reply.status == 200:
        return
    if reply.status == 404:
        raise NotFound(f"{shown(reply.asked)} does not exist.")
    if _is_limit(reply):
        raise _limit(reply, has_token=has_token, hint=limited)
    if reply.status == 401 and has_token:
        raise NetworkError(
            "GitHub does not accept the token in GITHUB_TOKEN.", hint="Renew it or unset it: it may be empty."
        )
    raise broken(reply)


def broken(reply: Page) -> NetworkError:
    because = f" ({message})" if (message := _message(reply.body)) else ""
    return NetworkError(f"{shown(reply.url)} answered {reply.status}{because}.", hint=_OFFLINE)


def _other(reply: Page, expected: str = "") -> NetworkError:
    """For a 200 that is something else: most often the login page of a network."""
    return NetworkError(f"{shown(reply.asked)} answered with {_looks_like(reply)}{expected}.", hint=PORTAL)


def shown(url: str) -> str:
    """Without what may be secret: a password before the host, a query."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def _is_limit(reply: Page) -> bool:
    names = reply.headers
    used_up = names.get("x-ratelimit-remaining") == "0" or "retry-after" in names
    return reply.status == 429 or (reply.status == 403 and used_up)


def _limit(reply: Page, *, has_token: bool, hint: str) -> NetworkError:
    again = again_at(reply.headers)
    if reply.headers.get("x-ratelimit-remaining") != "0":
        return NetworkError(f"GitHub asks us to wait{again}.", hint=hint)
    number = reply.headers.get("x-ratelimit-limit", str(_WITHOUT_A_TOKEN))
    whom = "with this token" if has_token else "without a token"
    hint = "Use the build that comes pinned, or wait." if has_token else hint
    text = f"GitHub allows {number} requests an hour {whom} and they are used up{again}."
    return NetworkError(text, hint=hint)


def _message(body: bytes) -> str:
    """GitHub's own words, where there are any."""
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        return ""
    return _short(str(message)).rstrip(".")


def _looks_like(reply: Page) -> str:
    text = reply.body[:20_000].decode("utf-8", "replace").strip()
    from_whom = ""
    if urlsplit(reply.url).hostname != urlsplit(reply.asked).hostname:
        from_whom = f" of {urlsplit(reply.url).hostname}"
    if title := re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE):
        return f"the web page “{_short(title[1])}”{from_whom}"
    if text.startswith("<"):
        return f"a web page{from_whom}"
    return f"“{_short(text)}”{from_whom}" if text else f"nothing{from_whom}"


def _short(text: str) -> str:
    """One line that is safe to print."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= 100 else f"{line[:100]}…"


@dataclass(frozen=True, slots=True)
class Kept:
    """``etag`` is "" where the host gave none; ``seconds`` is when it last held, since the epoch."""

    etag: str
    body: str
    seconds: float = 0.0

    @property
    def when(self) -> str:
        """For people, in their time zone: ``7 Oct 2026, 14:05``."""
        moment = datetime.fromtimestamp(self.seconds).astimezone()
        return f"{moment.day} {moment:%b %Y, %H:%M}"


@dataclass(frozen=True, slots=True)
class Answers:
    """A folder that may be deleted at any time; one that cannot be written costs requests, nothing else."""

    folder: Path

    def get(self, url: str) -> Kept | None:
        file = self._file(url)
        kept = read_json(
            file, lambda document: (document["url"], str(document["etag"]), str(document["body"]))
        )
        with contextlib.suppress(OSError):
            if kept and kept[0] == url:
                return Kept(*kept[1:], file.stat().st_mtime)
        return None

    def put(self, url: str, etag: str, body: str) -> None:
        with contextlib.suppress(SupervisorError):
            write_json(self._file(url), {"url": url, "etag": etag, "body": body}, mode=SHARED)

    def still_holds(self, url: str) -> None:
        with contextlib.suppress(OSError):
            os.utime(self._file(url))

    def _file(self, url: str) -> Path:
        return self.folder / f"{sha256(url.encode()).hexdigest()[:32]}.json"
