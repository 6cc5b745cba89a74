"""
The address behind the gateway: where a launch's engine listens, so that only the gateway reaches it.

A Unix socket is fixed in the plan and needs no key: the runtime directory is 0700.  A loopback port is open
to every user of the machine, so each launch has a new one, and a secret key where the engine takes one.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..engine.adapters.known import adapter_of
from ..errors import StartFailed
from ..plan.launch import LaunchPlan
from ..plan.listen import connect_address, is_socket_path
from .diagnosis import Diagnosis
from .probe_target import ProbeTarget

KEY_BYTES = 32
_TAKEN = "bind-failed"  # the kind of sign that an engine leaves then


def with_inner_address(plan: LaunchPlan) -> LaunchPlan:
    """
    The plan of this very launch: with its own port and key, where the plan leaves them open.  Raises
    StartFailed for a host without an address, or without a free port.
    """
    if not _leaves_it_open(plan):
        return plan
    port = _free_port(connect_address(plan.host))
    key = secrets.token_urlsafe(KEY_BYTES)
    at = adapter_of(plan.adapter).at_address(plan.argv, plan.env, port, key)
    return replace(plan, argv=at.argv, env=at.env, port=port, secrets={**plan.secrets, **at.secrets})


def leave_nothing(plan: LaunchPlan) -> None:
    """The server is gone; its socket file stays behind, as llama-server leaves it."""
    if plan.behind_gateway and is_socket_path(plan.host):
        Path(plan.host).unlink(missing_ok=True)


class SocketPin:
    """
    Keeps the way to a server's socket though its file is removed, as logind does with all of a user's at the
    logout.  Linux reaches a socket by any descriptor of its file; elsewhere the file is needed.
    """

    def __init__(self) -> None:
        self._fd: int | None = None

    @property
    def descriptor(self) -> int | None:
        """Of the file that it holds; for another program, which may `inherit` it."""
        return self._fd

    def inherit(self, target: ProbeTarget, descriptor: int) -> ProbeTarget:
        """The same way to this socket, from the program that held it before an upgrade in place."""
        self.let_go()
        self._fd = descriptor
        return replace(target, pinned=f"/proc/self/fd/{descriptor}")

    def hold(self, target: ProbeTarget) -> ProbeTarget:
        """The way to this socket that stays, until `let_go`; the same where there is none."""
        if target.pinned:
            return target
        self.let_go()
        if sys.platform == "linux" and target.unix and Path("/proc/self/fd").is_dir():
            with suppress(OSError):
                self._fd = os.open(target.address, os.O_PATH | os.O_CLOEXEC)
                return replace(target, pinned=f"/proc/self/fd/{self._fd}")
        return target

    def let_go(self) -> None:
        """The server has gone."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def with_another_try(plan: LaunchPlan, diagnosis: Diagnosis) -> Diagnosis:
    """Where somebody took the port between our look and the engine's: the next launch has another one."""
    is_taken = _leaves_it_open(plan) and diagnosis.kind == _TAKEN
    return replace(diagnosis, retryable=True) if is_taken else diagnosis


def _leaves_it_open(plan: LaunchPlan) -> bool:
    return plan.behind_gateway and plan.port == 0 and not is_socket_path(plan.host)


def _free_port(address: str) -> int:
    """Free a moment ago; the kernel does not give the same one to the next who asks."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            raise StartFailed(
                f"No port of {address} is free for the engine: {error.strerror}.",
                hint="goss-supervisor restart, when other programs have ended",
            ) from error
        return int(probe.getsockname()[1])
