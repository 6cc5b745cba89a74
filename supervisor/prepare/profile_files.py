"""The files that a profile's options name: where they are, and which are missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from ..errors import NotFound
from ..options.file_options import FILES, WRITTEN, from_home, map_paths, paths_in
from ..paths import Paths
from ..profile.definition import Profile


def whole_path(path: Path, paths: Paths) -> Path:
    """The one rule for profiles: a relative path is under the models folder."""
    path = from_home(str(path))
    is_absolute = path.is_absolute() or PureWindowsPath(path).is_absolute()
    return path if is_absolute else paths.models / path


def with_whole_paths(profile: Profile, paths: Paths) -> Profile:
    """Its options with whole paths, so that it does not matter in which folder it is started."""
    if profile.engine.command:
        return profile
    named = {name: profile.server[name] for name in FILES if name in profile.server}
    whole = {
        name: map_paths(name, value, lambda path: str(whole_path(Path(path), paths)))
        for name, value in named.items()
    }
    return replace(profile, server={**profile.server, **whole})


def missing_files(profile: Profile) -> Iterator[tuple[str, Path]]:
    """The key and the path of each that is not there. The profile has whole paths."""
    read_elsewhere = {"api-key-file"} if profile.gateway.mode == "on" else set()  # see listen_of
    for name in FILES:
        if name in profile.server and name not in {*WRITTEN, *read_elsewhere}:
            for path in paths_in(name, profile.server[name]):
                if not os.path.exists(path):  # noqa: PTH110 - Path's own may raise
                    yield f"server.{name}", Path(path)


def demand_files(profile: Profile) -> None:
    """Raises NotFound with every missing file, its key and the place where it is written."""
    lines = [
        f"{profile.origins.get(key, f'profile {profile.name}')}: {key}: there is no {path}"
        for key, path in missing_files(profile)
    ]
    if lines:
        raise NotFound(
            "\n".join(lines),
            hint="Put it there, or correct the path. A relative path is under the models folder.",
        )
