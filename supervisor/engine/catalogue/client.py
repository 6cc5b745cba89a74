"""A client that remembers what it was told, and says so where it has to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ...download.fetch import PATIENT, Patience
from ...download.network import Unreachable
from ...download.page import page
from ...errors import NetworkError
from .answers import Answers
from .github import Access
from .refusals import Reply, broken, check, not_json, not_text, unreachable

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
        try:
            found = page(
                url, headers, MOST_BYTES, proxy=self.access.proxy, patience=self.patience, token=token
            )
        except Unreachable as failure:
            raise unreachable(failure) from failure
        reply = Reply(url, found.url, found.status, found.headers, found.body)
        if reply.status >= 500:
            raise broken(reply)
        return reply


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
