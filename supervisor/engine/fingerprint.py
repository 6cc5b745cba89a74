"""
Which build a command is.

A release's llama-server is a launcher of 9 KB around libraries that lie beside it, so those count too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

_LIBRARIES = ("*.so", "*.so.*", "*.dylib", "*.dll")
_PREFIX_LIBRARIES = ("libllama*", "libggml*", "libmtmd*")  # in ../lib, where cmake --install puts them


def stamp(files: Sequence[Path]) -> str:
    """
    Quick: path, size and time of change of the files and the libraries around the first; hex.

    Raises FileNotFoundError, or another OSError.
    """
    return _hex(_described(file) for file in (*files, *_libraries(files[0])))


def digest(files: Sequence[Path]) -> str:
    """Slow: SHA-256 over the content of the files, and name, size and time of the libraries; hex."""
    contents = []
    for file in files:
        with file.open("rb") as opened:
            contents.append(hashlib.file_digest(opened, "sha256").hexdigest())
    around = [_described(file).rpartition("/")[2] for file in _libraries(files[0])]
    if len(contents) == 1 and not around:
        return contents[0]
    return _hex([*contents, *around])


def _described(file: Path) -> str:
    stat = file.stat()
    return f"{file.as_posix()} {stat.st_size} {stat.st_mtime_ns}"


def _libraries(binary: Path) -> list[Path]:
    real = binary.resolve()
    return sorted(
        {*_matching(real.parent, _LIBRARIES), *_matching(real.parent.parent / "lib", _PREFIX_LIBRARIES)}
    )


def _matching(folder: Path, patterns: Sequence[str]) -> Iterator[Path]:
    for pattern in patterns:
        yield from (file for file in folder.glob(pattern) if file.is_file())


def _hex(parts: Iterator[str] | Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
