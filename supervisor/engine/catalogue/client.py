"""A client that remembers what it was told, and says so where it has to."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ...download import network
from ...download.network import Unreachable
from ...errors import NetworkError
from .answers import Answers
from .github import PATIENT, Access, Patience
from .refusals import (
    Reply,
    broken,
    check,
    not_json,
    not_text,
    unreachable,
)

if TYPE_CHECKING:
    import requests

MOST_BYTES = 32 << 20  # a page of 30 releases is 2 MB; what is longer than this is no answer of GitHub's
_API = {
    "Accept": "application/vnd.github+json",
    "Accept-Encoding": "gzip",
    "X-GitHub-Api-Version": "2022-11-28",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """``note`` says why it is an old one; "" for a fresh one."""

    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Client:
    """
    Asks, tries once more where that may help, and keeps what it was told.

    What is kept is asked for again with its ETag; where the network fails or the limit is reached it is
    used as it is, with a note.  Raises NotFound and NetworkError.
    """

    access: Access
    answers: Answers
    patience: Patience = PATIENT

    def api(self, path: str) -> tuple[Any, str]:
        """The JSON at a path below the repository, and the note."""
        answer = self._get(self.access.api_url(path), _API, self.access.api_token, _must_be_json)
        return json.loads(answer.text), answer.note

    def download(self, url: str) -> Answer:
        """A short text from the download host, to which no token goes."""
        return self._get(url, {}, "", _must_be_text)

    def _get(self, url: str, headers: dict[str, str], token: str, must: Callable[[Reply], None]) -> Answer:
        kept = self.answers.get(url)
        unless = {"If-None-Match": kept.etag} if kept and kept.etag else {}
        try:
            reply = self._ask(url, {**headers, **unless}, token)
            if reply.status == 304 and kept:
                self.answers.still_holds(url)
                return Answer(kept.body)
            check(reply, datetime.now(UTC), has_token=bool(token))
            must(reply)
        except NetworkError as error:
            if kept is None:
                raise
            return Answer(kept.body, f"{str(error).rstrip('.')}; using what it said on {kept.when}")
        text = reply.body.decode("utf-8")
        self.answers.put(url, reply.headers.get("etag", ""), text)
        return Answer(text)

    def _ask(self, url: str, headers: dict[str, str], token: str) -> Reply:
        """What failed on the way, or in the server, is tried once more."""
        try:
            reply = self._exchange(url, headers, token)
            if reply.status < 500:
                return reply
        except Unreachable as failure:
            if failure.final:
                raise unreachable(failure) from failure
        time.sleep(self.patience.pause)
        try:
            reply = self._exchange(url, headers, token)
        except Unreachable as failure:
            raise unreachable(failure) from failure
        if reply.status >= 500:
            raise broken(reply)
        return reply

    def _exchange(self, url: str, headers: dict[str, str], token: str) -> Reply:
        timeout = self.patience.connect, self.patience.read
        with network.get(url, headers, timeout, self.access.proxy, token) as response:
            body = self._read(response, timeout)
            lower = {name.lower(): value for name, value in response.headers.items()}
            return Reply(url, response.url, response.status_code, lower, body)

    def _read(self, response: requests.Response, timeout: tuple[float, float]) -> bytes:
        """Bounded in time as well: a read timeout never ends what comes drop by drop."""
        deadline, body = time.monotonic() + self.patience.total, bytearray()
        for chunk in network.body(response, timeout, unpacked=True):
            body += chunk
            if time.monotonic() > deadline or len(body) > MOST_BYTES:
                host = network.host_of(response.url)
                raise Unreachable(f"the answer of {host} takes too long, or is too long", contact=True)
        return bytes(body)


def _must_be_json(reply: Reply) -> None:
    try:
        json.loads(reply.body)
    except ValueError:
        raise not_json(reply) from None


def _must_be_text(reply: Reply) -> None:
    try:
        text = reply.body.decode("utf-8")
    except UnicodeDecodeError:
        raise not_text(reply) from None
    if not text.strip() or "<" in text:
        raise not_text(reply)
