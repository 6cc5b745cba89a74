"""Tiny scripts that answer as a llama-server does: ``--version``, ``--help`` and ``--list-devices``."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from supervisor.model.demo import DEMO_ANSWER

ERAS = Path(__file__).parents[1] / "unit" / "options_eras"
VERSIONS = {
    6100: "version: 6100 (65c797c4)",
    11549: "version: 0.7.0-dev (build 11549, commit 1a2b3c4)",
}


def server(
    file: Path,
    build: int = 11549,
    *,
    devices: str = "(none)",
    calls: Path | None = None,
    first: str = "",
) -> Path:
    """
    A script at ``file``.  ``calls`` gets a line for each start; ``first`` runs before the answer.

    It says its version on stderr and the rest on stdout, as the real one.
    """
    count = f'echo "$1" >> "{calls}"' if calls else ":"
    return script(
        file,
        f"""{first}
{count}
case "$1" in
  --version) echo "{VERSIONS[build]}" >&2 ;;
  --help) cat "{ERAS / f"b{build}.help.txt"}" ;;
  --list-devices) printf 'Available devices:\\n  {devices}\\n' ;;
  *) exit 1 ;;
esac
""",
    )


def script(file: Path, text: str) -> Path:
    """An executable shell script; one that stands there already is replaced, not changed while it may run."""
    file.parent.mkdir(parents=True, exist_ok=True)
    staged = file.with_name(f"{file.name}.staged")
    staged.write_text(f"#!/bin/sh\n{text}")
    staged.chmod(0o755)
    staged.replace(file)
    return file


def fake_server(file: Path, *, devices: Sequence[str] = (), **faults: object) -> Path:
    """
    The scripted llama-server as a binary at ``file``; see `llama_server.py` for its faults.

    It serves, and answers as the demo model does unless it ``says`` something else.
    """
    fake = Path(__file__).with_name("llama_server.py")
    written = json.dumps({"devices": list(devices), "says": DEMO_ANSWER, **faults})
    command = shlex.join([sys.executable, "-S", "-E", "-u", str(fake)])
    return script(file, f'FAKE_LLAMA={shlex.quote(written)} exec {command} "$@"\n')
