"""Releases as GitHub's API describes them, read into values.  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ...errors import NetworkError
from .github import PORTAL, Access
from .releases import Asset, Release

BUILD_TAG = re.compile(r"b(\d+)")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_NAME = re.compile(r"[A-Za-z0-9._+-]+")
_SETTLED = timedelta(days=1)  # uploads take minutes; what an outage left out was never added later


def read_page(document: object, access: Access, origin: str) -> list[Release]:
    """A page of the list without its drafts.  Raises NetworkError for what is no list of releases."""
    if not isinstance(document, list):
        raise misshapen(access.api, f"a {type(document).__name__}")
    read = [read_release(each, access, origin) for each in document]
    return [release for release in read if release]


def read_release(document: object, access: Access, origin: str) -> Release | None:
    """None for a draft.  The addresses of the assets lie below ``access.web``, whatever the API says."""
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


def _asset(document: Mapping[str, Any], tag: str, access: Access) -> Asset:
    name, size = document["name"], document.get("size")
    digest = _DIGEST.fullmatch(str(document.get("digest") or "").lower())
    return Asset(
        name=name,
        size_bytes=size if isinstance(size, int) and size > 0 else 0,
        sha256=digest[1] if digest else "",
        url=access.asset_url(tag, name),
        uploaded=document.get("state", "uploaded") == "uploaded",
    )
