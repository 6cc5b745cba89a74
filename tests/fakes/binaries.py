"""Tiny scripts that answer as a llama-server does: ``--version``, ``--help`` and ``--list-devices``."""

from __future__ import annotations

from pathlib import Path

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
