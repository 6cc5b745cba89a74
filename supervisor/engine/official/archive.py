"""
Unpacks an archive of llama.cpp (.zip or .tar.gz) without trusting anything in it.

Accepted are folders, files with mode 0644 or 0755, hard links to files of the same archive, and symbolic
links that stay inside.  All else is refused, and so are names such as ``A`` and ``a`` that would be one file
on another system.
"""

from __future__ import annotations

import gzip
import os
import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, NoReturn

from ...disk import cannot_write
from ...errors import VerificationFailed

MOST_BYTES = 8 * 2**30
MOST_MEMBERS = 20_000
MOST_RATIO = 100  # of unpacked to packed: real ones have 2 to 4
FREE_BYTES = 64 * 2**20  # up to which the ratio does not matter
SERVERS = ("llama-server", "llama-server.exe")

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|\ud800-\udfff]')  # on Windows; : is a drive or a stream
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # files of that name there


def unpack(archive: Path, folder: Path) -> None:
    """
    Into ``folder``, which is new or empty; what is there after an error is of no use.

    Raises VerificationFailed that names the member, SupervisorError for a full disk, FileExistsError for a
    folder that holds something.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    most_bytes = min(MOST_BYTES, max(FREE_BYTES, archive.stat().st_size * MOST_RATIO))
    unpacking = _Unpacking(archive.name, folder, most_bytes)
    with archive.open("rb") as file:
        for member in members(file, archive.name):
            try:
                unpacking.add(member)
            except OSError as error:
                raise cannot_write(folder / member.name, error) from error


def find_server(folder: Path) -> Path:
    """The one ``llama-server`` below ``folder``.  Raises VerificationFailed where there is none, or two."""
    found = [
        Path(where) / next(name for name in SERVERS if name in files)
        for where, _, files in os.walk(folder)
        if not set(SERVERS).isdisjoint(files)
    ]
    if len(found) != 1:
        places = ", ".join(sorted(each.parent.relative_to(folder).as_posix() for each in found))
        problem = (
            f"llama-server is in several folders of it ({places})" if found else "it has no llama-server"
        )
        raise VerificationFailed(f"What was unpacked in {folder} is no llama.cpp: {problem}.", hint=HINT)
    return found[0]


@dataclass(slots=True)
class _Unpacking:
    archive: str
    folder: Path
    most_bytes: int
    known: dict[str, tuple[str, MemberKind]] = field(
        default_factory=dict
    )  # by what another system calls the same
    count: int = 0
    declared_bytes: int = 0

    def add(self, member: Member) -> None:
        """Raises OSError of the disk, and VerificationFailed."""
        self._check_bounds(member)
        parts = self._steps(member, member.name)
        if not parts and member.kind == "folder":
            return
        if not parts or member.kind == "other":
            self._refuse(member, "neither a file, a folder nor a link")
        self._register(member, parts)
        path = self.folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.kind == "folder":
            path.mkdir(exist_ok=True)
        elif member.kind == "file":
            _write(member, path)
        elif member.kind == "symlink":
            path.symlink_to(self._way(member, parts))
        else:
            path.hardlink_to(self._earlier_file(member))

    def _check_bounds(self, member: Member) -> None:
        """Before it is written: a member never holds more than it declares."""
        self.count += 1
        self.declared_bytes += member.size_bytes
        if self.count > MOST_MEMBERS:
            self._refuse(member, f"one more than the {MOST_MEMBERS} members that an archive may have")
        if self.declared_bytes > self.most_bytes:
            self._refuse(member, f"more than the {self.most_bytes >> 20} MiB that this archive may hold")

    def _steps(self, member: Member, name: str) -> tuple[str, ...]:
        """A name as steps down from the folder; () is the folder itself."""
        if name.startswith("/"):
            self._refuse(member, f"an absolute path, {name!r}")
        parts = tuple(part for part in name.split("/") if part not in {"", "."})
        for part in parts:
            if part == "..":
                self._refuse(member, f"a path out of its folder, {name!r}")
            if _FORBIDDEN.search(part) or _DEVICES.fullmatch(part) or part[-1] in ". ":
                self._refuse(member, f"a name that not every system has, {part!r}")
        return parts

    def _register(self, member: Member, parts: tuple[str, ...]) -> None:
        """No file twice, none in place of a folder, none behind a link."""
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[:depth])
            is_whole = depth == len(parts)
            kind: MemberKind = member.kind if is_whole else "folder"
            before, was = self.known.get(_casefolded(name), (name, "folder"))
            if before != name:
                self._refuse(member, f"on other systems the same as {before!r}")
            if not is_whole and was != "folder":
                self._refuse(member, f"in {name!r}, which is no folder")
            if is_whole and _casefolded(name) in self.known and (was, kind) != ("folder", "folder"):
                self._refuse(member, "there twice")
            self.known[_casefolded(name)] = name, kind

    def _way(self, member: Member, parts: tuple[str, ...]) -> str:
        """
        Where a symbolic link leads: up at most as far as the folder, and from there only down.

        Nothing lies behind a link, so the folder of this one is real, and going up is exact; going down
        through other links leads inside, since those were checked in the same way.
        """
        steps = [step for step in member.target.split("/") if step not in {"", "."}]
        ups = next((at for at, step in enumerate(steps) if step != ".."), len(steps))
        if member.target.startswith("/") or ups >= len(parts) or ".." in steps[ups:]:
            self._refuse(member, f"a link out of its folder, to {member.target!r}")
        if not self._steps(member, "/".join(steps[ups:])):
            self._refuse(member, f"a link to a folder above it, {member.target!r}")
        return "/".join(steps)

    def _earlier_file(self, member: Member) -> Path:
        parts = self._steps(member, member.target)
        name = "/".join(parts)
        if (
            self.known.get(_casefolded(name)) not in {(name, "file"), (name, "hardlink")}
            or name == member.name
        ):
            self._refuse(member, f"a hard link to {member.target!r}, which is no file before it")
        return self.folder.joinpath(*parts)

    def _refuse(self, member: Member, why: str) -> NoReturn:
        raise VerificationFailed(f"{self.archive} is refused: {member.name!r} is {why}.", hint=HINT)


def _write(member: Member, path: Path) -> None:
    """Written to the disk before it counts: an engine that is installed must survive a power cut."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o755 if member.executable else 0o644), "wb") as file:
        for chunk in member.content():
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def _casefolded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


HINT = "The archive is damaged, or not one of llama.cpp. Nothing of it is used."

_CHUNK_BYTES = 256 * 1024
# More is asked for by a header that would fill the memory: at once, or since 3.14.10 in pieces of 1 MiB.
_MOST_AT_ONCE_BYTES = 512 * 1024
_MOST_LINK_BYTES = 4096
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENCRYPTED = 1
# What the readers raise for files that somebody has tampered with; NotImplementedError is a RuntimeError.
_UNREADABLE = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError,
    LookupError, ArithmeticError, RuntimeError,
)  # fmt: skip

MemberKind = Literal["folder", "file", "symlink", "hardlink", "other"]


@dataclass(frozen=True, slots=True)
class Member:
    """
    ``target`` is what a link names: for a hard link a member, for a symbolic link a way from its folder.

    ``content`` reads a file, never more than ``size_bytes``; it must be done before the next member.
    """

    name: str
    kind: MemberKind
    size_bytes: int = 0
    executable: bool = False
    target: str = ""
    content: Callable[[], Iterator[bytes]] = lambda: iter(())


def members(file: IO[bytes], archive: str) -> Iterator[Member]:
    """The first bytes tell the kind of archive.  Raises VerificationFailed; ``archive`` is its name."""
    start = file.read(4)
    file.seek(0)
    if start in {b"PK\x03\x04", b"PK\x05\x06"}:
        return _of_zip(file, archive)
    if start[:2] == b"\x1f\x8b":
        return _of_tar(file, archive)
    raise VerificationFailed(f"{archive} is neither a .zip nor a .tar.gz.", hint=HINT)


def _of_zip(file: IO[bytes], archive: str) -> Iterator[Member]:
    with _readable(archive), zipfile.ZipFile(file) as opened:
        for info in opened.infolist():
            yield _zip_member(opened, info, archive)


def _zip_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo, archive: str) -> Member:
    mode = info.external_attr >> 16  # of Unix; 0 in archives made on Windows
    size = info.file_size
    if info.compress_type not in _METHODS or info.flag_bits & _ENCRYPTED:
        raise VerificationFailed(f"{archive}: {info.filename} is encrypted or oddly compressed.", hint=HINT)
    if info.is_dir():
        return Member(info.filename, "folder")
    if stat.S_ISLNK(mode) and size <= _MOST_LINK_BYTES:
        return Member(info.filename, "symlink", target=opened.read(info).decode())
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
        return Member(info.filename, "other")
    return Member(
        info.filename,
        "file",
        size,
        executable=bool(mode & 0o111),
        content=lambda: _content(lambda: opened.open(info), archive),
    )


def _of_tar(file: IO[bytes], archive: str) -> Iterator[Member]:
    with (
        _readable(archive),
        _Bounded(fileobj=file, mode="rb") as plain,
        tarfile.open(fileobj=plain, mode="r:") as opened,
    ):
        for info in opened:
            yield _tar_member(opened, info, archive)
        while plain.read(_CHUNK_BYTES):  # the checksum is at the end of it
            pass


def _tar_member(opened: tarfile.TarFile, info: tarfile.TarInfo, archive: str) -> Member:
    if info.isdir():
        return Member(info.name, "folder")
    if info.issym() or info.islnk():
        return Member(info.name, "symlink" if info.issym() else "hardlink", target=info.linkname)
    if not info.isreg():
        return Member(info.name, "other")
    return Member(
        info.name,
        "file",
        info.size,
        executable=bool(info.mode & 0o111),
        content=lambda: _content(lambda: opened.extractfile(info), archive),
    )


def _content(opening: Callable[[], IO[bytes] | None], archive: str) -> Iterator[bytes]:
    with _readable(archive):
        file = opening()
        assert file is not None
        with file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk


class _Bounded(gzip.GzipFile):
    """Gzip that is not read in one piece, however long a header says that it is."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _MOST_AT_ONCE_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


@contextmanager
def _readable(archive: str) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise VerificationFailed(f"{archive} cannot be unpacked: {error}.", hint=HINT) from error
