"""Where everything lies on disk: one value, made once at the edge and passed in."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from platformdirs import PlatformDirs

APP = "goss-supervisor"
HOME_VARIABLE = "GOSS_SUPERVISOR_HOME"


@dataclass(frozen=True, slots=True)
class Paths:
    """The five folders of one home.  ``GOSS_SUPERVISOR_HOME`` puts all of them under one folder."""

    config: Path
    data: Path
    state: Path
    logs: Path
    runtime: Path

    @classmethod
    def from_environment(cls) -> Paths:
        home = os.environ.get(HOME_VARIABLE)
        return cls.under(Path(home).expanduser().absolute()) if home else cls.of_user()

    @classmethod
    def under(cls, home: Path) -> Paths:
        return cls(home / "config", home / "data", home / "state", home / "logs", home / "run")

    @classmethod
    def of_user(cls) -> Paths:
        import platformdirs  # noqa: PLC0415 - the daemon under GOSS_SUPERVISOR_HOME does without it

        dirs = platformdirs.PlatformDirs(APP, appauthor=False)
        return cls(
            Path(dirs.user_config_dir),
            Path(dirs.user_data_dir),
            Path(dirs.user_state_dir),
            Path(dirs.user_log_dir),
            _runtime(dirs),
        )

    @property
    def profiles(self) -> Path:
        return self.config / "profiles"

    @property
    def engines(self) -> Path:
        return self.data / "engines"

    @property
    def cache(self) -> Path:
        """Downloads, and what GitHub answered; may be deleted at any time."""
        return self.data / "cache"

    @property
    def models(self) -> Path:
        return self.data / "models"


def _runtime(dirs: PlatformDirs) -> Path:
    """Without a session there may be no runtime folder; then a folder of the user's own, not one in /tmp."""
    if sys.platform == "linux" and not os.environ.get("XDG_RUNTIME_DIR"):
        return Path(dirs.user_state_dir) / "run"
    return Path(dirs.user_runtime_dir)
