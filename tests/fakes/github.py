"""
GitHub on loopback: its API, its download host, and the other host to which that one redirects.

    with FakeGitHub() as github:
        github.add("b12001", {"llama-b12001-bin-ubuntu-x64.tar.gz": Path("…"), "…-win-cpu-x64.zip": 12_000})
        github.promote("v0.7.0", "b12001")              # what /releases/latest is, with its nightly-tag.txt
        subprocess.run([…], env={…, **github.env})
        github.downloads                                # what was really fetched, in order

An asset is a file, its bytes, or only a size: then there is nothing behind it but a digest.  The three hosts
are `Web`, so ``github.storage.fault(github.stored(tag, name), cut(1000))`` spoils a download.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from supervisor.engine.catalogue.github import API_VARIABLE, WEB_VARIABLE, GitHubAccess
from supervisor.engine.catalogue.releases import REPOSITORY

from .web import Reply, Request, Web, file, json_page

OLD = datetime(2026, 10, 5, 18, 0, tzinfo=UTC)
POINTER = "nightly-tag.txt"


@dataclass(frozen=True)
class Limit:
    """All requests to the API are refused; ``headers`` say why and until when."""

    status: int
    headers: Mapping[str, str]


class FakeGitHub:
    def __init__(self) -> None:
        self.api, self.web, self.storage = Web(), Web(), Web()
        self.documents: list[dict[str, Any]] = []  # the newest first, as the API lists them
        self.limit: Limit | None = None
        self._latest = ""
        base = f"/repos/{REPOSITORY}/releases"
        self.api.serve(base, self._list)
        self.api.serve(f"{base}/latest", lambda request: self._one(request, self._latest))
        self.api.serve(f"{base}/tags/*", lambda request: self._one(request, request.path.rpartition("/")[2]))
        self.web.serve(f"/{REPOSITORY}/releases/download/*", self._redirect)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for host in (self.api, self.web, self.storage):
            host.close()

    # What there is

    def add(
        self,
        tag: str,
        assets: Mapping[str, Path | bytes | int],
        *,
        complete: bool = True,
        uploading: Collection[str] = (),
        digests: Mapping[str, str | None] | None = None,
        draft: bool = False,
        prerelease: bool = True,
        published: datetime = OLD,
    ) -> None:
        """
        A release, newer than those added before; one with the same tag is replaced.

        ``complete=False``: the last asset is still being uploaded; ``uploading`` names others.  ``digests``
        are told in place of the true ones, None for none at all.
        """
        halves = {*uploading, *([] if complete else [list(assets)[-1]])}
        listed = [self._asset(tag, name, content, name in halves) for name, content in assets.items()]
        for asset in listed:
            if asset["name"] in (digests or {}):
                asset["digest"] = (digests or {})[asset["name"]]
        document = {
            "tag_name": tag,
            "name": tag,
            "draft": draft,
            "prerelease": prerelease,
            "published_at": published.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "assets": listed,
        }
        places = [place for place, each in enumerate(self.documents) if each["tag_name"] == tag]
        if places:
            self.documents[places[0]] = document
        else:
            self.documents.insert(0, document)

    def promote(self, version: str, tag: str | bytes | None) -> None:
        """A semver release becomes the latest; it points to a build, or has no nightly-tag.txt at all."""
        content = tag.encode() + b"\n" if isinstance(tag, str) else tag
        self.add(version, {POINTER: content} if content is not None else {}, prerelease=False)
        self._latest = version

    def latest(self, tag: str) -> None:
        """As it was before August 2026: the latest release is a build."""
        self._latest = tag

    # What goes wrong

    def use_up_the_limit(self, again_in: timedelta, *, status: int = 403, limit: int = 60) -> None:
        headers = {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(int(time.time() + again_in.total_seconds())),
        }
        self.limit = Limit(status, headers)

    def lift_the_limit(self) -> None:
        self.limit = None

    # Where it is, and what was asked

    @property
    def env(self) -> dict[str, str]:
        return {API_VARIABLE: self.api.url(), WEB_VARIABLE: self.web.url()}

    def access(self, **environ: str) -> GitHubAccess:
        return GitHubAccess.of(None, None, {**self.env, **environ})

    @property
    def downloads(self) -> list[str]:
        """The names of the assets that were fetched, from the first byte or from the middle."""
        return [request.path.rpartition("/")[2] for request in self.storage.requests]

    @property
    def tokens(self) -> list[str | None]:
        """What the API was told in the header Authorization, request by request."""
        return [request.headers.get("authorization") for request in self.api.requests]

    @property
    def leaked(self) -> list[str]:
        """The same, of the hosts that must not hear any."""
        asked = (*self.web.requests, *self.storage.requests)
        return [request.headers["authorization"] for request in asked if "authorization" in request.headers]

    def stored(self, tag: str, name: str) -> str:
        """The path of an asset on the storage host."""
        return f"/stored/{tag}/{name}"

    def _asset(self, tag: str, name: str, content: Path | bytes | int, half: bool) -> dict[str, Any]:
        if isinstance(content, Path):
            content = content.read_bytes()
        if isinstance(content, bytes):
            self.storage.serve(self.stored(tag, name), file(content))
        size = content if isinstance(content, int) else len(content)
        digest = sha256(content if isinstance(content, bytes) else name.encode()).hexdigest()
        return {
            "name": name,
            "size": 0 if half else size,
            "state": "starter" if half else "uploaded",
            "content_type": "application/octet-stream",
            "digest": None if half else f"sha256:{digest}",
            "browser_download_url": f"https://github.com/{REPOSITORY}/releases/download/{tag}/{name}",
        }

    def _list(self, request: Request) -> Reply:
        size, page = int(request.query.get("per_page", 30)), int(request.query.get("page", 1))
        public = [each for each in self.documents if not each["draft"]]
        return self._answer(request, public[size * (page - 1) : size * page])

    def _one(self, request: Request, tag: str) -> Reply:
        found = [each for each in self.documents if each["tag_name"] == tag and not each["draft"]]
        return self._answer(request, found[0] if found else None)

    def _answer(self, request: Request, document: Any) -> Reply:
        if self.limit:
            body = json.dumps({"message": "API rate limit exceeded for 203.0.113.7."}).encode()
            return Reply(self.limit.status, self.limit.headers, body)
        if document is None:
            return Reply(404, {"Content-Type": "application/json"}, b'{"message": "Not Found"}')
        reply = json_page(document)(request)
        return replace(reply, headers={**reply.headers, "X-RateLimit-Remaining": "59"})

    def _redirect(self, request: Request) -> Reply:
        tag, name = request.path.split("/")[-2:]
        return Reply(302, {"Location": self.storage.url(self.stored(tag, name))})
