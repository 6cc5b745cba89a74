"""Debian's packages, for tests of what runs only with them; where root runs the tests, and never by force."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DOWNLOAD_SECONDS = 180.0  # for all of it
INSTALL_SECONDS = 300.0
POLICY = Path("/usr/sbin/policy-rc.d")  # Debian's packages ask it before they start what they bring
APT = (
    *("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"),
    *("-o", "DPkg::Lock::Timeout=60", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20"),
)


class CannotInstall(Exception):
    """Why not."""


def say(text: str) -> None:
    print(f"test: {text}", file=sys.stderr, flush=True)


def install(*packages: str) -> None:
    """Raises CannotInstall.  Only what may be cut off without harm is: downloads."""
    if not shutil.which("apt-get"):
        raise CannotInstall("only apt-get is known to install it")
    if os.geteuid() != 0:
        raise CannotInstall(f"sudo apt-get install {' '.join(packages)} helps")
    say(f"installing {', '.join(packages)}")
    wanted = ("install", "--no-install-recommends", *packages)
    began = time.monotonic()
    for words in ((*wanted, "--download-only"), ("update",), (*wanted, "--download-only")):
        left = DOWNLOAD_SECONDS - (time.monotonic() - began)
        done = run([*APT, *words], max(left, 1.0))
        if done is not None and done.returncode == 0 and words != ("update",):
            break
    else:
        raise CannotInstall(f"the download failed: {last_words(done)}")
    with no_services():
        done = run([*APT, "--no-download", *wanted], INSTALL_SECONDS)
    if done is None or done.returncode != 0:
        raise CannotInstall(f"the installation failed: {last_words(done)}")


@contextmanager
def no_services() -> Iterator[None]:
    """What is installed in this block does not start by itself, as nginx would, on port 80."""
    is_ours = not POLICY.exists()
    if is_ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if is_ours:
            POLICY.unlink()


def run(command: list[str], seconds: float) -> subprocess.CompletedProcess[str] | None:
    """None where it took longer, or cannot be run."""
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except (subprocess.TimeoutExpired, OSError):
        return None


def last_words(done: subprocess.CompletedProcess[str] | None) -> str:
    said = done.stderr.strip().splitlines() if done else []
    return said[-1] if said else "it took too long"
