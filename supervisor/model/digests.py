"""What a model's file should be: its SHA-256 as the hub gave it, kept beside the file."""

from __future__ import annotations

import re
from pathlib import Path

from ..files import SHARED, replace_file

_HEX = re.compile(r"[0-9a-f]{64}")


def digest_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def keep_digest(file: Path, sha256: str) -> None:
    """In the format of sha256sum.  Raises SupervisorError and PermissionDenied of a disk."""
    replace_file(digest_file(file), f"{sha256}  {file.name}\n".encode(), mode=SHARED)


def known_digest(file: Path) -> str:
    """
    The one that was kept, else the name of the blob that a link in the Hugging Face cache leads to.

    "" where nobody knows.  Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    """
    try:
        if found := _HEX.match(digest_file(file).read_text("utf-8")):
            return found[0]
    except (OSError, UnicodeDecodeError):
        pass
    blob = file.resolve().name
    return blob if file.is_symlink() and _HEX.fullmatch(blob) else ""
