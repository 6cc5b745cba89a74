"""
The build that this version was tested with, pinned with the digests of its archives: needs no API request.

``python tests/pin_release.py TAG`` prints the lock file of TAG, which belongs in ``data/``.
"""

from __future__ import annotations

import json
from pathlib import Path

from .github import GitHubAccess
from .releases import Asset, Release

DEFAULT_TAG = "b11429"  # llama.cpp v0.6.0
_GITHUB = GitHubAccess()
_DATA = Path(__file__).with_name("data")


def locked(tag: str, at: GitHubAccess = _GITHUB) -> Release | None:
    """None where no lock file is shipped for it.  A size that is not known is 0."""
    file = _DATA / f"{tag}.lock.json"
    if not tag.isalnum() or not file.is_file():
        return None
    kept = json.loads(file.read_text("utf-8"))
    assets = tuple(
        Asset(each["name"], each["size_bytes"] or 0, each["sha256"], at.asset_url(tag, each["name"]))
        for each in kept["assets"]
    )
    return Release(kept["tag"], assets, kept["published"], "lock file")
