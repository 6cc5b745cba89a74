"""Which computer is meant: this one, or the one that a file describes."""

from __future__ import annotations

import os
from pathlib import Path

from ..paths import Paths
from . import wire
from .detect import detect
from .types import Hardware

VARIABLE = "GOSS_SUPERVISOR_HARDWARE"


def hardware_of(paths: Paths, file: Path | None = None) -> Hardware:
    """
    From ``file``, else from the file that GOSS_SUPERVISOR_HARDWARE names, else what this computer is.

    Raises NotFound, ConfigError and OSError of a file that cannot be used.
    """
    named = os.environ.get(VARIABLE)
    if file is None and named:
        file = Path(named)
    return detect(paths.data) if file is None else wire.load(file.expanduser())
