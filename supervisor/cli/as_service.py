"""
``start --service``: what a manager needs that knows no journal and no exit code of ours.

Under launchd and the Task Scheduler the daemon tells its files only, and what went wrong before there was a
daemon goes to stderr, which launchd appends to a file for ever.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import EXIT_OK, ConfigError
from ..home.places import early_log, make_folders
from ..paths import Paths


@contextmanager
def staying_down() -> Iterator[None]:
    """
    A wrong profile ends the program with 0, for it stays wrong.

    For launchd whatever fails is to be started again, for ever.
    """
    try:
        yield
    except ConfigError as error:
        error.exit_code = EXIT_OK
        raise


def have_a_voice(paths: Paths) -> None:
    """Under pythonw.exe there is neither stdout nor stderr; then a file takes both."""
    if sys.stderr is None:
        make_folders(paths)
        sys.stdout = sys.stderr = early_log(paths).open("w", encoding="utf-8", buffering=1)
