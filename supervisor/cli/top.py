"""``top``: servers, requests and logs in a terminal, redrawn in place.  `top_frame` says what is shown."""

from __future__ import annotations

import locale
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING

import click

from ..errors import EXIT_OK, SupervisorError, UsageError
from ..gateway.pages.log_follow import LogPiece, LogPlace, read_on
from ..home import client
from ..home.places import daemon_log
from ..paths import Paths
from .top_frame import frame
from .top_look import SHARES, Look, Style
from .top_state import TopState

if TYPE_CHECKING:
    import curses  # not everywhere: see `_refuse_without_curses`

TICK_SECONDS = 0.25  # until a message, or the next second, is seen; a key is seen at once
REDRAW_SECONDS = 1.0
AGAIN_SECONDS = 1.0  # until a daemon that went away is asked again
ELSEWHERE = "goss-supervisor status --watch and goss-supervisor requests --follow print lines instead."


@click.command()
def top() -> int:
    """
    Watch servers, memory, requests and logs in this terminal; q leaves, ? helps.

    It changes nothing.  Without a daemon it waits for one.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("top needs a terminal.", hint=ELSEWHERE)
    _refuse_without_curses()
    for ending in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        if hasattr(signal, ending):
            signal.signal(getattr(signal, ending), _leave)
    return _Top(Paths.from_environment()).run()


def _refuse_without_curses() -> None:
    """Raises UsageError for a terminal that cannot move its cursor, and SupervisorError without curses."""
    try:
        import curses  # noqa: PLC0415 - Windows' Python has none
    except ImportError:
        extra = "pipx inject goss-supervisor windows-curses, or install goss-supervisor[top]"
        system = "This Python was built without curses; the system's own python3 has it."
        hint = extra if sys.platform == "win32" else system
        raise SupervisorError(
            "top needs curses, which this Python lacks.", hint=f"{hint}\n{ELSEWHERE}"
        ) from None
    kind = os.environ.get("TERM", "")
    with suppress(curses.error):
        curses.setupterm()
        if kind != "dumb" and (sys.platform == "win32" or curses.tigetstr("cup")):
            return
    raise UsageError(f"top cannot move the cursor of this terminal (TERM={kind}).", hint=ELSEWHERE)


def _leave(number: int, _: FrameType | None) -> None:
    """So that the terminal is put back on the way out."""
    raise SystemExit(128 + number)


def _stop(_: int, __: FrameType | None) -> None:
    """Ctrl+Z.  Curses would ignore the one that is typed while it draws."""
    import curses  # noqa: PLC0415 - see `_refuse_without_curses`

    if sys.platform != "win32":
        curses.endwin()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)  # comes back after fg
        signal.signal(signal.SIGTSTP, _stop)
        curses.doupdate()  # takes the terminal again


class _Top:
    """Messages, keys and time go into the state; frames of it are drawn."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._state = TopState(daemon_log(paths))
        self._heard: SimpleQueue[Callable[[], bool]] = SimpleQueue()
        self._log: tuple[Path, LogPlace | None] = Path(), None  # which, and how far it is read

    def run(self) -> int:
        import curses  # noqa: PLC0415 - see `_refuse_without_curses`

        state = self._state
        self._listen({"op": "watch"}, state.status_came, state.gone)
        self._listen({"op": "requests", "since": 0, "follow": True}, state.requests_came, state.requests_gone)
        curses.set_escdelay(25)
        if sys.platform != "win32":  # before curses begins: it then leaves the signal to us
            signal.signal(signal.SIGTSTP, _stop)
        return curses.wrapper(self._look)

    def _look(self, screen: curses.window) -> int:
        terminal, drawn = _Terminal(screen), -REDRAW_SECONDS
        while os.isatty(0):  # else it was closed
            key = terminal.key()
            if key and not self._state.pressed(key, terminal.page()):
                break
            if self._hear() or key or time.monotonic() - drawn >= REDRAW_SECONDS:
                terminal.draw(self._state)
                drawn = time.monotonic()
        return EXIT_OK

    def _hear(self) -> bool:
        """Whether something came that a person should see at once."""
        is_urgent = False
        with suppress(Empty):
            while True:
                is_urgent |= self._heard.get_nowait()()
        if file := self._state.log_file():
            is_urgent |= self._read_log(file)
        return is_urgent

    def _read_log(self, file: Path) -> bool:
        """As `_hear`."""
        path, place = self._log
        try:
            piece = read_on(file, place if path == file else None)
        except OSError:
            piece = LogPiece(None, [], reset=False)
        self._log = file, piece.place
        return self._state.log_came(piece.lines, piece.reset or path != file)

    def _listen(
        self,
        request: client.Message,
        came: Callable[[client.Message, bool], bool],
        gone: Callable[[str, str], bool],
    ) -> None:
        """In a thread, for ever; what comes is for the thread that draws."""

        def listen() -> None:
            if sys.platform != "win32":  # signals are for the thread that draws
                signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            while True:
                is_first = True
                try:
                    for message in client.stream(self._paths, request):
                        self._heard.put(partial(came, message, is_first))
                        is_first = False
                except (SupervisorError, OSError, ValueError) as error:
                    self._heard.put(partial(gone, str(error), getattr(error, "hint", "")))
                time.sleep(AGAIN_SECONDS)

        threading.Thread(target=listen, daemon=True).start()


class _Terminal:
    """A screen of curses: keys by name, and frames."""

    def __init__(self, screen: curses.window) -> None:
        import curses  # noqa: PLC0415 - see `_refuse_without_curses`

        self._screen, self._error = screen, curses.error
        with suppress(curses.error):  # not every terminal can hide it
            curses.curs_set(0)
        screen.timeout(round(TICK_SECONDS * 1000))
        if sys.platform != "win32":
            signal.signal(signal.SIGCONT, self._go_on)
        self._styles: dict[Style, int] = {
            "title": curses.A_BOLD,
            "dim": curses.A_DIM,
            "current": curses.A_REVERSE,
        }
        if curses.has_colors():
            curses.use_default_colors()  # the terminal's own, not white on black
        if curses.has_colors() and not os.environ.get("NO_COLOR"):
            for number in range(1, 7):  # a pair for each of the colours but black and white
                curses.init_pair(number, number, -1)
            red, green, yellow = map(curses.color_pair, (1, 2, 3))
            self._styles |= {"good": green, "warn": yellow, "bad": red}
            pairs = map(curses.color_pair, (6, 5, 4, 2, 3, 1))
            self._styles |= {
                share: pair | curses.A_REVERSE for share, pair in zip(SHARES, pairs, strict=True)
            }
        self._keys = {
            "\t": "tab",
            "\n": "enter",
            "\r": "enter",
            "\x1b": "escape",
            "\x7f": "backspace",
            "\b": "backspace",
            curses.KEY_BACKSPACE: "backspace",
            curses.KEY_ENTER: "enter",
            curses.KEY_BTAB: "back tab",
            curses.KEY_UP: "up",
            curses.KEY_DOWN: "down",
            curses.KEY_LEFT: "left",
            curses.KEY_RIGHT: "right",
            curses.KEY_PPAGE: "page up",
            curses.KEY_NPAGE: "page down",
            curses.KEY_HOME: "home",
            curses.KEY_END: "end",
        }
        encoding = "utf-8" if sys.platform == "win32" else locale.getencoding()  # not the one of UTF-8 mode
        has_blocks = encoding.lower().replace("-", "") == "utf8" and os.environ.get("TERM") != "linux"
        self._look = Look(80, 24, encoding, has_blocks)

    def key(self) -> str:
        """Its name, or what it typed; empty after `TICK_SECONDS`.  ``resize`` is one too."""
        try:
            typed = self._screen.get_wch()
        except self._error:
            return ""
        return self._keys.get(typed, typed if isinstance(typed, str) else "other")

    def page(self) -> int:
        return max(self._screen.getmaxyx()[0] - 3, 1)

    def _go_on(self, _: int, __: FrameType | None) -> None:
        """After fg, others may have written over what curses thinks is there."""
        self._screen.clearok(True)  # at the next frame

    def draw(self, state: TopState) -> None:
        """Curses sends only what changed."""
        height, width = self._screen.getmaxyx()
        drawn = frame(state, replace(self._look, width=width, height=height), time.time())
        state.backs[state.view] = drawn.back
        self._screen.erase()
        for row, line in enumerate(drawn.lines):
            with suppress(self._error):  # it complains after writing the last cell of a screen
                self._screen.move(row, 0)
                for style, text in line:
                    self._screen.addstr(text, self._styles.get(style, 0))
        self._screen.refresh()
