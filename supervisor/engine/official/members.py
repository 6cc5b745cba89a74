"""What an archive says that it holds, .zip and .tar.gz alike: read in order, and nothing believed yet."""

from __future__ import annotations

import gzip
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Literal

from ...errors import VerificationFailed

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

Kind = Literal["folder", "file", "symlink", "hardlink", "other"]


@dataclass(frozen=True, slots=True)
class Member:
    """
    ``target`` is what a link names: for a hard link a member, for a symbolic link a way from its folder.

    ``content`` reads a file, never more than ``size_bytes``; it must be done before the next member.
    """

    name: str
    kind: Kind
    size_bytes: int = 0
    executable: bool = False
    target: str = ""
    content: Callable[[], Iterator[bytes]] = lambda: iter(())


def members(file: IO[bytes], archive: str) -> Iterator[Member]:
    """The kind of archive is told by its first bytes.  Raises VerificationFailed; ``archive`` is its name."""
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
