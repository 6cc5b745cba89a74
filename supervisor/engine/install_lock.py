"""One installation of one engine at a time, over all processes of this user."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from ..locks import waiting_lock
from ..progress import Progress


def install_lock(path: Path, what: str, progress: Progress) -> AbstractContextManager[None]:
    """
    Hold the lock; wait for whoever holds it, and say so.

    Raises PermissionDenied where nothing may be written.
    """
    return waiting_lock(path, f"waiting: another goss-supervisor is installing {what}", progress)
