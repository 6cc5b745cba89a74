"""What is written into a page, between its marks."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

from supervisor import __version__

from ..e2e.conftest import BUILT


def put(page: Path, marks: tuple[str, str], text: str) -> None:
    """Raises ValueError where the marks are missing."""
    before, _, rest = page.read_text(encoding="utf-8").partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not end:
        raise ValueError(f"{page} has no {marks[0].strip()}")
    page.write_text("".join([before, marks[0], text, marks[1], after]), encoding="utf-8")


def versions() -> str:
    """When, where and with what: for people."""
    said = subprocess.run([os.environ[BUILT], "--version"], capture_output=True, text=True, check=True)
    build = (said.stdout + said.stderr).partition("build ")[2].partition(",")[0]
    cores = os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{time.strftime('%-d %B %Y')}, {platform.machine()}, {cores} cores, {memory:.0f} GiB, "
        f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}, "
        f"goss-supervisor {__version__}, llama-server b{build}"
    )
