"""
Presses Ctrl+C for a program on Windows that has its own console.

llama-server exits cleanly on Ctrl+C only, not on Ctrl+Break or a closed window, and a process can send it in
its own console only.  A process has at most one console, and the daemon may need its own.  So a short-lived
helper, this file run as a program, attaches to llama-server's console and sends it there.  It starts quickly
because it imports nothing of the package.

The calls and their order are those of Microsoft's "Console Functions".
Run under Wine, not yet on a real Windows.
"""

import sys
from typing import Protocol

_CTRL_C_EVENT = 0
_EVERYBODY = 0  # the process group: all who share the console; with another number Ctrl+C reaches nobody


class Console(Protocol):
    """What is used of kernel32; each answers 0 where it failed."""

    def FreeConsole(self) -> int: ...  # noqa: N802 - Windows' own name

    def AttachConsole(self, pid: int, /) -> int: ...  # noqa: N802 - the same

    def SetConsoleCtrlHandler(self, handler: None, add: bool, /) -> int: ...  # noqa: N802 - the same

    def GenerateConsoleCtrlEvent(self, event: int, group: int, /) -> int: ...  # noqa: N802 - the same


def press_ctrl_c(pid: int, console: Console) -> bool:
    """
    Leave this process's console for that of ``pid``, and press Ctrl+C there; whether that was possible.

    This process ignores it.  It fails where ``pid`` has ended, has no console, or is another user's.
    """
    console.FreeConsole()  # it fails where there is none, which is as good
    if not console.AttachConsole(pid):
        return False
    heard_by_others = console.SetConsoleCtrlHandler(None, True)
    pressed = heard_by_others and console.GenerateConsoleCtrlEvent(_CTRL_C_EVENT, _EVERYBODY)
    console.FreeConsole()
    return bool(pressed)


def let_children_hear(console: Console) -> None:
    """Undo what a starter may have set: that Ctrl+C is ignored is inherited, by llama-server too."""
    console.SetConsoleCtrlHandler(None, False)


if sys.platform == "win32":
    import ctypes

    def kernel() -> Console:
        """The console of this process."""
        console: Console = ctypes.WinDLL("kernel32")
        return console

    if __name__ == "__main__":
        sys.exit(0 if press_ctrl_c(int(sys.argv[1]), kernel()) else 1)
