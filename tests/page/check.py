"""
Types and lint of the page's JavaScript: ``python -I tests/page/check.py``, as bin/check does.

Needs node with npm; what they need is installed beside this file, pinned by package-lock.json, at the first call
and after each change of that file.  Where that cannot be, it says why and fails nothing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
STATIC = HERE.parents[1] / "supervisor/gateway/pages/static"
OLDEST_NODE = (20, 19)
INSTALL_SECONDS = 120.0


class CannotCheck(Exception):
    """Why not."""


def main() -> int:
    try:
        npm = node_tool("npm")
        install(npm)
    except CannotCheck as reason:
        print(f"check: the page's JavaScript is not checked: {reason}", file=sys.stderr)
        return 0
    programs = MODULES / ".bin"
    commands = (
        ([programs / "tsc", "-p", HERE], HERE),
        ([programs / "oxlint", "-c", HERE / "oxlint.json", "."], STATIC),
    )
    return max(subprocess.run(command, cwd=folder).returncode for command, folder in commands)


def node_tool(name: str) -> str:
    """The path of what comes with a node that is new enough.  Raises CannotCheck."""
    node, tool = shutil.which("node"), shutil.which(name)
    if node is None or tool is None:
        raise CannotCheck(f"there is no {name if node else 'node'}")
    told = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    version = tuple(map(int, re.findall(r"\d+", told)[:2]))
    if version < OLDEST_NODE:
        raise CannotCheck(f"node {told.strip()} is older than {'.'.join(map(str, OLDEST_NODE))}")
    return tool


def install(npm: str) -> None:
    """Raises CannotCheck.  It may leave half of it: the copy of the lock file comes last."""
    lock, made_for = HERE / "package-lock.json", MODULES / "made-for.json"
    if made_for.is_file() and made_for.read_bytes() == lock.read_bytes():
        return
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    try:
        done = subprocess.run(command, cwd=HERE, timeout=INSTALL_SECONDS, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        raise CannotCheck("npm took too long") from None
    if done.returncode != 0:
        raise CannotCheck(f"npm: {(done.stderr or done.stdout).strip()[-500:]}")
    shutil.copyfile(lock, made_for)


if __name__ == "__main__":
    sys.exit(main())
