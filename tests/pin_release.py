"""
For maintainers: ``python tests/pin_release.py TAG`` prints the lock file of a release of llama.cpp.

It belongs into supervisor/engine/catalogue/data, and its tag into pins.py.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from supervisor.engine.catalogue.catalogue import read_release
from supervisor.engine.catalogue.github import GitHubAccess
from supervisor.engine.catalogue.github_client import Answers, GitHubClient
from supervisor.engine.catalogue.releases import Release


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
    access = GitHubAccess.of(None, None, os.environ)
    with tempfile.TemporaryDirectory() as folder:
        document, _ = GitHubClient(access, Answers(Path(folder))).api(f"releases/tags/{tag}")
    release = read_release(document, access, "GitHub")
    if release is not None:
        print(render(release))


if __name__ == "__main__":
    main(sys.argv[1])
