"""
What a llama-server can do, from its ``--version``, ``--help`` and ``--list-devices``.

Results are cached by a stamp of the binary and its libraries.  A binary that does not run raises an error
with the cause and the remedy.  The files of a build tell whether it was compiled with AMX: one without it
rearranges no weights for it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..disk import noexec_mount
from ..errors import NoSuitableEngine, NotFound, PermissionDenied, SupervisorError, VerificationFailed
from ..files import SHARED, read_json, write_json
from ..options.help import Capabilities, parse_help
from ..tool import NO_VARIABLES, ToolResult, run_engine

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
    variables: Mapping[str, str] = NO_VARIABLES,
) -> Inspection:
    """
    Ask a build, or remember its answers: answers are kept by digest, found by size and time of change.

    ``files`` are what the build consists of, where that is not ``command[0]``.  ``fresh_devices`` asks
    for the devices again: they change with drivers and cables, the rest does not.  ``variables`` are a
    profile's, with which a build may see other devices, so those answers are kept by themselves.
    Raises NotFound, PermissionDenied or NoSuitableEngine with the cause for a build that does not run.
    """
    asking = _Asking(tuple(command), timeout_seconds, variables)
    files = tuple(files) or (Path(command[0]),)
    under = f"-{_hex([f'{name}={value}' for name, value in sorted(variables.items())])}" if variables else ""
    try:
        quick = cache_dir / f"{stamp(files)}{under}.json"
        known = _recall(quick)
        if known is None and cache_dir.is_dir():  # the same build at another place, or touched
            known = _recall(cache_dir / f"{digest(files)}{under}.json")
    except OSError as error:
        raise cannot_start(files[0], error) from error
    if known is None:
        known = Inspection(asking.capabilities(), asking.devices(), digest(files))
    elif fresh_devices:
        known = Inspection(known.capabilities, asking.devices(), known.digest)
    elif quick.exists():
        return known
    _remember((quick, cache_dir / f"{known.digest}{under}.json"), known)
    return known


@dataclass(frozen=True, slots=True)
class _Asking:
    command: tuple[str, ...]
    timeout_seconds: float
    variables: Mapping[str, str]

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

    def _ask(self, question: str) -> ToolResult:
        binary = Path(self.command[0])
        try:
            outcome = run_engine([*self.command, question], self.timeout_seconds, self.variables)
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
    return Inspection(capabilities, tuple(map(str, kept["devices"])), str(kept["digest"]))


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

    A release's llama-server is a launcher of 9 KB around libraries next to it, so those count too.
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


_REMOUNT = "Mount it with exec, or set GOSS_SUPERVISOR_HOME to a folder on another disk."
BUILD_HINT = "Build one on this machine: --set engine.source=build"

# library (a prefix of its file name): packages on Debian and Ubuntu, and on Fedora
_PACKAGES = {
    "libgomp": ("libgomp1", "libgomp"),
    "libssl": ("libssl3", "openssl-libs"),
    "libcrypto": ("libssl3", "openssl-libs"),
    "libcurl": ("libcurl4", "libcurl"),
    "libstdc++": ("libstdc++6", "libstdc++"),
    "libvulkan": ("libvulkan1", "vulkan-loader"),
    "libopenblas": ("libopenblas0", "openblas"),
}
# the same: what else there is to do
_REMEDIES = {
    ("libcudart", "libcublas"): "Put the files of the matching cudart archive next to the binary.",
    ("libcuda.",): "Install the NVIDIA driver.",
    ("libamdhip",): "Install ROCm, or use the vulkan flavour.",
    ("libllama", "libggml", "libmtmd"): "It belongs next to the binary: keep the whole folder together.",
}
_MACHINES = {0x03: "x86", 0x16: "s390x", 0x28: "arm", 0x3E: "x86_64", 0xB7: "aarch64", 0xF3: "riscv"}  # elf.h
_FORMATS = {b"MZ": "Windows", b"\xcf\xfa\xed\xfe": "macOS", b"\xca\xfe\xba\xbe": "macOS", b"\x7fELF": "Linux"}
_ENDS = {  # Windows NTSTATUS, as Python gives it
    0xC0000135: "a DLL that it needs is missing (the Visual C++ runtime, or one from its own folder)",
    0xC000007B: "a DLL that it needs is of another architecture",
    0xC000001D: "it uses instructions that this CPU does not have",
}
_SIGILL = -4


def cannot_start(binary: Path, error: OSError) -> SupervisorError:
    """For a binary that the system would not even start."""
    if binary.is_dir():
        return NotFound(
            f"{binary} is a folder, not a llama-server.", hint=f"Name the program: {binary / 'llama-server'}"
        )
    if error.errno == errno.ENOENT and not binary.exists():
        return NotFound(
            f"There is no {binary}.", hint="Set engine.path to a llama-server, or use another source."
        )
    if error.errno == errno.ENOENT:
        return NoSuitableEngine(
            f"{binary} exists, but the interpreter or loader that it names does not: it is built for another "
            "system (another C library, or a virtual environment that lost its Python).",
            hint=BUILD_HINT,
        )
    if error.errno == errno.EACCES and (mount := noexec_mount(binary)):
        return PermissionDenied(
            f"{binary} may not be executed: {mount} is mounted noexec.",
            hint=f"sudo mount -o remount,exec {mount}, or move it to another file system.",
        )
    if error.errno == errno.EACCES:
        return PermissionDenied(f"{binary} may not be executed by this user.", hint=f"chmod +x {binary}")
    if error.errno == errno.ENOEXEC or getattr(error, "winerror", None) in {193, 216}:
        return NoSuitableEngine(
            f"{binary} is not a program for this machine: {_made_for(binary)}.", hint=BUILD_HINT
        )
    return NoSuitableEngine(f"{binary} cannot be started: {error.strerror or error}.", hint=BUILD_HINT)


def does_not_answer(
    binary: Path, question: str, outcome: ToolResult, timeout_seconds: float
) -> SupervisorError:
    """For a binary that started, and failed where every llama-server succeeds."""
    if outcome.returncode is None:
        return NoSuitableEngine(
            f"{binary} {question} did not end within {timeout_seconds:g} s.",
            hint=f"Run it by hand to see what it waits for: {binary} {question}",
        )
    cause, hint = _cause(outcome.returncode, outcome.stderr + outcome.stdout)
    return NoSuitableEngine(f"{binary} does not run: {cause}.", hint=hint)


def _cause(returncode: int, output: str) -> tuple[str, str]:
    """In words, and what to do about it."""
    if found := re.search(r"([^\s:]+): failed to map segment from shared object", output):
        return f"the shared library {found[1]} is on a file system that is mounted noexec", _REMOUNT
    if found := re.search(r"(?:loading shared libraries:|Library not loaded:) ([^\s:]+)", output):
        library = os.path.basename(found[1])  # noqa: PTH119 - a name in a text, no path of ours
        return f"the shared library {library} is not installed", remedy(library)
    if found := re.search(r"version [`'](GLIBC(?:XX)?_[\d.]+)' not found", output):
        return f"it needs {found[1]}, which is newer than what this system has", BUILD_HINT
    if found := re.search(r"failed to parse server config file:? ?(.*)", output):
        return f"llama.cpp's own config file is broken ({found[1]})", "Mend or remove that file."
    if returncode == _SIGILL:
        return "it uses instructions that this CPU does not have", BUILD_HINT
    if status := _ENDS.get(returncode & 0xFFFFFFFF):
        return status, BUILD_HINT
    last = next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "it said nothing")
    ended = f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"
    return f"{ended}: {last[:300]}", BUILD_HINT


def remedy(library: str) -> str:
    for prefix, packages in _PACKAGES.items():
        if library.startswith(prefix):
            return f"Debian, Ubuntu: apt-get install {packages[0]}; Fedora: dnf install {packages[1]}"
    return next((text for prefixes, text in _REMEDIES.items() if library.startswith(prefixes)), BUILD_HINT)


def _made_for(binary: Path) -> str:
    try:
        with binary.open("rb") as file:
            head = file.read(20)
    except OSError:
        return "it cannot be read"
    system = next((name for magic, name in _FORMATS.items() if head.startswith(magic)), None)
    if system is None:
        return "it is no executable file" if head else "it is empty"
    if system == "Linux" and len(head) == 20:  # e_ident[EI_DATA] is the byte order, e_machine is at 18
        order = "big" if head[5] == 2 else "little"
        machine = int.from_bytes(head[18:20], order)  # type: ignore[arg-type]
        system += f" on {_MACHINES.get(machine, f'machine {machine:#x}')}"
    return f"it is built for {system}, this is {sys.platform} on {platform.machine()}"


_AMX = "amx_int8"
_OF_GGML_CPU = b"AMX_INT8"  # in every build of ggml's CPU backend for x86: the name of the feature
# the class of its buffers, as compilers for Unix and for Windows name it: ggml/src/ggml-cpu/amx/amx.cpp
_WITH_AMX = (b"3amx17extra_buffer_typeE", b"extra_buffer_type@amx@cpu@ggml")


def features_used(command: Sequence[str], features: Sequence[str]) -> tuple[str, ...]:
    """
    ``features`` as `Hardware` names them, without AMX where the files of this engine show that it has none.
    What cannot be read decides nothing.
    """
    if _AMX not in features or not command or _has_amx(Path(command[0])) is not False:
        return tuple(features)
    return tuple(each for each in features if not each.startswith("amx"))


def _has_amx(program: Path) -> bool | None:
    """None: not known, as for an engine that is a package of Python's."""
    found = None
    with suppress(OSError):
        folder = program.resolve(strict=True).parent
        for file in [*sorted(folder.glob("*ggml-cpu*")), program]:
            with (
                file.open("rb") as opened,
                suppress(ValueError),  # an empty file
                mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content,
            ):
                if any(content.find(each) >= 0 for each in _WITH_AMX):
                    return True
                if content.find(_OF_GGML_CPU) >= 0:
                    found = False
    return found
