"""The files that a profile and its options name: where they are, and which are missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any

from ..disk import unreachable
from ..errors import ConfigError, NotFound
from ..options.file_options import FILES, SCALED, WRITTEN, from_home, map_paths, paths_in
from ..paths import Paths
from ..profile.definition import Profile
from ..profile.model_source import ModelSource

MODEL_PATH = "model.path"
_PATHS = {MODEL_PATH: "path", "model.draft.path": "draft_path", "model.projector.path": "projector_path"}
"""Keys that name a file, and the attributes of a `ModelSource`."""


def whole_path(path: Path, paths: Paths) -> Path:
    """The one rule for profiles: a relative path is under the models folder."""
    path = from_home(str(path))
    is_absolute = path.is_absolute() or PureWindowsPath(path).is_absolute()
    return path if is_absolute else paths.models / path


def with_whole_paths(profile: Profile, paths: Paths) -> Profile:
    """With whole paths, so that it does not matter in which folder it is started."""
    if profile.engine.command:
        return profile
    named = {name: profile.server[name] for name in FILES if name in profile.server}
    whole = {
        name: map_paths(name, value, lambda path: str(whole_path(Path(path), paths)))
        for name, value in named.items()
    }
    if sys.platform == "win32":
        drive = Path.cwd().drive
        whole |= {
            name: map_paths(name, whole[name], lambda path: without_drive(path, drive))
            for name in SCALED
            if name in whole
        }
    whole_paths: dict[str, Any] = {
        name: whole_path(path, paths) for name, path in _paths_of(profile.model).items()
    }
    model = replace(profile.model, **whole_paths)
    return replace(profile, model=model, server={**profile.server, **whole})


def without_drive(path: str, drive: str) -> str:
    """
    As llama-server can take it before a ``:SCALE`` on Windows: it splits at each colon, so also at that of
    ``C:`` (string_split in common/arg.cpp).  Raises ConfigError for another drive than ``drive``, on which
    the server runs.
    """
    its = PureWindowsPath(path).drive
    if ":" in its and its.casefold() != drive.casefold():
        raise ConfigError(
            f"llama-server cannot read {path} with a scale: it takes no drive there, and it runs on {drive}.",
            hint=f"Start it in a folder on {its}, or name the file without a scale: lora, control-vector.",
        )
    return path.removeprefix(its) if ":" in its else path


def _paths_of(model: ModelSource) -> Mapping[str, Path]:
    return {name: path for name in _PATHS.values() if (path := getattr(model, name))}


def missing_files(profile: Profile) -> Iterator[tuple[str, Path]]:
    """The key and the path of each that is not there, the model first. The profile has whole paths."""
    named = {} if profile.engine.command else _paths_of(profile.model)
    for key, attribute in _PATHS.items():
        if attribute in named and not _exists(named[attribute]):
            yield key, named[attribute]
    read_elsewhere = {"api-key-file"} if profile.gateway.mode == "on" else set()  # see listen_of
    for name in FILES:
        if name in profile.server and name not in {*WRITTEN, *read_elsewhere}:
            for path in paths_in(name, profile.server[name]):
                if not _exists(path):
                    yield f"server.{name}", Path(path)


def _exists(path: str | Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - Path's own may raise


def absences(profile: Profile) -> Iterator[tuple[str, str]]:
    """The key of each that is not there, and a clause that says so."""
    for key, path in missing_files(profile):
        yield key, unreachable(path) or f"there is no {path}"


def demand_files(profile: Profile, *only: str) -> None:
    """Raises NotFound with every missing file, its key and the place where it is written; of these keys."""
    lines = [
        f"{profile.origins.get(key, f'profile {profile.name}')}: {key}: {why}"
        for key, why in absences(profile)
        if not only or key in only
    ]
    if lines:
        raise NotFound(
            "\n".join(lines),
            hint="Put it there, or correct the path. A relative path is under the models folder.",
        )
