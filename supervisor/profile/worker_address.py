"""Workers: the address of another machine's ``ggml-rpc-server``, and what this machine lends as one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Any, Literal

PORT = 50052
"""Where ``ggml-rpc-server`` listens if nothing else is said."""
WORKER = "worker"
"""The shipped profile that `goss-supervisor worker` starts."""
NO_MODEL = "none: "
"""What a plan has in place of a model begins so, if it is a worker's."""
WithoutWorker = Literal["wait", "smaller"]
WORKERS_ABOUT = (
    "Machines that lend their memory over llama.cpp's RPC (goss-supervisor worker), as HOST or HOST:PORT; "
    "[] for none. An entry may be a mapping: address, supervisor (URL of its goss-supervisor), api-key-env."
)
WITHOUT_WORKER_ABOUT = (
    "While a worker is gone, 'wait' for it (the default), or run a 'smaller' launch that needs none of them."
)
_LABEL = (
    r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"  # of a longer one, getaddrinfo makes a UnicodeError
)
ADDRESS_PATTERN = rf"{_LABEL}(?:\.{_LABEL}){{0,63}}(?::[0-9]{{1,5}})?"
WHAT = "an address such as mini2.local or 10.0.0.3:50052"
_CARRIER = IPv4Network("100.64.0.0/10")  # RFC 6598; Tailscale's, too
_ONLY_IPV4 = "llama.cpp's RPC speaks IPv4 only; write the machine's IPv4 address, or its name"


@dataclass(frozen=True, slots=True, order=True)
class WorkerAddress:
    """``str()`` is what ``--rpc`` gets: ``10.0.0.3:50052``."""

    host: str
    port: int = PORT

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def is_private(self) -> bool | None:
        """
        Whether only this machine or a private network reaches it: loopback, RFC 1918, link-local, or the
        100.64.0.0/10 of a VPN such as Tailscale.  None for a name, which only the resolver knows.
        """
        if self.host == "localhost":
            return True
        try:
            address = IPv4Address(self.host)
        except ValueError:
            return None
        return (address.is_private and not address.is_unspecified) or address in _CARRIER


@dataclass(frozen=True, slots=True)
class Worker:
    """
    A worker that a profile names.  ``supervisor`` is the URL of its own goss-supervisor, and ``api_key_env``
    the variable with that one's key; "" where nobody said so.
    """

    address: WorkerAddress
    supervisor: str = ""
    api_key_env: str = ""


def _key(default: object, about: str, **limits: object) -> Any:  # noqa: ANN401 - a field
    """As `declare.key`, which would lengthen every chain of imports to a profile."""
    return field(default=default, metadata={"about": about, "name": "", **limits})


@dataclass(frozen=True, slots=True)
class LentMemory:
    """
    What this machine is as a worker; without ``listen`` it is none.  ``listen`` is as `parse_worker` reads
    it.
    """

    listen: str | None = _key(
        None,
        "The address that the llama-servers reach it by: a private one, since RPC has neither keys nor "
        "encryption.",
        what=WHAT,
        pattern=ADDRESS_PATTERN,
    )
    devices: tuple[str, ...] = _key(
        (),
        "Which devices it lends, by llama.cpp's names (CUDA0, CPU); without it all GPUs, else the CPU.",
        what="the name of a device such as CUDA0 or a list of them",
        pattern=r"[A-Za-z]+[0-9]*",
    )
    memory_bytes: int | None = _key(
        None, "The most that each device lends, where the build has an option for it.", least=1024 * 1024
    )

    @property
    def is_worker(self) -> bool:
        return self.listen is not None

    @property
    def address(self) -> WorkerAddress | None:
        return parse_worker(self.listen) if self.listen else None


def parse_worker(text: str) -> WorkerAddress:
    """
    The address in ``mini2.local``, ``10.0.0.3:50052``.  Raises ValueError with the end of a sentence about
    the text: ``must be …``, or why it cannot be.
    """
    text = text.strip()
    if _is_ipv6(text):
        raise ValueError(f"cannot be {text}: {_ONLY_IPV4}")
    if not re.fullmatch(ADDRESS_PATTERN, text):
        raise ValueError(f"must be {WHAT}, not {text!r}")
    host, _, port = text.partition(":")
    if host.isdigit():
        raise ValueError(f"must be {WHAT}, not the number {text}")  # which the resolver takes for 0.0.0.5
    number = int(port or PORT)
    if not 1 <= number <= 65535:
        raise ValueError(f"must have a port from 1 to 65535, not {port}")
    return WorkerAddress(host, number)


def parse_workers(text: str) -> tuple[WorkerAddress, ...]:
    """Those of one ``--rpc``, which has commas between them.  Raises ValueError as `parse_worker` does."""
    return tuple(parse_worker(each) for each in text.split(",") if each.strip())


def _is_ipv6(text: str) -> bool:
    host = text[1:].partition("]")[0] if text.startswith("[") else text
    try:
        return ip_address(host.partition("%")[0]).version == 6
    except ValueError:
        return False
