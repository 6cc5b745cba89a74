"""Many profiles at once, for ``profile check``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, SupervisorError
from .load import load_file
from .resolve import resolve_layer
from .schema import NAME_PATTERN
from .store import ProfileStore
from .types import Model, Profile


@dataclass(frozen=True, slots=True)
class Checked:
    """``sound`` are names or files as given; ``problems`` and ``warnings`` are lines."""

    sound: tuple[str, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def check_profiles(given: Sequence[str], store: ProfileStore) -> Checked:
    """Files, or profiles by name; all profiles where nothing is given."""
    sound, problems, warnings = [], dict[str, None](), [] if given else _strays(store)
    for each in given or store.names():
        try:
            profile = _resolve(each, store)
        except SupervisorError as error:
            problems |= dict.fromkeys(str(error).splitlines())  # a broken parent is told once
        else:
            sound.append(each)
            warnings += _warnings(each, profile)
    return Checked(tuple(sound), tuple(problems), tuple(warnings))


def _resolve(given: str, store: ProfileStore) -> Profile:
    path = Path(given)
    if not _is_file_name(given):
        path = store.find(given).path
    elif not re.fullmatch(NAME_PATTERN + r"\.yaml", path.name) and path.is_file():
        raise ConfigError(f"{given}: the file's name is no profile's; name it like my-profile.yaml")
    return resolve_layer(load_file(path, path.stem), store)


def _is_file_name(given: str) -> bool:
    return not re.fullmatch(NAME_PATTERN, given) or given.endswith((".yaml", ".yml"))


def _warnings(given: str, profile: Profile) -> list[str]:
    return [f"{given}: names no model; it can be extended, not started"] if profile.model == Model() else []


def _strays(store: ProfileStore) -> list[str]:
    return [f"{stray}: is never found by name; name it like my-profile.yaml" for stray in store.strays()]
