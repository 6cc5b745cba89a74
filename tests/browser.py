"""
Provides a browser for the tests of the web UI: ``python tests/browser.py``, as bin/test does.

One that is there serves; else Debian's is installed where root runs the tests.  Prints a shell assignment on
stdout and what it does on stderr; ends with 1, and the reason, where there is none.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

VARIABLE = "GOSS_TEST_CHROMIUM"
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PACKAGE = "chromium-headless-shell"  # Debian 12 and newer; 100 MB to download, 310 MB on disk
DOWNLOAD_SECONDS = 180.0  # for all of it
INSTALL_SECONDS = 300.0
PROOF_SECONDS = 60.0
APT = (
    *("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"),
    *("-o", "DPkg::Lock::Timeout=60", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20"),
)
INSTALL = ("install", "--no-install-recommends", PACKAGE)


class NoBrowser(Exception):
    """Why there is none."""


def say(text: str) -> None:
    print(f"test: {text}", file=sys.stderr, flush=True)


def browser() -> str:
    """Its path.  Raises NoBrowser."""
    found = os.environ.get(VARIABLE) or first_that_works()
    if found:
        return found
    if not shutil.which("apt-get"):
        raise NoBrowser("none that works is on PATH, and only apt-get is known to install one")
    if os.geteuid() != 0:
        raise NoBrowser(f"none that works is on PATH; sudo apt-get install {PACKAGE} helps")
    install()
    found = first_that_works()
    if not found:
        raise NoBrowser(f"{PACKAGE} is installed, and shows no page")
    return found


def first_that_works() -> str | None:
    return next((path for path in map(shutil.which, NAMES) if path and works(path)), None)


def works(path: str) -> bool:
    """Whether it shows a page: Ubuntu's is a script that asks for another way to install it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        flags = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}", "--dump-dom")
        done = run([path, *flags, "about:blank"], PROOF_SECONDS)
    return done is not None and done.returncode == 0 and "<html>" in done.stdout


def install() -> None:
    """Raises NoBrowser.  Only what may be cut off without harm is: downloads."""
    say(f"installing Chromium: {PACKAGE}")
    began = time.monotonic()
    for words in ((*INSTALL, "--download-only"), ("update",), (*INSTALL, "--download-only")):
        left = DOWNLOAD_SECONDS - (time.monotonic() - began)
        done = run([*APT, *words], max(left, 1.0))
        if done is not None and done.returncode == 0 and words != ("update",):
            break
    else:
        raise NoBrowser(f"{PACKAGE} could not be downloaded: {last_words(done)}")
    done = run([*APT, "--no-download", *INSTALL], INSTALL_SECONDS)
    if done is None or done.returncode != 0:
        raise NoBrowser(f"{PACKAGE} could not be installed: {last_words(done)}")


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


def main() -> int:
    try:
        print(f"export {VARIABLE}={shlex.quote(browser())}")
    except NoBrowser as reason:
        say(f"no Chromium: {reason}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
