"""
A program that runs ``COMMAND ...`` and ends it when its own stdin closes.

The parent holds the other end of that pipe.  So on every system the command never outlives the parent, even
after kill -9.  Exits as the command did; 128 + N is signal N.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence

GRACE_SECONDS = 1.0
_STDIN = 0


def main(command: Sequence[str]) -> int:
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_stdin, args=(child,), daemon=True).start()
    return _exit_code(child.wait())


def _end_with_stdin(child: subprocess.Popen[bytes]) -> None:
    while os.read(_STDIN, 1024):
        pass
    child.terminate()
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()


def _exit_code(returncode: int) -> int:
    """Negative is a signal; Windows has codes above 31 bits, which ``exit`` takes as signed ones only."""
    if returncode < 0:
        return 128 - returncode
    return returncode - 2**32 if returncode >= 2**31 else returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
