"""Which computer is meant: this one, or the one that a file describes."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from ..paths import Paths
from ..progress import Progress
from . import wire
from .boot import settled
from .detect import detect
from .types import Hardware

VARIABLE = "GOSS_SUPERVISOR_HARDWARE"


def hardware_of(paths: Paths, file: Path | None = None, progress: Progress | None = None) -> Hardware:
    """
    From ``file``, else from the file that GOSS_SUPERVISOR_HARDWARE names, else what this computer is.

    With a ``progress`` to say so, a look soon after a boot waits for the drivers of GPUs.
    Raises NotFound, ConfigError and OSError of a file that cannot be used.
    """
    named = os.environ.get(VARIABLE)
    if file is None and named:
        file = Path(named)
    if file is not None:
        return wire.load(file.expanduser())
    look = partial(detect, paths.data)
    return settled(look, progress) if progress else look()
