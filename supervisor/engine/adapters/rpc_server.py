"""
llama.cpp's ``ggml-rpc-server`` (``rpc-server`` before b9824): a machine's memory for llama-servers elsewhere.

It speaks no HTTP.  What is here of its protocol holds for all versions (b10434 and b11434 were tried): a
connection begins with HELLO, and its answer has the version.  It serves one connection at a time; others wait
in the kernel's queue, and are not answered.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from . import llamacpp_signs
from .adapter import Ending, EngineProtocol, LaunchAddress, Sign, sign

NAME: Final = "rpc-server"
HELLO: Final = b"\x0e" + (24).to_bytes(8, "little") + bytes(24)
"""The command, the size of what follows, and what the client's transport can do besides TCP: nothing."""
OLD_HELLO: Final = b"\x0e" + bytes(8)
"""Of earlier protocols, without abilities.  A server closes on the one that it does not know."""
RESET_ON_CLOSE: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""For SO_LINGER: a connection that ends with a reset does a worker no harm, which an ordinary close may."""
_SIZE, _NUMBERS, _MOST = 8, 3, 256
_CLOSED = "The log says more: `goss-supervisor logs`."
_DEVICES = "goss-supervisor detect lists this computer's devices; correct --devices."


def protocol_in(answer: bytes) -> str | None:
    """``7.0.0`` of an answer to HELLO; "" while it is not whole; None where it is none."""
    size = int.from_bytes(answer[:_SIZE], "little") if len(answer) >= _SIZE else _NUMBERS
    if not _NUMBERS <= size <= _MOST:
        return None
    body = answer[_SIZE : _SIZE + size]
    return ".".join(map(str, body[:_NUMBERS])) if len(body) == size else ""


class RpcServer:
    """See `Adapter`."""

    name: Final = NAME
    protocol: Final[EngineProtocol] = "rpc"
    final_exits: Final = frozenset((0, 1))
    """It ends with 0 where it cannot listen, and on an option that it does not know."""
    cpu_signs: Final = ((re.compile(r"^\s+CPU: .+ MiB free\)"), "no GPU was found to lend"),)

    @property
    def signs(self) -> Sequence[Sign]:
        return _SIGNS

    @property
    def endings(self) -> Mapping[int, Ending]:
        return _ENDINGS

    def environment(self, private_config: Path) -> Mapping[str, str]:  # noqa: ARG002 - the contract's
        return {"GGML_NO_BACKTRACE": "1"}

    def program(self, argv: Sequence[str]) -> str:
        return Path(argv[0]).stem

    def at_address(
        self,
        argv: tuple[str, ...],
        env: Mapping[str, str],
        port: int,  # noqa: ARG002 - the contract's
        key: str,  # noqa: ARG002
    ) -> LaunchAddress:
        """Its port is the one that others know."""
        return LaunchAddress(argv, env, {})

    def api_key(self, *_: object) -> str:
        return ""

    def lists_devices(self, argv: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002 - the contract's
        return ()

    def counter_of(self, path: str) -> str:  # noqa: ARG002 - the contract's
        return ""


def _of_llamacpp(text: str) -> str:
    return text.replace("llama-server", "ggml-rpc-server")


_SHARED: Final = {"missing-library", "device-lost", "gpu-memory", "memory", "gpu-error", "assertion"}
_SIGNS: Final = (
    sign(
        "bind-failed",
        r"(?:Failed to create server socket|Invalid host address)",
        "ggml-rpc-server cannot listen on its address.",
        "Another program holds the port, or the address is not this computer's: correct --listen.",
    ),
    sign(
        "bad-argument",
        r"error: unknown device: (?P<device>\S+)",
        "ggml-rpc-server knows no device {device}.",
        _DEVICES,
    ),
    sign(
        "bad-argument",
        r"error: (?P<why>unknown argument: .+|invalid (?:number of threads|memory size|device): .+)",
        "ggml-rpc-server does not accept its command line: {why}.",
        "goss-supervisor engine update brings another build.",
    ),
    sign(
        "cache",
        r"Failed to create cache directory: (?P<folder>.+)",
        "The cache for tensors cannot be made: {folder}.",
        "Make room on that disk, or give write permission.",
    ),
    sign(
        "no-rpc",
        r"Failed to (?:find RPC backend|obtain RPC backend start server function)",
        "This build of llama.cpp has no RPC.",
        "Choose another: --set engine.source=release, or build to compile one here.",
    ),
    sign(
        "gpu-error",
        r"Failed to create backend for device (?P<device>\S+)",
        "ggml-rpc-server cannot use the device {device}.",
        "Look at its driver; --devices names others.",
        retryable=True,
    ),
    *(
        replace(each, message=_of_llamacpp(each.message), hint=_of_llamacpp(each.hint))
        for each in llamacpp_signs.SIGNS
        if each.kind in _SHARED
    ),
)
_ENDINGS: Final = {
    number: replace(each, message=_of_llamacpp(each.message), hint=_of_llamacpp(each.hint))
    for number, each in llamacpp_signs.ENDINGS.items()
    if each.kind != "model-vanished"
} | {
    -13: Ending(
        "crash",
        "ggml-rpc-server ended because a client went away (SIGPIPE).",
        _CLOSED,
        retryable=True,
    )
}
