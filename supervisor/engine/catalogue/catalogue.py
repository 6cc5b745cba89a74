"""The releases of llama.cpp: the list, and the newest one that is usable."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import NetworkError, NoSuitableEngine, NotFound
from .github import PORTAL, GitHubAccess
from .github_client import Answers
from .pins import locked
from .releases import REPOSITORY, Asset, Release

if TYPE_CHECKING:
    from ...download.network import RetryPolicy
    from .github_client import GitHubClient

PER_PAGE = 30  # 2 MB; a page of 100 takes GitHub half a minute
NIGHTLY_PAGES = 3
STABLE_PAGES = 10  # a stable release is two weeks and some hundred builds behind the newest
POINTER = "nightly-tag.txt"  # in a release v0.6.0: the tag of the build that carries the archives
_TOLD = 5  # of the releases that will not do
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
BUILD_TAG = re.compile(r"b(\d+)")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_NAME = re.compile(r"[A-Za-z0-9._+-]+")
_SETTLED = timedelta(days=1)  # uploads take minutes; what an outage left out was never added later


@dataclass(frozen=True, slots=True)
class FoundRelease:
    """``passed`` are the newer ones that were passed over, with why; ``note`` says if the list is old."""

    release: Release
    passed: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """``cache`` is a folder for what GitHub answered; it may be deleted at any time."""

    access: GitHubAccess
    cache: Path
    retry: RetryPolicy | None = None

    def known(self, tag: str) -> Release | None:
        """What the lock file or an earlier answer says, without asking anybody."""
        if release := locked(tag, self.access):
            return release
        with suppress(NetworkError, ValueError):
            if kept := self._answers.get(self._tag_url(tag)):
                return read_release(json.loads(kept.body), self.access, f"GitHub, {kept.when}")
        return None

    def release(self, tag: str) -> Release:
        """
        The lock file, else what GitHub said and will not change any more, else GitHub.

        Raises NotFound where there is no such release, NetworkError where nobody can tell.
        """
        if not _TAG.fullmatch(tag):
            raise NotFound(f"{tag!r} is not the tag of a release.", hint="One looks like b11429.")
        known = self.known(tag)
        if known and (known.origin == "lock file" or is_settled(known, datetime.now(UTC))):
            return known
        with suppress(NotFound):
            document, note = self._client.api(f"releases/tags/{tag}")
            if release := read_release(document, self.access, note or "GitHub"):
                return release
        hint = "goss-supervisor engine available lists them."
        raise NotFound(f"{REPOSITORY} has no release {tag}.", hint=hint)

    def newest(self, channel: str, usable: Callable[[Release], str]) -> FoundRelease:
        """
        The newest release of a channel (``stable`` or ``nightly``) for which ``usable`` has no objection.

        ``usable`` returns "", or why a release will not do.  Raises NetworkError, and NoSuitableEngine
        where none of those that were looked at will do.
        """
        search = _Search(self, usable)
        return search.stable() if channel == "stable" else search.listed(NIGHTLY_PAGES)

    def list(self, limit: int) -> tuple[Release, ...]:
        """The newest ``b`` releases, newest first, without regard to what they hold."""
        return tuple(entry.release for entry in islice(self.entries(STABLE_PAGES), limit))

    def entries(self, pages: int) -> Iterator[ReleaseEntry]:
        """The builds of so many pages, the newest first; asks for a page when it gets there."""
        for page in range(1, pages + 1):
            document, note = self._client.api(f"releases?per_page={PER_PAGE}&page={page}")
            if not isinstance(document, list):
                raise misshapen(self.access.api, f"a {type(document).__name__}")
            read = [(read_release(each, self.access, note or "GitHub"), each) for each in document]
            entries = [
                ReleaseEntry(release, raw, note) for release, raw in read if release
            ]  # None is a draft
            builds = [each for each in entries if number(each.release.tag) is not None]
            yield from sorted(builds, key=lambda each: number(each.release.tag) or 0, reverse=True)
            if len(document) < PER_PAGE:
                return

    def promoted(self) -> tuple[str, str, str]:
        """The build that upstream calls stable, or ""; who says so; and the note if that is old."""
        document, note = self._client.api("releases/latest")
        latest = read_release(document, self.access, "GitHub")
        if latest is None:
            raise misshapen(self.access.api, "a draft as the latest release")
        if number(latest.tag) is not None:
            return latest.tag, latest.tag, note
        if (pointer := latest.find(POINTER)) is None or not pointer.uploaded:
            return "", latest.tag, note
        answer = self._client.download(pointer.url)
        tag = answer.text.strip()
        if number(tag) is None:
            raise NetworkError(
                f"{POINTER} of {latest.tag} says {tag[:40]!r}, which is not the tag of a build."
            )
        return tag, latest.tag, note or answer.note

    def remember(self, entry: ReleaseEntry) -> None:
        """So that a release found in the list is known by its tag, offline as well."""
        url = self._tag_url(entry.release.tag)
        if self._answers.get(url) is None:
            self._answers.put(url, "", json.dumps(entry.document))

    @property
    def _answers(self) -> Answers:
        return Answers(self.cache / "github")

    @property
    def _client(self) -> GitHubClient:
        from ...download.network import DEFAULT_RETRY  # noqa: PLC0415 - brings HTTP and TLS, and most starts ask nobody
        from .github_client import GitHubClient  # noqa: PLC0415 - the same

        return GitHubClient(self.access, self._answers, self.retry or DEFAULT_RETRY)

    def _tag_url(self, tag: str) -> str:
        return self.access.api_url(f"releases/tags/{tag}")


@dataclass(frozen=True, slots=True)
class ReleaseEntry:
    """A release of the list, as value and as GitHub wrote it."""

    release: Release
    document: dict[str, Any]
    note: str


@dataclass(frozen=True, slots=True)
class _Search:
    """One search: what it passed over, and what it has to remark."""

    catalogue: Catalogue
    usable: Callable[[Release], str]
    passed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def stable(self) -> FoundRelease:
        try:
            tag, source, note = self.catalogue.promoted()
        except NotFound:
            tag, source, note = "", "upstream's latest release", ""
        self._remark(note)
        if not tag:
            self.passed.append(f"{source} names no build")
            return self.listed(STABLE_PAGES)
        try:
            release = self.catalogue.release(tag)
        except NotFound:
            self.passed.append(f"{tag}: {source} names it, and it does not exist")
        else:
            if self._will_do(release):
                return self._found(release)
        return self.listed(STABLE_PAGES, below=number(tag))

    def listed(self, pages: int, below: int | None = None) -> FoundRelease:
        for entry in self.catalogue.entries(pages):
            self._remark(entry.note)
            if below is not None and (number(entry.release.tag) or 0) >= below:
                continue
            if self._will_do(entry.release):
                self.catalogue.remember(entry)
                return self._found(entry.release)
        raise self._nothing()

    def _will_do(self, release: Release) -> bool:
        if why := self.usable(release):
            self.passed.append(f"{release.tag}: {why}")
        return not why

    def _remark(self, note: str) -> None:
        if note and note not in self.notes:
            self.notes.append(note)

    def _found(self, release: Release) -> FoundRelease:
        return FoundRelease(release, tuple(self.passed), "; ".join(self.notes))

    def _nothing(self) -> NoSuitableEngine:
        lines = [*self.passed[:_TOLD], *self.notes]
        if (more := len(self.passed) - _TOLD) > 0:
            lines.append(f"and {more} more")
        shown = "".join(f"\n  {line}" for line in lines) or " GitHub lists none."
        return NoSuitableEngine(
            f"No release of {REPOSITORY} will do:{shown}",
            hint="Use the build that comes pinned (unset engine.channel), or engine.source: build.",
        )


def read_release(document: object, access: GitHubAccess, origin: str) -> Release | None:
    """None for a draft.  The addresses of the assets are below ``access.web``, whatever the API says."""
    if not isinstance(document, Mapping) or not isinstance(tag := document.get("tag_name"), str):
        raise misshapen(access.api, "a release without tag_name")
    if document.get("draft"):
        return None
    listed = document.get("assets")
    if not isinstance(listed, list):
        raise misshapen(access.api, f"{tag} without assets")
    assets = tuple(_asset(each, tag, access) for each in listed if _is_asset(each))
    return Release(tag, assets, str(document.get("published_at") or ""), origin)


def number(tag: str) -> int | None:
    """11429 for b11429; None for v0.6.0."""
    match = BUILD_TAG.fullmatch(tag)
    return int(match[1]) if match else None


def is_settled(release: Release, now: datetime) -> bool:
    """Whether it will stay as it is.  Assets come one by one: that all of them are there proves nothing."""
    try:
        published = datetime.fromisoformat(release.published)
    except ValueError:
        return False
    aware = published if published.tzinfo else published.replace(tzinfo=UTC)
    usable = bool(release.assets) and all(asset.usable for asset in release.assets)
    return usable and now - aware > _SETTLED


def misshapen(where: str, what: str) -> NetworkError:
    """For JSON that does not describe releases."""
    return NetworkError(f"{where} answered with JSON that is no list of releases: {what}.", hint=PORTAL)


def _is_asset(document: object) -> bool:
    return isinstance(document, Mapping) and bool(_NAME.fullmatch(str(document.get("name", ""))))


def _asset(document: Mapping[str, Any], tag: str, access: GitHubAccess) -> Asset:
    name, size = document["name"], document.get("size")
    digest = _DIGEST.fullmatch(str(document.get("digest") or "").lower())
    return Asset(
        name=name,
        size_bytes=size if isinstance(size, int) and size > 0 else 0,
        sha256=digest[1] if digest else "",
        url=access.asset_url(tag, name),
        uploaded=document.get("state", "uploaded") == "uploaded",
    )
