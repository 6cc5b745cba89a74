"""One small request to our own child, with its key: its answer, or the failure.  Never through a proxy."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal

from ..engine.adapters.known import adapter_of
from ..errors import StartFailed
from ..plan.launch import LaunchPlan
from ..plan.listen import connect_address, first_host, is_socket_path, url_host
from .probe_target import ProbeTarget
from .shortage import is_ours_to_connect

if TYPE_CHECKING:
    import ssl


ProbeOutcome = Literal["ok", "loading", "refused", "timeout", "error", "unknown"]

_BODY_BYTES = 64 * 1024
_HEAD_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """
    ``ok``: 2xx.  ``loading``: 503 while the model loads.  ``refused``: nobody listens.
    ``timeout``: no whole answer in time.  ``error``: anything else that answered, or broke off.
    ``unknown``: it was not asked, because we could not; ``why`` says it in words.
    """

    outcome: ProbeOutcome
    status: int | None = None
    body: bytes = b""
    seconds: float = 0.0
    why: str = ""


def target_of(plan: LaunchPlan) -> ProbeTarget:
    """
    The way to the server of this plan, with its key.  Raises StartFailed for a host without an address, and
    for a key that is none.
    """
    unix = is_socket_path(plan.host)
    key = api_key(plan)
    if not (key.isascii() and key.isprintable()):
        raise StartFailed(
            f"The key of {plan.profile} holds a character that no request can carry.",
            hint="A key is made of the letters, digits and signs of ASCII.",
        )
    return ProbeTarget(
        address=first_host(plan.host) if unix else connect_address(plan.host),
        port=plan.port,
        host_header="localhost" if unix else f"{url_host(plan.host)}:{plan.port}",
        unix=unix,
        tls=plan.tls,
        prefix=plan.api_prefix,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        rpc=adapter_of(plan.adapter).protocol == "rpc",
    )


async def probe(
    target: ProbeTarget, path: str, *, timeout_seconds: float, body: str | None = None
) -> ProbeResult:
    """
    Ask for `path`, or post JSON there; the whole takes at most `timeout_seconds`.  Never raises for what the
    server does.  One of RPC has no paths: its answer is the version of its protocol, or nothing while it
    serves somebody, whom it answers.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    outcome: ProbeOutcome
    status, answer, why = None, b"", ""
    try:
        async with asyncio.timeout(timeout_seconds):
            status, answer = await (_greeted(target) if target.rpc else _asked(target, path, body))
            outcome = _judge(status, answer)
    except TimeoutError:
        outcome = "timeout"
    except (ConnectionRefusedError, FileNotFoundError):
        outcome = "refused"
    except MemoryError:
        outcome, why = "unknown", "out of memory"
    except OSError as error:
        outcome, why = "error", str(error.strerror or error)
        if is_ours_to_connect(error):
            outcome = "unknown"
    except (ValueError, EOFError):
        outcome = "error"
    return ProbeResult(outcome, status, answer, loop.time() - began, why)


async def _greeted(target: ProbeTarget) -> tuple[int, bytes]:
    """As if it were HTTP.  The timeout is around it."""
    from .rpc_probe import client_at, hello  # noqa: PLC0415 - the daemon of a worker only

    if client_at(target.port):
        return 200, b""
    return 200, (await hello(target.address, target.port, timeout_seconds=inf)).encode()


def _judge(status: int, body: bytes) -> ProbeOutcome:
    if 200 <= status < 300:
        return "ok"
    return "loading" if status == 503 and b"Loading model" in body else "error"


async def _asked(target: ProbeTarget, path: str, body: str | None) -> tuple[int, bytes]:
    reader, writer = await _connect(target)
    try:
        writer.write(_request(target, path, body))
        return await _response(reader)
    finally:
        writer.transport.abort()  # the answer is in hand, or not wanted any more: no farewell needed


async def _connect(target: ProbeTarget) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    tls = _tls_context() if target.tls else None
    if target.unix:
        name = "localhost" if tls else None
        return await asyncio.open_unix_connection(  # type: ignore[attr-defined,no-any-return,unused-ignore]
            target.socket_path, ssl=tls, server_hostname=name, limit=_HEAD_BYTES
        )
    return await asyncio.open_connection(target.address, target.port, ssl=tls, limit=_HEAD_BYTES)


def _tls_context() -> ssl.SSLContext:
    """Unverified: the owner of the port proves that it is our child, not a certificate."""
    import ssl  # noqa: PLC0415 - few servers speak TLS, and the daemon is small

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _request(target: ProbeTarget, path: str, body: str | None) -> bytes:
    """HTTP/1.0, so that nobody answers in chunks or keeps the connection open."""
    headers = {"Host": target.host_header, "Connection": "close", **target.headers}
    if body is not None:
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(body.encode()))}
    method = "GET" if body is None else "POST"
    lines = [
        f"{method} {target.prefix}{path} HTTP/1.0",
        *(f"{name}: {each}" for name, each in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or "").encode()


async def _response(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise ValueError("a head without an end") from error
    status_line, *header_lines = head.decode("latin-1").split("\r\n")
    protocol, status, *_ = [*status_line.split(" ", 2), ""]
    if not protocol.startswith("HTTP/"):
        raise ValueError("not HTTP")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (h.partition(":") for h in header_lines)
    }
    length = min(int(headers.get("content-length", _BODY_BYTES)), _BODY_BYTES)
    return int(status), await _up_to(reader, length)


async def _up_to(reader: asyncio.StreamReader, length: int) -> bytes:
    body = b""
    while len(body) < length and (more := await reader.read(length - len(body))):
        body += more
    return body


def api_key(plan: LaunchPlan) -> str:
    """The key that the server asks for, or "" where it asks for none or it cannot be had."""
    return adapter_of(plan.adapter).api_key(plan.argv, plan.env, plan.secrets)


def counter_of(plan: LaunchPlan, path: str) -> str:
    """The path at which a request to ``path`` gets the number of its prompt's tokens; "" for none."""
    return adapter_of(plan.adapter).counter_of(path)
