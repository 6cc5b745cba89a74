"""Why a llama-server at hand does not run, and what a person can do about it."""

from __future__ import annotations

import errno
import os
import platform
import re
import sys
from pathlib import Path

from ..errors import NoSuitableEngine, NotFound, PermissionDenied, SupervisorError
from ..tool import Outcome

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
    if error.errno == errno.EACCES:
        return PermissionDenied(
            f"{binary} may not be executed by this user.",
            hint=f"chmod +x {binary} (and check that its file system is not mounted noexec)",
        )
    if error.errno == errno.ENOEXEC or getattr(error, "winerror", None) in {193, 216}:
        return NoSuitableEngine(
            f"{binary} is not a program for this machine: {_made_for(binary)}.", hint=BUILD_HINT
        )
    return NoSuitableEngine(f"{binary} cannot be started: {error.strerror or error}.", hint=BUILD_HINT)


def does_not_answer(binary: Path, question: str, outcome: Outcome, timeout_seconds: float) -> SupervisorError:
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
    if system == "Linux" and len(head) == 20:  # e_ident[EI_DATA] is the byte order, e_machine stands at 18
        order = "big" if head[5] == 2 else "little"
        machine = int.from_bytes(head[18:20], order)  # type: ignore[arg-type]
        system += f" on {_MACHINES.get(machine, f'machine {machine:#x}')}"
    return f"it is built for {system}, this is {sys.platform} on {platform.machine()}"
