"""Whether a path is a model that llama-server can be asked to load: a quick look before a launch."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ..errors import NotFound, PermissionDenied, VerificationFailed
from .header import PREFIX_BYTES, BrokenHeader, Header, parse
from .locate import parts_of

_MOST_NAMED = 10  # missing parts in a message
_HINT = "Download the model's .gguf file again."


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model on disk; ``parts`` are all its files in order, of which the first is given to llama-server."""

    parts: tuple[Path, ...]
    size_bytes: int  # of all parts together
    architecture: str | None  # None when it does not stand in the first 64 KiB

    @property
    def path(self) -> Path:
        return self.parts[0]

    @property
    def split_count(self) -> int:
        return len(self.parts)


def check_model(path: Path) -> ModelFile:
    """
    Look at the beginning of a model's file, and of each other part of a split one.

    Raises NotFound for a missing file or part, PermissionDenied for an unreadable one, and
    VerificationFailed, saying what it is instead, for anything that is no model.
    """
    size, header = _look(path)
    parts = _parts(path, header)
    missing = [part for part in parts if not os.path.isfile(part)]  # noqa: PTH113 - Path's own may raise
    if missing:
        raise _incomplete(path, missing)
    others = sum(_look(part)[0] for part in parts[1:])
    if header.complete and header.architecture is None:
        raise VerificationFailed(f"The model {path} is a GGUF without general.architecture, so no model.")
    return ModelFile(parts, size + others, header.architecture)


def _look(path: Path) -> tuple[int, Header]:
    """The size of one file, and the beginning of its header."""
    try:
        status = path.stat()
        _refuse_what_is_no_file(path, status.st_mode)
        with path.open("rb") as file:
            prefix = file.read(PREFIX_BYTES)
        return status.st_size, parse(prefix, status.st_size)
    except BrokenHeader as error:
        raise VerificationFailed(f"The model {path} is {error}.", hint=_HINT) from error
    except PermissionError as error:
        raise PermissionDenied(
            f"The model {path} may not be read by this user.",
            hint="Check the rights of the file and its folders.",
        ) from error
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a null character
        raise _not_found(path) from error
    except OSError as error:
        raise VerificationFailed(f"The model {path} cannot be read: {error.strerror or error}.") from error


def _refuse_what_is_no_file(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise VerificationFailed(
            f"The model {path} is a folder.",
            hint="Name a .gguf file in it; of a split model, the first part.",
        )
    if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
        raise VerificationFailed(f"The model {path} is a device or a pipe, not a file.")


def _not_found(path: Path) -> NotFound:
    if path.is_symlink():
        return NotFound(f"The model {path} is a link to {path.readlink()}, which does not exist.")
    return NotFound(f"There is no model at {path}.")


def _parts(path: Path, header: Header) -> tuple[Path, ...]:
    """All files of the model, as llama.cpp will look for them: by the first one's name."""
    named = parts_of(path)
    split = len(named) > 1 and path in named
    count = header.split_count or (1 if header.complete else None)
    if count is None:  # it stands behind the vocabulary, where gguf-split writes it: the name must do
        count = len(named) if split else 1
    if count == 1:
        return (path,)
    if not split or count != len(named):
        raise VerificationFailed(
            f"The model {path} is one of {count} parts, but its name does not say which.",
            hint=f"llama.cpp needs names that end in -00001-of-{count:05d}.gguf.",
        )
    if path != named[0]:
        raise VerificationFailed(
            f"The model {path} is not the first of its {count} parts.", hint=f"Name {named[0]} instead."
        )
    return named


def _incomplete(path: Path, missing: list[Path]) -> NotFound:
    names = [part.name for part in missing[:_MOST_NAMED]]
    if len(missing) > _MOST_NAMED:
        names.append(f"and {len(missing) - _MOST_NAMED} more")
    return NotFound(
        f"The model {path} is incomplete: {path.parent} has no {', '.join(names)}.",
        hint="Download the missing parts into the same folder.",
    )
