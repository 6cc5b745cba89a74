"""
The program's entry: ``goss-supervisor`` and ``python -m supervisor``.

The distribution ``supervisor`` (supervisord) installs into a folder of the same name: each overwrites the
other's ``__init__.py`` or removes it with itself.  Only we have this file, so the check is here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

EXIT_CONFIG = 78  # as ConfigError's; errors.py is not ours for certain yet
EXIT_INTERRUPTED = 130

BESIDE_SUPERVISORD = """\
error: goss-supervisor is installed next to supervisord, {metadata}
in {folder}; both need the import name "supervisor", so neither works reliably there.
hint: give goss-supervisor an environment of its own: pip uninstall goss-supervisor, then
      pipx install goss-supervisor   or   uv tool install goss-supervisor
      (and pip install --force-reinstall supervisor, if supervisord is to stay here)"""

DAMAGED = """\
error: the package in {folder} is not whole: its __init__.py is missing or is not goss-supervisor's,
as happens when the distribution "supervisor" (supervisord) was installed over it or removed.
hint: pip install --force-reinstall goss-supervisor, or give it an environment of its own:
      pipx install goss-supervisor   or   uv tool install goss-supervisor"""


def main() -> int:
    """Runs the command line; returns the exit code."""
    trouble = clash(Path(__file__).parent)
    if trouble is not None:
        print(trouble, file=sys.stderr)
        return EXIT_CONFIG
    if os.name == "posix":  # Windows' tasks have none by design, see cli/start.py
        hold_standard_streams()
        close_to_others()
    try:
        from .cli.app import main as run  # noqa: PLC0415 - only what was found whole is imported
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return run(sys.argv[1:])


def hold_standard_streams() -> None:
    """One that was closed would be None for us, and its number that of the next file that is opened."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: the one in question
            os.set_inheritable(descriptor, True)
            setattr(sys, name, open(descriptor, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - as long as we live


def close_to_others() -> None:
    """A umask that lets everybody change what we write is none that anybody wants; a group may."""
    mask = os.umask(0o022)
    if mask & 0o002:
        os.umask(mask)


def clash(package: Path) -> str | None:
    """What is wrong with the environment that holds ``package``, as text for people; None if nothing."""
    beside = os.listdir(package.parent)  # noqa: PTH208 - names only: this runs at every start
    for name in beside:
        if name.startswith("supervisor-") and name.endswith((".dist-info", ".egg-info", ".egg")):
            return BESIDE_SUPERVISORD.format(metadata=name, folder=package.parent)
    if not hasattr(sys.modules[__package__ or "supervisor"], "__version__"):
        return DAMAGED.format(folder=package)
    return None


if __name__ == "__main__":
    sys.exit(main())
