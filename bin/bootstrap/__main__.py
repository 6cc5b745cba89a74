"""
Makes, repairs or updates this checkout's private virtual environment: bootstrap ROOT run|dev [COMMAND…].

Started by bin/bootstrap.sh (and goss-supervisor.cmd) when something changed, with whatever Python they
found, so the files in this folder import the standard library only.  COMMAND, if any, then takes this
process's place.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from checkout import Checkout, Need
from environment import set_up
from steps import SetupError, say

if TYPE_CHECKING:
    from types import FrameType

EXIT_PERMISSION = 11  # as in supervisor/errors.py, which cannot be imported yet


def main(root: str, need: Need, command: list[str]) -> int:
    """Sets up; returns the exit status, or becomes ``command``."""
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), leave)
    try:
        set_up(Checkout(Path(root)), need)
    except SetupError as error:
        say(str(error))
        return error.code
    except KeyboardInterrupt:
        say("interrupted; the next start sets up the environment anew")
        return 128 + signal.SIGINT
    except PermissionError as error:
        say(f"cannot set up the environment: {error}\nRun this once as the owner of {root}.")
        return EXIT_PERMISSION
    except OSError as error:
        say(f"cannot set up the environment in {root}: {error}")
        return 1
    if command:
        os.execv(command[0], command)  # noqa: S606 - the program that was asked for
    return 0


def leave(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], "dev" if sys.argv[2] == "dev" else "run", sys.argv[3:]))
