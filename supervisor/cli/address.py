"""The address that a start will listen on, tried before anything is downloaded for it."""

from __future__ import annotations

import socket

from ..errors import StartFailed
from ..profile.definition import Profile
from ..server.address import bind_addresses, is_socket_path


def try_address(profile: Profile) -> None:
    """
    Raises StartFailed where the gateway cannot listen on it, as the daemon would after all the downloads.

    Without a gateway it is llama-server's, and one of a daemon that was killed may still hold it: only the
    next daemon may end that.
    """
    listen = profile.listen
    if is_socket_path(listen.host) or profile.gateway.mode == "off":
        return
    try:
        for address in bind_addresses(listen.host):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            socket.create_server((address, listen.port), family=family).close()
    except OSError as error:
        from ..server.preflight import why_not_bound  # noqa: PLC0415 - every start comes by, few are refused

        problem = why_not_bound(error, listen.host, listen.port)
        other = f"goss-supervisor start {profile.name} --set listen.port={listen.port + 1}"
        raise StartFailed(problem.message, hint=f"{problem.hint} For this once: {other}") from error
