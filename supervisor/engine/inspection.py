"""What a llama-server can do, by its own word: ``--version``, ``--help`` and ``--list-devices``."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import NoSuitableEngine, SupervisorError, VerificationFailed
from ..files import SHARED, read_json, write_json
from ..options.help import Capabilities, parse_help
from ..tool import Outcome, run_engine
from .broken import cannot_start, does_not_answer

FORMAT = 1  # of the cache; also to be raised when parse_help learns to read more
TIMEOUT_SECONDS = 30.0
_NOT_DEVICES = ("(none)", "BLAS")  # BLAS: an accelerator of the CPU, nothing is placed on it
_LIBRARIES = ("*.so", "*.so.*", "*.dylib", "*.dll")
_PREFIX_LIBRARIES = ("libllama*", "libggml*", "libmtmd*")  # in ../lib, where cmake --install puts them


@dataclass(frozen=True, slots=True)
class Inspection:
    """``devices`` as ``--list-devices`` prints them; ``digest`` is a SHA-256, hex."""

    capabilities: Capabilities
    devices: tuple[str, ...]
    digest: str


def inspect(
    command: Sequence[str],
    cache_dir: Path,
    *,
    files: Sequence[Path] = (),
    fresh_devices: bool = False,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Inspection:
    """
    Ask a build, or remember what it said: answers are kept by digest, found by size and time of change.

    ``files`` are what the build consists of, where that is not ``command[0]``.  ``fresh_devices`` asks
    for the devices again: they change with drivers and cables, the rest does not.
    Raises NotFound, PermissionDenied or NoSuitableEngine with the cause for a build that does not run.
    """
    asking = _Asking(tuple(command), timeout_seconds)
    files = tuple(files) or (Path(command[0]),)
    try:
        quick = cache_dir / f"{stamp(files)}.json"
        known = _recall(quick)
        if known is None and cache_dir.is_dir():  # the same build at another place, or touched
            known = _recall(cache_dir / f"{digest(files)}.json")
    except OSError as error:
        raise cannot_start(files[0], error) from error
    if known is None:
        known = Inspection(asking.capabilities(), asking.devices(), digest(files))
    elif fresh_devices:
        known = Inspection(known.capabilities, asking.devices(), known.digest)
    elif quick.exists():
        return known
    _remember((quick, cache_dir / f"{known.digest}.json"), known)
    return known


@dataclass(frozen=True, slots=True)
class _Asking:
    command: tuple[str, ...]
    timeout_seconds: float

    def capabilities(self) -> Capabilities:
        version = self._ask("--version")
        try:
            return parse_help(self._ask("--help").stdout, version.stderr + version.stdout)
        except VerificationFailed as error:
            raise NoSuitableEngine(
                f"{self.command[0]} is not a llama-server: {error}", hint=error.hint
            ) from error

    def devices(self) -> tuple[str, ...]:
        return parse_devices(self._ask("--list-devices").stdout)

    def _ask(self, question: str) -> Outcome:
        binary = Path(self.command[0])
        try:
            outcome = run_engine([*self.command, question], self.timeout_seconds)
        except OSError as error:
            raise cannot_start(binary, error) from error
        if outcome.returncode != 0:
            raise does_not_answer(binary, question, outcome, self.timeout_seconds)
        return outcome


def parse_devices(text: str) -> tuple[str, ...]:
    """The indented lines after ``Available devices:``; empty for a build that has only the CPU."""
    _, _, listed = text.partition("Available devices:")
    lines = (line.strip() for line in listed.splitlines() if line.startswith(" "))
    return tuple(line for line in lines if line and not line.startswith(_NOT_DEVICES))


def _recall(file: Path) -> Inspection | None:
    """None for what is not there or cannot be read: it is asked again, and written anew."""
    return read_json(file, _inspection, schema=FORMAT, exact=True)


def _inspection(kept: dict[str, Any]) -> Inspection:
    capabilities = Capabilities.from_json(kept["capabilities"])
    return Inspection(capabilities, tuple(kept["devices"]), kept["digest"])


def _remember(files: Sequence[Path], what: Inspection) -> None:
    """A cache that cannot be written costs time, and nothing else."""
    capabilities = what.capabilities.to_json()
    kept = {"digest": what.digest, "devices": what.devices, "capabilities": capabilities}
    with contextlib.suppress(SupervisorError):
        for file in files:
            write_json(file, kept, schema=FORMAT, mode=SHARED)


def stamp(files: Sequence[Path]) -> str:
    """
    Quick: path, size and time of change of the files and the libraries around the first; hex.

    Raises FileNotFoundError, or another OSError.
    """
    return _hex(_described(file) for file in (*files, *_libraries(files[0])))


def digest(files: Sequence[Path]) -> str:
    """
    Slow: SHA-256 over the content of the files, and name, size and time of the libraries; hex.

    A release's llama-server is a launcher of 9 KB around libraries that lie next to it, so those count too.
    """
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
    places = ((real.parent, _LIBRARIES), (real.parent.parent / "lib", _PREFIX_LIBRARIES))
    found = {file for folder, patterns in places for pattern in patterns for file in folder.glob(pattern)}
    return sorted(file for file in found if file.is_file())


def _hex(parts: Iterator[str] | Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
