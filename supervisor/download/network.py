"""HTTP requests to web servers, and failures explained in plain words."""

from __future__ import annotations

import math
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urljoin, urlsplit

from .. import __version__
from ..errors import ConfigError, NetworkError

if TYPE_CHECKING:
    import requests

HINT = "Check the network. A proxy can be set as engine.proxy or HTTPS_PROXY, a mirror as engine.mirror."
_MOST_REDIRECTS = 8
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_CHUNK_BYTES = 64 * 1024
_HEADERS = {"User-Agent": f"goss-supervisor/{__version__}", "Accept-Encoding": "identity"}
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3}[^'\")]*)")
_CERTIFICATES = (
    "If a company's proxy or mirror signs with a certificate of its own, add that to the system's store, "
    "or name a file with it in SSL_CERT_FILE or REQUESTS_CA_BUNDLE."
)
_UNTIL_RESET = re.compile(r";\s*t=(\d+)")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long it is waited, and how often tried: once more than there are pauses."""

    connect_seconds: float = 5.0
    stall_seconds: float = 30.0  # without a byte
    pauses_seconds: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    longest_pause_seconds: float = 120.0  # that a host may ask for by Retry-After
    page_seconds: float = 120.0  # for one short answer: a stall never ends what comes drop by drop
    sleep: Callable[[float], None] = time.sleep

    @property
    def timeout(self) -> tuple[float, float]:
        return self.connect_seconds, self.stall_seconds


DEFAULT_RETRY = RetryPolicy()


class Unreachable(Exception):
    """
    An exchange that failed on the way, in words.

    ``contact``: whether the host answered at all.  ``final``: asking again cannot help, as with a
    certificate that is not trusted.  ``wait_seconds``: for how long the host wants not to be asked.
    ``hint``: what to do about exactly this; "" where the general advice for an unreachable host fits.
    """

    def __init__(
        self, message: str, *, contact: bool, final: bool = False, wait_seconds: float = 0.0, hint: str = ""
    ) -> None:
        super().__init__(message)
        self.contact = contact
        self.final = final
        self.wait_seconds = wait_seconds
        self.hint = hint


def host_of(url: str) -> str:
    """For people: without user and password."""
    return urlsplit(url).hostname or url


@contextmanager
def get(
    url: str,
    headers: Mapping[str, str],
    timeout: tuple[float, float],
    proxy: str | None,
    token: str = "",
    *,
    session: requests.Session | None = None,
) -> Iterator[requests.Response]:
    """
    The answer to a GET, redirects followed, its body not read yet.

    ``timeout``: seconds to connect, and seconds without a byte.  ``session``: one whose connections are used
    again and stay open.  Nothing is asked for compressed unless
    ``headers`` do.  ``token`` goes to the host of ``url`` alone, and no other credentials are sent, whatever
    is in the URL or in ~/.netrc.
    Raises Unreachable, and NetworkError for a redirect that leads nowhere or out of https.
    """
    from .sessions import new_session, proxy_for  # noqa: PLC0415 - 60 ms, and most starts ask nobody

    asked = urlsplit(url)
    with nullcontext(session) if session else new_session() as used:
        for _ in range(_MOST_REDIRECTS):
            same_host = urlsplit(url)[:2] == asked[:2]
            through = _Proxy(proxy_for(url, _proxies(url, proxy)), named=proxy is not None)
            with _in_words(url, timeout, through, contact=False):
                response = used.get(
                    url,
                    headers={**_HEADERS, **headers},
                    auth=_signing(token if same_host else ""),
                    timeout=timeout,
                    proxies=_proxies(url, proxy),
                    allow_redirects=False,
                    stream=True,
                )
            if response.status_code == 407:  # only a proxy sends it
                response.close()
                raise through.refusal(host_of(url), f"407 {response.reason}")
            target = used.get_redirect_target(response)
            if target is None:
                break
            response.close()
            url = _next(url, target)
        else:
            raise NetworkError(f"{host_of(url)} redirects more than {_MOST_REDIRECTS} times.", hint=HINT)
        with response:
            yield response


def body(
    response: requests.Response, timeout: tuple[float, float], *, unpacked: bool = False
) -> Iterator[bytes]:
    """The body as it comes, as sent or ``unpacked``.  Raises Unreachable if it breaks off or stalls."""
    # read1 hands over what there is; read, all that urllib3 had before 2.2, loses half a chunk to a stall
    read = getattr(response.raw, "read1", response.raw.read)
    with _in_words(response.url, timeout, _NO_PROXY, contact=True):
        while chunk := read(_CHUNK_BYTES, decode_content=unpacked):
            yield chunk


def first_line(response: requests.Response) -> str:
    """What an error page says, or "": its title or its first line, bounded."""
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 - comes with requests

    try:
        text = response.raw.read(4096, decode_content=False).decode("utf-8", "replace")
    except (HTTPError, OSError):
        return ""
    title = re.search(r"<title>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    lines = (" ".join(line.split()) for line in (title[1] if title else text).splitlines())
    line = next(filter(None, lines), "")
    return "" if line.startswith("<") else "".join(filter(str.isprintable, line))[:160]


def _signing(token: str) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    """Never None, with which requests takes credentials from the URL or from ~/.netrc."""

    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    return sign


def _proxies(url: str, proxy: str | None) -> dict[str, str]:
    """A proxy of the environment is not asked for this machine itself; "" is none."""
    if proxy is None and host_of(url) in _LOOPBACK:
        proxy = ""
    return {} if proxy is None else {"http": proxy, "https": proxy}


def _next(url: str, target: str) -> str:
    target = urljoin(url, target)
    was, will = urlsplit(url), urlsplit(target)
    if was.scheme == "https" and will.scheme != "https":
        raise NetworkError(
            f"{was.hostname} redirects to {will.scheme}://{will.hostname}, which is not encrypted.", hint=HINT
        )
    return target


@dataclass(frozen=True, slots=True)
class _Proxy:
    """``address`` is "" for none; ``named``: by our settings, not by the environment."""

    address: str
    named: bool = False

    @property
    def name(self) -> str:
        """For people: without user and password."""
        parts = urlsplit(self.address if "//" in self.address else f"//{self.address}")
        return f"{parts.hostname}:{parts.port}" if parts.port else f"{parts.hostname}"

    @property
    def hint(self) -> str:
        if self.named:
            return "The proxy is the one of engine.proxy."
        return (
            "The proxy is the environment's (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY); "
            "NO_PROXY names hosts to reach without it."
        )

    def refusal(self, host: str, reason: str) -> Unreachable:
        """``reason`` as an HTTP status with its words."""
        text = f"the proxy {self.name} does not let us through to {host}: {reason}"
        wanted = (
            "It wants a user and a password: http://USER:PASSWORD@HOST:PORT. " if reason[:3] == "407" else ""
        )
        return Unreachable(text, contact=True, final=True, hint=wanted + self.hint)


_NO_PROXY = _Proxy("")


@contextmanager
def _in_words(url: str, timeout: tuple[float, float], proxy: _Proxy, *, contact: bool) -> Iterator[None]:
    """Around calls of requests and nothing else: what it raises are OSErrors, as those of a full disk."""
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 - comes with requests

    try:
        yield
    except (OSError, HTTPError) as error:
        if proxy.address:
            _raise_of_proxy(host_of(url), proxy, list(_causes(error)))
        _raise(host_of(url), timeout, error, contact=contact)


def _raise_of_proxy(host: str, proxy: _Proxy, chain: list[BaseException]) -> None:
    """Raises Unreachable where the proxy, and not the host behind it, is what failed."""
    from urllib3 import exceptions  # noqa: PLC0415 - comes with requests

    words = " ".join(map(str, chain))
    if found := _TUNNEL.search(words):  # http.client's words
        raise proxy.refusal(host, found[1].strip())
    kinds = (exceptions.ProxyError, exceptions.NewConnectionError, exceptions.ConnectTimeoutError)
    if not any(isinstance(each, kinds) for each in chain):
        return
    if any(isinstance(each, socket.gaierror) for each in chain):
        text = f"the name of the proxy {proxy.name} cannot be resolved"
    elif any(isinstance(each, ConnectionRefusedError) for each in chain):
        text = f"the proxy {proxy.name} refuses the connection"
    else:
        text = f"the proxy {proxy.name} gives no way to {host}: {_last(chain)}"
    raise Unreachable(text, contact=False, hint=proxy.hint) from chain[0]


def _raise(host: str, timeout: tuple[float, float], error: Exception, *, contact: bool) -> NoReturn:
    import ssl  # noqa: PLC0415 - comes with requests

    from urllib3 import exceptions  # noqa: PLC0415 - the same

    chain = list(_causes(error))

    def caused_by(*kinds: type[BaseException]) -> BaseException | None:
        return next((each for each in chain if isinstance(each, kinds)), None)

    final, hint = False, ""
    if caused_by(socket.gaierror):
        text = f"the name {host} cannot be resolved"
    elif found := caused_by(ssl.SSLError):
        final = isinstance(found, ssl.SSLCertVerificationError)
        reason = found.verify_message if isinstance(found, ssl.SSLCertVerificationError) else str(found)
        text = f"no secure connection to {host}: {reason}"
        hint = _CERTIFICATES if final else ""
    elif caused_by(ConnectionRefusedError):
        text = f"{host} refuses the connection"
    elif caused_by(exceptions.ConnectTimeoutError):
        text = f"{host} did not answer within {timeout[0]:g} s"
    elif caused_by(exceptions.ReadTimeoutError, TimeoutError):
        contact, text = True, f"nothing came from {host} for {timeout[1]:g} s"
    elif contact or caused_by(exceptions.ProtocolError):
        contact, text = True, f"{host} broke the connection off"
    else:
        text = f"{host} cannot be reached: {_last(chain)}"
        final = isinstance(error, ValueError)  # not an URL at all
    raise Unreachable(text, contact=contact, final=final, hint=hint) from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The causes, from the outside in: requests and urllib3 hide it in three different places."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, BaseException) and each not in seen:
            seen.append(each)
            yield each
            waiting += [getattr(each, "reason", None), *each.args, each.__cause__, each.__context__]


def _last(chain: list[BaseException]) -> str:
    """The innermost that is an error of the system, or the outermost."""
    system = [each.strerror for each in chain if isinstance(each, OSError) and each.strerror]
    return system[-1] if system else str(chain[0])


def wait_seconds(headers: Mapping[str, str]) -> float | None:
    """
    For how long a host wants not to be asked; None where it does not say.  Header names in lower case.

    By the clock of the host, for ours may be wrong.  Retry-After holds seconds or a date (RFC 9110, 10.2.3).
    X-RateLimit-Reset is GitHub's, in seconds since the epoch.  RateLimit is how the Hugging Face hub tells
    when a window ends: ``"resolvers";r=0;t=140`` (https://huggingface.co/docs/hub/rate-limits).
    """
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - few hosts say it, every start comes by

    after = headers.get("retry-after", "")
    if after.isdigit():
        return float(after)
    try:
        now = parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError):
        now = datetime.now(UTC)
    try:
        reset = headers.get("x-ratelimit-reset", "")
        moment = parsedate_to_datetime(after) if after else datetime.fromtimestamp(int(reset), UTC)
        return max(0.0, (moment - now).total_seconds())
    except (ValueError, OverflowError, OSError, TypeError):
        left = _UNTIL_RESET.search(headers.get("ratelimit", ""))
        return float(left[1]) if left else None


def again_at(headers: Mapping[str, str]) -> str:
    """``; again at 14:05 (in 12 min)``, by `wait_seconds`; "" where the host does not say."""
    seconds = wait_seconds(headers)
    if seconds is None:
        return ""
    moment = datetime.now().astimezone() + timedelta(seconds=seconds)
    return f"; again at {moment:%H:%M} (in {max(1, math.ceil(seconds / 60))} min)"


def web_address(name: str, address: str, example: str) -> str:
    """``address``, which ``name`` holds, without a slash at its end.  Raises ConfigError where it is none."""
    try:
        parts = urlsplit(address.strip())
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise ConfigError(
            f"{name} is {address!r}, which is no web address.", hint=f"It should look like {example}."
        )
    return address.strip().rstrip("/")


def demand_token(where: str, token: str, hint: str) -> str:
    """``token``, which is never shown.  Raises ConfigError for what cannot be one."""
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"{where} holds characters that no token has.", hint=hint)
    return token


def is_private(url: str) -> bool:
    """Whether a token can go there without others reading it on its way."""
    address = urlsplit(url)
    return address.scheme == "https" or address.hostname in _LOOPBACK


@dataclass(frozen=True, slots=True)
class Page:
    """``asked`` and ``url`` differ after a redirect.  Header names in lower case."""

    asked: str
    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


def page(
    url: str,
    headers: Mapping[str, str],
    most_bytes: int,
    *,
    proxy: str | None = None,
    retry: RetryPolicy = DEFAULT_RETRY,
    token: str = "",
) -> Page:
    """
    A short answer, wholly in memory: a page of an API, or a piece of a file.

    No more than ``most_bytes`` are read; what fails on the way, or there, is tried once more.  ``proxy`` and
    ``token`` as for ``fetch``.  Raises Unreachable, and what ``get`` does.
    """

    def ask() -> Page:
        with get(url, headers, retry.timeout, proxy, token) as response:
            received = {name.lower(): value for name, value in response.headers.items()}
            read, deadline = bytearray(), time.monotonic() + retry.page_seconds
            for chunk in body(response, retry.timeout, unpacked=True):
                read += chunk
                if len(read) > most_bytes:
                    break
                if time.monotonic() > deadline:
                    raise Unreachable(f"the answer of {host_of(response.url)} takes too long", contact=True)
            return Page(url, response.url, response.status_code, received, bytes(read[:most_bytes]))

    try:
        found = ask()
        if found.status < 500:
            return found
    except Unreachable as failure:
        if failure.final:
            raise
    retry.sleep(retry.pauses_seconds[0])
    return ask()
