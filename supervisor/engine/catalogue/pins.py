"""
The build that this version was tested with, pinned with the digests of its archives: no API is asked for it.

For maintainers: ``python -m supervisor.engine.catalogue.pins TAG`` prints the lock file of TAG (``data/``).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from .answers import Answers
from .github import Access
from .listing import read_release
from .releases import Asset, Release

DEFAULT_TAG = "b11429"  # llama.cpp v0.6.0
_DATA = Path(__file__).with_name("data")


def locked(tag: str) -> Release | None:
    """None where no lock file is shipped for it.  A size that is not known is 0."""
    file = _DATA / f"{tag}.lock.json"
    if not tag.isalnum() or not file.is_file():
        return None
    kept = json.loads(file.read_text("utf-8"))
    at = Access()
    assets = tuple(
        Asset(each["name"], each["size_bytes"] or 0, each["sha256"], at.asset_url(tag, each["name"]))
        for each in kept["assets"]
    )
    return Release(kept["tag"], assets, kept["published"], "lock file")


def render(release: Release) -> str:
    """A lock file.  Assets without a digest are left out."""
    assets = [
        {"name": each.name, "size_bytes": each.size_bytes or None, "sha256": each.sha256}
        for each in release.assets
        if each.usable
    ]
    head = {"comment": "As GitHub's API says.", "tag": release.tag, "published": release.published}
    return json.dumps({**head, "assets": assets}, indent=2)


def main(tag: str) -> None:
    from .client import Client  # noqa: PLC0415 - for maintainers only

    access = Access.of(None, None, os.environ)
    with tempfile.TemporaryDirectory() as folder:
        document, _ = Client(access, Answers(Path(folder))).api(f"releases/tags/{tag}")
    release = read_release(document, access, "GitHub")
    if release is not None:
        print(render(release))


if __name__ == "__main__":
    main(sys.argv[1])
