"""
Several computers in one: network namespaces on one switch.  Nothing that they send leaves this machine.

Needs root and ``ip`` (iproute2); a test says by `why_not` why it is skipped.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

MARK = "gosstest"
NETWORK = "198.51.100"  # for documents (RFC 5737)
COMMAND_SECONDS = 30.0
_SWITCH = "switch"
_CLONE_NEWNET = 0x40000000


def why_not() -> str:
    """What keeps this machine from having namespaces; "" for nothing."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces take root"
    if not shutil.which("ip"):
        return "network namespaces take the program ip (iproute2)"
    name = f"{MARK}-{os.getpid()}-try"
    tried = _try("netns", "add", name)
    _try("netns", "del", name)
    return f"no network namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


class Hosts:
    """
    Computers with these names; the cable of each leads to one switch.  Leaving the context ends whatever runs
    in them.  What a test run left behind that was killed goes first.
    """

    def __init__(self, *names: str) -> None:
        self._addresses = {name: f"{NETWORK}.{number}" for number, name in enumerate(names, 1)}

    def __enter__(self) -> Self:
        _sweep()
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in (*self._addresses, _SWITCH):
            _remove(_full(name))

    def _build(self) -> None:
        switch = _full(_SWITCH)
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", switch, "link", "set", "br0", "up")
        for name, address in self._addresses.items():
            host, port = _full(name), _port(name)
            _ip("netns", "add", host)
            ends = ("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host)
            _ip("-n", switch, *ends)
            _ip("-n", switch, "link", "set", port, "master", "br0", "up")
            _ip("-n", host, "link", "set", "lo", "up")
            _ip("-n", host, "addr", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", host, "link", "set", "eth0", "up")

    def address(self, name: str) -> str:
        return self._addresses[name]

    def command(self, name: str, *words: str) -> list[str]:
        """These words as a command of that computer; the process keeps its pid."""
        return ["ip", "netns", "exec", _full(name), *words]

    def unplug(self, name: str) -> None:
        """Pull its cable.  It sees that; nobody else does."""
        _ip("-n", _full(_SWITCH), "link", "set", _port(name), "down")

    def plug(self, name: str) -> None:
        _ip("-n", _full(_SWITCH), "link", "set", _port(name), "up")

    def connect(self, name: str, address: str, port: int, seconds: float) -> socket.socket:
        """A connection from that computer, for this process.  Raises OSError."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net", "rb") as here, open(f"/run/netns/{_full(name)}", "rb") as there:
            _enter(libc, there.fileno())
            try:
                made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)  # a socket stays where it was made
            finally:
                _enter(libc, here.fileno())
        made.settimeout(seconds)
        made.connect((address, port))
        return made


def _enter(libc: ctypes.CDLL, namespace: int) -> None:
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _full(name: str) -> str:
    return f"{MARK}-{os.getpid()}-{name}"


def _port(name: str) -> str:
    return f"to-{name}"


def _try(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], capture_output=True, text=True, timeout=COMMAND_SECONDS)


def _ip(*words: str) -> None:
    done = _try(*words)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr.strip()}"


def _remove(namespace: str) -> None:
    """With all that runs in it: it would go on, and hold it."""
    deadline = time.monotonic() + COMMAND_SECONDS
    while (pids := _try("netns", "pids", namespace).stdout.split()) and time.monotonic() < deadline:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.01)
    _try("netns", "del", namespace)


def _sweep() -> None:
    for line in _try("netns", "list").stdout.splitlines():
        found = re.match(rf"{MARK}-(\d+)-\S+", line)
        if found and not Path(f"/proc/{found[1]}").exists():
            _remove(found[0])
