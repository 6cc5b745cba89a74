"""
Small files on disk: one way to replace a file, and one to keep JSON that several processes change.

New content is written next to the file under a unique name and then renamed.  Readers see the old content or
the new one; a writer that fails or is killed leaves the old one.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from .decoding import Malformed
from .disk import cannot_write
from .errors import ConfigError, PermissionDenied, SupervisorError
from .locks import Lock, held_by

T = TypeVar("T")

PRIVATE, SHARED = 0o600, 0o644
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_STAGED = re.compile(r"\.goss-[0-9a-f]{16}\.new")
_LEFTOVER_SECONDS = 3600.0  # nobody writes a small file for that long
# Windows refuses to replace a file while another program, a virus scanner for example, has it open.
_PAUSES_SECONDS = (0.02,) * 50 if sys.platform == "win32" else ()
_LOCK_SECONDS = 10.0  # others hold a lock for milliseconds
_PAUSE_SECONDS = 0.01
# What code that expects a document of ours raises for another one: 1e999 is no int.
NOT_OURS = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


@contextmanager
def replacing(path: Path, *, mode: int | None = PRIVATE, durable: bool = False) -> Iterator[IO[bytes]]:
    """
    Open a new file that takes the place of ``path`` when the block ends without an error.

    ``mode`` None keeps the mode of the file that is there.  With ``durable`` the new content survives a power
    cut from then on, which takes as long as the disk does: not for the daemon's event loop.
    Raises PermissionDenied or SupervisorError, also for an OSError of the block; ``path`` is as before then.
    """
    staged = path.with_name(f".goss-{os.urandom(8).hex()}.new")
    try:
        if mode is None:
            mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else PRIVATE
        # All who may read the file may enter the folder that is made for it.
        path.parent.mkdir(mode=mode | 0o100 | (mode & 0o044) >> 2, parents=True, exist_ok=True)
        _sweep(path.parent)
        with os.fdopen(os.open(staged, _NEW, mode), "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        staged.chmod(mode)
        _rename(staged, path)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            staged.unlink()


def replace_file(path: Path, content: bytes, *, mode: int | None = PRIVATE, durable: bool = False) -> None:
    """Write the whole file; see `replacing`."""
    with replacing(path, mode=mode, durable=durable) as file:
        file.write(content)


def write_named(path: Path, content: bytes) -> None:
    """
    Write into the file that a person named: a link or a device, such as /dev/stdout, stays what it is.

    Raises PermissionDenied or SupervisorError.
    """
    try:
        path.write_bytes(content)
    except OSError as error:
        kind = PermissionDenied if isinstance(error, PermissionError) else SupervisorError
        raise kind(
            f"{path} cannot be written: {error.strerror or error}.", hint="Name another file."
        ) from error


def write_json(
    path: Path,
    document: Mapping[str, Any],
    *,
    schema: int = 1,
    mode: int | None = PRIVATE,
    durable: bool = False,
) -> None:
    """Write a file that no change of another process can be lost from; see `replacing`, else `JsonFile`."""
    text = json.dumps({"schema": schema, **document}, indent=2)
    replace_file(path, f"{text}\n".encode(), mode=mode, durable=durable)


def read_json(
    path: Path, parse: Callable[[dict[str, Any]], T], *, schema: int = 1, exact: bool = False
) -> T | None:
    """
    What ``parse`` makes of the object in the file; None where there is none that this program understands.

    ``parse`` gets the object without its schema; for a damaged one it may raise `NOT_OURS` and
    SupervisorError.  A schema above ``schema`` is not understood; with ``exact``, as caches need it, one
    below is not either.
    """
    try:
        return _load(path, parse, schema, exact=exact)
    except (OSError, SupervisorError):
        return None


@dataclass(frozen=True, slots=True)
class JsonFile(Generic[T]):
    """
    A file that several processes change: `update` holds its lock from reading to writing.

    ``empty`` is what a missing file holds.  ``remedy`` is the hint for a file that is damaged; without a
    remedy a damaged file counts as empty and is written anew.  Of the rest see `read_json` and `replacing`.
    """

    path: Path
    parse: Callable[[dict[str, Any]], T]
    render: Callable[[T], Mapping[str, Any]]
    empty: T
    schema: int = 1
    exact: bool = False
    remedy: str = ""
    durable: bool = False

    def read(self) -> T:
        """Raises ConfigError for a damaged or newer file, PermissionDenied or SupervisorError."""
        try:
            return self._load()
        except PermissionError:
            raise PermissionDenied(f"{self.path} may not be read.") from None
        except OSError as error:
            raise SupervisorError(f"{self.path} cannot be read: {error.strerror}.") from None

    def known(self) -> T:
        """The same, and ``empty`` for whatever cannot be read."""
        try:
            return self.read()
        except SupervisorError:
            return self.empty

    def update(self, change: Callable[[T], T]) -> tuple[T, T]:
        """
        The content before and after ``change``, which is written if it differs.

        Raises as `read` and `replacing` do, and SupervisorError if another process holds the lock for long.
        A file of a newer schema is left alone.
        """
        with _locked(self.path):
            try:
                before = self._load()
            except _Damaged:
                if self.remedy:
                    raise
                before = self.empty
            except OSError as error:
                raise cannot_write(self.path, error) from error
            after = change(before)
            if after != before:
                write_json(self.path, self.render(after), schema=self.schema, durable=self.durable)
        return before, after

    def _load(self) -> T:
        try:
            return _load(self.path, self.parse, self.schema, exact=self.exact, remedy=self.remedy)
        except (FileNotFoundError, NotADirectoryError):
            return self.empty


class _Damaged(ConfigError):
    """Not what this program, or an older one, wrote."""


def _load(
    path: Path, parse: Callable[[dict[str, Any]], T], schema: int, *, exact: bool, remedy: str = ""
) -> T:
    """Raises OSError, _Damaged, and ConfigError for a newer schema."""
    content = path.read_bytes()
    try:
        document = json.loads(content)
        found = document.pop("schema", document.pop("format", 0))  # what 0.1 wrote has "format", or neither
        if found == schema or (found < schema and not exact):
            return parse(document)
    except (*NOT_OURS, SupervisorError) as error:
        why = f"not JSON ({error})" if isinstance(error, json.JSONDecodeError) else "not what it should be"
        why += f" ({error})" if isinstance(error, Malformed) else ""  # which texts no secrets are in
        raise _Damaged(f"{path}: this is {why}.", hint=f"Mend it. {remedy}".rstrip()) from error
    if exact:
        raise _Damaged(f"{path} is of another version.")
    raise ConfigError(
        f"{path} was written by a newer goss-supervisor (schema {found}).",
        hint=f"Update this one. {remedy}".rstrip(),
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    place, deadline = path.with_name(f"{path.name}.lock"), time.monotonic() + _LOCK_SECONDS
    while (lock := Lock.acquire(place, {"pid": os.getpid()})) is None:
        if time.monotonic() > deadline:
            holder = (held_by(place) or {}).get("pid", "unknown")
            raise SupervisorError(
                f"{path} cannot be changed: another goss-supervisor (pid {holder}) has held {place} "
                f"for {_LOCK_SECONDS:g} s.",
                hint="Does that process hang? End it, and try again.",
            )
        time.sleep(_PAUSE_SECONDS)
    try:
        yield
    finally:
        lock.release()


def is_at(path: Path, known: os.stat_result | None) -> bool:
    """Whether the file at this path is the one that is known."""
    try:
        return known is not None and os.path.samestat(path.lstat(), known)
    except OSError:
        return False


def _rename(staged: Path, path: Path) -> None:
    for pause_seconds in _PAUSES_SECONDS:
        with suppress(PermissionError):
            staged.replace(path)
            return
        time.sleep(pause_seconds)
    staged.replace(path)


def _sweep(folder: Path) -> None:
    """Remove what writers left that were killed."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _STAGED.fullmatch(entry.name) and entry.stat().st_mtime < time.time() - _LEFTOVER_SECONDS:
                Path(entry.path).unlink()


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system can: Windows opens no folders."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
