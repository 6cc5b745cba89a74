"""What it takes to get an engine, apart from the wish."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..hardware.hardware import Hardware
from ..paths import Paths
from ..profile.definition import Engine
from ..progress import Progress
from .catalogue.catalogue import Catalogue
from .catalogue.github import Access
from .chosen import Chosen


@dataclass(frozen=True, slots=True)
class Means:
    """
    Where engines stand, for which machine they are, and who is told.

    ``hardware`` and ``demo`` (a model that proves that an engine answers) are asked for only where they
    decide: both cost time.  ``elsewhere`` says that the hardware is not this machine's: what stands here
    is not there.
    """

    paths: Paths
    progress: Progress
    hardware: Callable[[], Hardware]
    demo: Callable[[], Path]
    elsewhere: bool = False

    @property
    def chosen(self) -> Chosen:
        return Chosen(self.paths.state / "engines.json")

    def catalogue(self, engine: Engine) -> Catalogue:
        return Catalogue(self.access(engine), self.paths.cache)

    def access(self, engine: Engine) -> Access:
        return Access.of(engine.mirror, engine.proxy, os.environ)
