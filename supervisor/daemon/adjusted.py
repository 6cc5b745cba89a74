"""Which plans died of memory on this machine and were replaced by one that takes less: a small file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..files import JsonFile

_MOST = 100  # the oldest goes first; a digest covers model, build and options


def known(file: Path) -> dict[str, str]:
    """What was changed, by the digest of the plan; empty where nothing can be read."""
    return _json(file).known()


def remember(file: Path, digest: str, words: str) -> None:
    """Raises SupervisorError where it cannot be written."""
    if known(file).get(digest) != words:
        _json(file).update(lambda kept: dict(list({**kept, digest: words}.items())[-_MOST:]))


def _json(file: Path) -> JsonFile[dict[str, str]]:
    return JsonFile(file, _plans, lambda plans: {"plans": plans}, {})


def _plans(document: dict[str, Any]) -> dict[str, str]:
    """Before it had a schema, the document was the plans."""
    return {str(digest): str(words) for digest, words in document.get("plans", document).items()}
