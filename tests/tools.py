"""
Provides what some tests need of the system: ``python -I tests/tools.py``, as bin/test does.

Process supervisors, shells, load balancers, a browser and ip: what is there serves, else Debian's is installed
where root runs the tests.  Prints a shell assignment on stdout, and on stderr what could not be had, and why;
nothing of it is a failure, since not every system has it, and the tests in question are skipped then.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from apt import CannotInstall, install, run, say

CHROMIUM = "GOSS_TEST_CHROMIUM"
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
BROWSER = "chromium-headless-shell"  # Debian 12 and newer; 100 MB to download, 310 MB on disk
PROOF_SECONDS = 60.0
# program and package; of OpenRC not, which brings files into /etc that change what the machine is
PACKAGES = {
    "runsv": "runit",
    "s6-svscan": "s6",
    "zsh": "zsh",
    "fish": "fish",
    "haproxy": "haproxy",
    "nginx": "nginx-light",
    "ip": "iproute2",
}


def browser() -> str:
    """Its path.  Raises CannotInstall."""
    found = os.environ.get(CHROMIUM) or first_that_works()
    if not found:
        install(BROWSER)
        found = first_that_works()
    if not found:
        raise CannotInstall(f"{BROWSER} is installed, and shows no page")
    return found


def first_that_works() -> str | None:
    return next((path for path in map(shutil.which, BROWSERS) if path and works(path)), None)


def works(path: str) -> bool:
    """Whether it shows a page: Ubuntu's is a script that asks for another way to install it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        flags = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}", "--dump-dom")
        done = run([path, *flags, "about:blank"], PROOF_SECONDS)
    return done is not None and done.returncode == 0 and "<html>" in done.stdout


def main() -> int:
    for program, package in PACKAGES.items():
        try:
            if not shutil.which(program):
                install(package)
        except CannotInstall as reason:
            say(f"no {package}, so the tests with it are skipped: {reason}")
    try:
        print(f"export {CHROMIUM}={shlex.quote(browser())}")
    except CannotInstall as reason:
        say(f"no Chromium, so the tests of the web UI are skipped: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
