"""Where a server that listens on some host can be reached from here."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from ..errors import StartFailed

if TYPE_CHECKING:  # `start` comes by before it spawns the daemon
    from ..plan.launch import LaunchPlan
    from ..plan.listen import Listen

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1", "*": "127.0.0.1"}  # noqa: S104 - not bound here
_SOMEWHERE = ("192.0.2.1", 9)  # reserved for documents (RFC 5737); nothing is sent there


def first_host(host: str) -> str:
    """llama-server takes several hosts, separated by commas; the first stands for all."""
    return host.partition(",")[0].strip().removeprefix("[").removesuffix("]")


def is_socket_path(host: str) -> bool:
    """llama-server's own rule: a host that ends in .sock is the path of a Unix socket."""
    return first_host(host).endswith(".sock")


def bind_addresses(host: str) -> list[str]:
    """Literal addresses to listen on.  Raises OSError for a name that does not resolve."""
    wanted = [each.strip().removeprefix("[").removesuffix("]") for each in host.split(",") if each.strip()]
    return [_resolved("0.0.0.0" if each == "*" else each) for each in wanted] or ["127.0.0.1"]  # noqa: S104


def _resolved(host: str) -> str:
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except UnicodeError as error:  # a..b: what comes before the resolver, and is no OSError
        raise OSError(f"{host} is no name of a host") from error


def connect_address(host: str) -> str:
    """
    A literal address, since asyncio resolves names in a thread, and the daemon is to have none.

    A name is resolved here, by the local resolver; llama-server binds its first address too.
    Raises StartFailed for a name that does not resolve.
    """
    host = first_host(host)
    if host in _ANY:
        return _ANY[host]
    try:
        return _resolved(host)
    except OSError as error:
        raise StartFailed(
            f"The host {host} does not resolve to an address: {error.strerror or error}.",
            hint="Correct listen.host in the profile; 127.0.0.1 serves this computer only.",
        ) from error


def url_host(host: str) -> str:
    """As it stands in a URL."""
    address = first_host(host)
    address = _ANY.get(address, address)
    return f"[{address}]" if ":" in address else address


def is_any(host: str) -> bool:
    """Whether it stands for all addresses of this machine."""
    return first_host(host) in _ANY


def url_of(plan: LaunchPlan, listen: Listen | None, host: str = "") -> str:
    """Where clients reach it: http, https or unix; ``host`` is how others know this machine."""
    public = public_end(plan, listen)
    tls = plan.tls if public is plan else listen and listen.tls_certificate
    if is_socket_path(public.host):
        return f"unix://{first_host(public.host)}"
    return f"{'https' if tls else 'http'}://{url_host(host or public.host)}:{public.port}{plan.api_prefix}"


def public_end(plan: LaunchPlan, listen: Listen | None) -> LaunchPlan | Listen:
    """Whose host and port clients use: the gateway's, or llama-server's own where there is none before it."""
    return listen if listen is not None and plan.behind_gateway else plan


def address_for_others() -> str | None:
    """By which this machine is known where its default route leads; None where none does."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(_SOMEWHERE)
            address = str(probe.getsockname()[0])
    except OSError:
        return None
    return None if address.startswith(("127.", "0.")) else address
