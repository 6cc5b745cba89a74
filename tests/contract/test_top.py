"""``top`` in a terminal of its own: what it shows of a daemon, and how it leaves the terminal."""

from __future__ import annotations

import os
import re
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pyte
import pytest

pytest.importorskip("fcntl", reason="there are no pseudo-terminals")

import fcntl
import termios

from ..e2e.terminals import CTRL_C, CTRL_S, CTRL_Z, Terminal, open_terminal
from ..fakes.launching import BOUND_SECONDS, end_daemon, wait_until
from .test_session import lived_in, post

TOP = [sys.executable, "-I", "-m", "supervisor", "top"]
ALTERNATE, MAIN = b"\x1b[?1049h", b"\x1b[?1049l"  # screens of xterm


home = pytest.fixture(lived_in)


def environment(root, **more):
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {"GOSS_SUPERVISOR_HOME": str(root), "TERM": "xterm", "LANG": "C.UTF-8"} | more


class Seen:
    """A program in a terminal of its own, and what a person sees there."""

    def __init__(self, terminal: Terminal, width: int, height: int) -> None:
        self.terminal, self.said = terminal, b""
        self.before = self.modes
        self._screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self._screen)
        self.resize(width, height)

    @property
    def text(self) -> str:
        return "\n".join(self._screen.display)

    @property
    def modes(self):
        """Of its input and output: what ``stty -a`` shows."""
        return termios.tcgetattr(self.terminal.screen)

    def resize(self, width: int, height: int) -> None:
        self._screen.resize(height, width)
        size = struct.pack("HHHH", height, width, 0, 0)
        fcntl.ioctl(self.terminal.screen, termios.TIOCSWINSZ, size)

    def type(self, keys: str) -> None:
        self.terminal.type(keys)

    def until(self, *words: str) -> None:
        """Until all of them are seen at once."""
        deadline = time.monotonic() + BOUND_SECONDS
        while not all(word in self.text for word in words):
            assert self._read(deadline), f"{words} did not come:\n{self.text}"

    def until_not(self, word: str) -> None:
        deadline = time.monotonic() + BOUND_SECONDS
        while word in self.text:
            assert self._read(deadline), f"{word} stays:\n{self.text}"

    def end(self) -> int:
        """The exit code, once all was read."""
        deadline = time.monotonic() + BOUND_SECONDS
        while self._read(deadline):
            pass
        return self.terminal.process.wait(BOUND_SECONDS)

    def _read(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        assert left > 0, f"it did not end: {self.text}"
        assert select.select([self.terminal.screen], [], [], left)[0], (
            f"nothing more came:\n{self.text}\n{self.said[-500:]!r}"
        )
        with suppress(OSError):  # how Linux tells that nobody holds the other end any more
            if more := os.read(self.terminal.screen, 65536):
                self.said += more
                self._stream.feed(more)
                return True
        return False

    def assert_restored(self) -> None:
        assert self.modes == self.before
        assert self.said.rindex(MAIN) > self.said.rindex(ALTERNATE)


@contextmanager
def opened(root, *, command=TOP, **env):
    terminal = open_terminal(command, environment(root, **env))
    try:
        yield Seen(terminal, 80, 24)
    finally:
        if terminal.process.poll() is None:
            terminal.process.kill()
        terminal.process.wait(BOUND_SECONDS)
        os.close(terminal.screen)


def test_three_servers_a_request_under_way_and_the_way_out(home, tmp_path):
    gate = tmp_path / "gate"
    home.start(home.plan("p"))
    home.load(home.plan("q"))
    home.load(home.plan("r", chat_gate=gate))
    asking = threading.Thread(target=post, args=(f"http://127.0.0.1:{home.port}", "r"))
    asking.start()
    home.watch(lambda now: any(each["requests_under_way"] for each in now["servers"]))
    with opened(home.root) as seen:
        seen.until("SERVER", "tokens/s", "PHASE", "answer", "RAM")
        assert [line.split()[:2] for line in seen.text.splitlines() if " ready " in line] == [
            ["p", "ready"],
            ["q", "ready"],
            ["r", "ready"],
        ]
        gate.touch()
        asking.join(BOUND_SECONDS)
        seen.type("2")
        seen.until("STATUS", "200")
        seen.until_not("ENDPOINT")  # the first view may list the request too, with its status
        seen.resize(140, 30)
        seen.until("ENDPOINT", "/v1/chat/completions")
        seen.type("3")
        seen.until("the daemon", "metrics asked for")
        seen.type("q")
        assert seen.end() == 0
        seen.assert_restored()


def test_a_daemon_that_goes_away_and_comes_back(home):
    home.start(home.plan("p"))
    with opened(home.root) as seen:
        seen.until(" ready ")
        end_daemon(home.root)
        seen.until("no daemon: waiting", "goss-supervisor start")
        home.start(home.plan("p"))
        seen.until(" ready ")
        assert "no daemon" not in seen.text


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda terminal: terminal.type(CTRL_C), 130),
        (lambda terminal: terminal.process.send_signal(signal.SIGTERM), 128 + signal.SIGTERM),
        (lambda terminal: terminal.process.send_signal(signal.SIGHUP), 128 + signal.SIGHUP),
    ],
    ids=["Ctrl+C", "SIGTERM", "SIGHUP"],
)
def test_the_terminal_is_restored_however_it_ends(tmp_path, end, code):
    with opened(tmp_path) as seen:
        seen.until("no daemon: waiting")
        assert seen.modes != seen.before, "no line is waited for, and nothing is echoed"
        end(seen.terminal)
        assert seen.end() == code
        seen.assert_restored()
        assert b"Traceback" not in seen.said


@contextmanager
def opened_by_a_shell(tmp_path):
    script = 'set -m; "$@"; echo "it is stopped"; read go; fg >/dev/null; echo "it ended with $?"'
    with opened(tmp_path, command=["/bin/sh", "-c", script, "sh", *TOP]) as seen:
        seen.until("no daemon: waiting")
        yield seen
        seen.until("it is stopped")
        assert seen.modes == seen.before
        seen.type("\r")
        while "it is stopped" in seen.text:
            assert seen._read(time.monotonic() + BOUND_SECONDS), seen.said
        seen.type("q")
        seen.until("it ended with 0")


def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(tmp_path):
    with opened_by_a_shell(tmp_path) as seen:
        seen.type(CTRL_Z)
    assert "it ended with 0" in seen.text


@pytest.mark.skipif(sys.platform != "linux", reason="only there is seen what a program waits in")
def test_ctrl_z_is_heard_in_the_middle_of_drawing(tmp_path):
    with opened_by_a_shell(tmp_path) as seen:
        shell = psutil.Process(seen.terminal.process.pid)
        if Path(f"/proc/{shell.pid}/wchan").read_text() == "0":  # it waits for top
            pytest.skip("this kernel does not tell")
        (top,) = shell.children()
        waits_in = Path(f"/proc/{top.pid}/wchan")
        seen.type(CTRL_S + "2")  # the terminal takes no more, and the other view is to be drawn
        wait_until(lambda: waits_in.read_text() in {"wait_woken", "n_tty_write"})
        seen.type(CTRL_Z)
    assert "it ended with 0" in seen.text


def test_a_terminal_without_utf8_or_colours_gets_neither(home):
    home.start(home.plan("p"))
    with opened(home.root, LANG="C", LC_ALL="C", NO_COLOR="1", TERM="xterm-256color") as seen:
        seen.until("tokens/s", "first token")
        assert seen.said.isascii()
        assert not re.search(rb"\x1b\[[0-9;]*[34][0-7][;m]", seen.said), "a colour"
        seen.type("q")
        assert seen.end() == 0


@pytest.mark.parametrize("kind", ["dumb", "no-such-terminal", ""])
def test_a_terminal_that_cannot_move_its_cursor_is_told_of_other_commands(tmp_path, kind):
    with opened(tmp_path, TERM=kind, NO_COLOR="1") as seen:
        assert seen.end() == 2
        assert "status --watch" in seen.text
        assert "requests --follow" in seen.text


def test_without_a_terminal_too(tmp_path):
    done = subprocess.run(
        TOP, env=environment(tmp_path), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "top needs a terminal" in done.stderr
    assert "status --watch" in done.stderr
    assert "requests --follow" in done.stderr
