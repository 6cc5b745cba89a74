"""Which plans died of memory on this machine and were replaced by one that takes less: a small file."""

from __future__ import annotations

import json
import os
from pathlib import Path

_MOST = 100  # the oldest goes first; a digest covers model, build and options


def known(file: Path) -> dict[str, str]:
    """What was changed, by the digest of the plan; empty where nothing can be read."""
    try:
        kept = json.loads(file.read_text("utf-8"))
        return {str(digest): str(words) for digest, words in kept.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def remember(file: Path, digest: str, words: str) -> None:
    """Raises OSError where it cannot be written."""
    before = known(file)
    if before.get(digest) == words:
        return
    kept = {**before, digest: words}
    staged = file.with_name(f"{file.name}.{os.getpid()}.new")
    staged.write_text(json.dumps(dict(list(kept.items())[-_MOST:])), "utf-8")
    staged.replace(file)
