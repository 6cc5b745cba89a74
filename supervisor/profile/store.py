"""Where profiles are: the shipped ones, and the user's, which shadow them by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import NotFound, PermissionDenied, UsageError, similar_names
from ..files import replace_file
from .declare import NAME_PATTERN

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_folder() -> Path:
    """``supervisor/shipped_profiles`` in an installed wheel, ``profiles`` in a checkout."""
    installed = _PACKAGE / "shipped_profiles"
    return installed if installed.is_dir() else _PACKAGE.parent / "profiles"


def valid_name(name: str) -> str:
    """The name itself.  Raises ``UsageError`` for one that is no file's, or would leave the folder."""
    if not re.fullmatch(NAME_PATTERN, name):
        hint = "Small letters, digits, '.', '_' and '-' make a profile name."
        raise UsageError(f"{name!r} is no profile name.", hint=hint)
    return name


@dataclass(frozen=True, slots=True)
class StoredProfile:
    """One file; ``shadows`` is the shipped one that a user's profile of the same name hides."""

    name: str
    path: Path
    shipped: bool
    shadows: Path | None = None


class ProfileStore:
    """The user's folder, which need not exist, over the shipped one."""

    def __init__(self, user_dir: Path, shipped_dir: Path | None = None) -> None:
        self.user_dir = user_dir
        self.shipped_dir = shipped_dir or shipped_folder()
        self.settings = user_dir.parent / "config.yaml"  # see settings

    def shipped(self) -> ProfileStore:
        """The same without anything of the user's."""
        return ProfileStore(self.user_dir / "none", self.shipped_dir)

    def list(self) -> tuple[StoredProfile, ...]:
        """All profiles by name; a shadowed one is not listed on its own."""
        shipped = {path.stem: path for path in _profiles_in(self.shipped_dir)}
        found = {name: StoredProfile(name, path, shipped=True) for name, path in shipped.items()}
        for path in _profiles_in(self.user_dir):
            found[path.stem] = StoredProfile(path.stem, path, shipped=False, shadows=shipped.get(path.stem))
        return tuple(sorted(found.values(), key=lambda profile: profile.name))

    def names(self) -> tuple[str, ...]:
        return tuple(profile.name for profile in self.list())

    def strays(self) -> tuple[Path, ...]:
        """Files in the user's folder that look like profiles and can never be found by name."""
        like = (path for path in _files_in(self.user_dir) if path.suffix.lower() in (".yaml", ".yml"))
        return tuple(path for path in like if not _is_profile(path))

    def find(self, name: str) -> StoredProfile:
        """The user's profile of that name, else the shipped one.  Raises ``NotFound`` with near names."""
        for profile in self.list():
            if profile.name == name:
                return profile
        raise self._not_found(name)

    def find_shipped(self, name: str) -> StoredProfile:
        """The shipped profile of that name, shadowed or not.  Raises ``NotFound``."""
        for path in _profiles_in(self.shipped_dir):
            if path.stem == name:
                return StoredProfile(name, path, shipped=True)
        raise NotFound(f"There is no shipped profile {name}.", hint="goss-supervisor profile ls")

    def _not_found(self, name: str) -> NotFound:
        near = similar_names(name, self.names(), 3)
        stray = next((path for path in self.strays() if path.stem.lower() == name.lower()), None)
        question = f" Did you mean {', '.join(near)}?" if near else ""
        hint = _to_be_renamed(stray) if stray else "goss-supervisor profile ls"
        if name.endswith(".gguf"):
            hint = f"goss-supervisor profile import 'llama-server -m {name}' makes a profile for a file."
        elif "/" in name:
            hint = (
                "goss-supervisor run OWNER/REPO[:QUANT] makes a profile for a model of the Hugging Face hub."
            )
        return NotFound(f"There is no profile {name}.{question}", hint=hint)

    def create(self, name: str, text: str) -> Path:
        """
        A new profile of the user's.  Raises ``UsageError`` where one of that name is there already; a shipped
        one is hidden by `Draft` only, which copies it.
        """
        path = self.user_dir / f"{valid_name(name)}.yaml"
        if path.exists():
            hint = f"goss-supervisor profile edit {name}"
            raise UsageError(f"There is a profile {name} already: {path}", hint=hint)
        if any(shipped.stem == name for shipped in _profiles_in(self.shipped_dir)):
            hint = (
                f"Choose another name; goss-supervisor profile edit {name} changes a copy of the shipped one."
            )
            raise UsageError(
                f"{name} is the name of a shipped profile, which this one would hide.", hint=hint
            )
        return self.save(name, text)

    def save(self, name: str, text: str) -> Path:
        """The user's profile of that name, replaced at once or not at all."""
        path = self.user_dir / f"{valid_name(name)}.yaml"
        write_atomically(path, text)
        return path


def _to_be_renamed(stray: Path) -> str:
    """What to do with a file that is no profile, for its name alone: ``My box.yml`` to ``my-box.yaml``."""
    name = re.sub(r"[^a-z0-9._-]+", "-", stray.stem.lower()).strip("-")
    return f"Rename {stray} to {name}.yaml." if re.fullmatch(NAME_PATTERN, name) else f"Rename {stray}."


def write_atomically(path: Path, text: str) -> None:
    """
    Its mode stays, and a link is followed: people keep their profiles in a repository and link them here.

    Raises PermissionDenied or SupervisorError; then the file is as it was before.
    """
    replace_file(path.resolve(), text.encode(), mode=None, durable=True)


def keep_current(path: Path, text: str) -> None:
    """Writes a file of ours, such as a schema, if it says something else.  Raises as ``write_atomically``."""
    if not path.exists() or path.read_text(encoding="utf-8", errors="replace") != text:
        write_atomically(path, text)


def _profiles_in(folder: Path) -> Iterator[Path]:
    return (path for path in _files_in(folder) if _is_profile(path))


def _is_profile(path: Path) -> bool:
    return path.suffix == ".yaml" and re.fullmatch(NAME_PATTERN, path.stem) is not None


def _files_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError:
        raise PermissionDenied(f"The folder {folder} may not be read.") from None
