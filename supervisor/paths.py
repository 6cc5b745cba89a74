"""Where everything is on disk: one value, made once at the edge and passed in."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import SupervisorError

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
    models_dir: Path | None = None  # where config.yaml names one

    @classmethod
    def from_environment(cls) -> Paths:
        home = named_home(os.environ)
        return cls.of_user() if home is None else cls.under(home)

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
        return self.models_dir or self.data / "models"


def named_home(environ: Mapping[str, str]) -> Path | None:
    """None where none is named.  Raises SupervisorError for that of a user who does not exist."""
    named = environ.get(HOME_VARIABLE)
    try:
        return Path(named).expanduser().absolute() if named else None
    except RuntimeError as error:
        raise SupervisorError(
            f"{HOME_VARIABLE} is {named}, and there is no such user.", hint="Name a whole path."
        ) from error


def settle_user_home(environ: MutableMapping[str, str]) -> None:
    """Give a user without a home folder the one for all.  Raises SupervisorError where none is named."""
    try:
        Path.home()
    except RuntimeError as error:
        named = environ.get(HOME_VARIABLE, "")
        if not named or named.startswith("~"):
            raise SupervisorError(
                "The home folder of this user is not known: HOME is not set, and the system knows none.",
                hint=f"Set HOME or {HOME_VARIABLE}.",
            ) from error
        environ["USERPROFILE" if sys.platform == "win32" else "HOME"] = str(Path(named).absolute())


def _runtime(dirs: PlatformDirs) -> Path:
    """Without a session there may be no runtime folder; then a folder of the user's own, not one in /tmp."""
    if sys.platform == "linux" and not os.environ.get("XDG_RUNTIME_DIR"):
        return Path(dirs.user_state_dir) / "run"
    return Path(dirs.user_runtime_dir)
