"""Debian keeps Python's ensurepip in a package of its own; without it no environment can have pip."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from steps import SetupError, Steps

if TYPE_CHECKING:
    from collections.abc import Sequence


def require_ensurepip(steps: Steps, base: Path) -> None:
    """Raises SetupError, with the command to run, where ensurepip is missing and is not ours to install."""
    if _has_ensurepip():
        return
    lack = f"{base} lacks the module ensurepip, without which no environment can be made."
    if not (Path("/etc/debian_version").exists() and shutil.which("apt-get")):
        raise SetupError(
            f"{lack}\nInstall the package of your system that holds Python's venv and ensurepip."
        )
    package = "python{}.{}-venv".format(*sys.version_info)
    if sys.platform != "win32" and os.geteuid() == 0:
        _apt_install(steps, package)
    if not _has_ensurepip():
        raise SetupError(f"{lack}\nInstall it with: sudo apt-get install {package}")


def _has_ensurepip() -> bool:
    importlib.invalidate_caches()
    try:
        importlib.import_module("ensurepip")
    except ImportError:
        return False
    return True


def _apt_install(steps: Steps, package: str) -> None:
    apt: Sequence[str] = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y")
    steps.run("updating the list of Debian packages", [*apt, "update"])  # one broken source is no failure
    steps.require(f"installing {package}", [*apt, "install", "--no-install-recommends", package])
