"""One exchange with a web server: who is asked and how, and in words why it failed."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urljoin, urlsplit

from .. import __version__
from ..errors import NetworkError

if TYPE_CHECKING:
    import requests

HINT = "Check the network. A proxy can be set as engine.proxy or HTTPS_PROXY, a mirror as engine.mirror."
_MOST_REDIRECTS = 8
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_CHUNK_BYTES = 64 * 1024
_HEADERS = {"User-Agent": f"goss-supervisor/{__version__}", "Accept-Encoding": "identity"}


class Unreachable(Exception):
    """
    An exchange that failed on the way, in words.

    ``contact``: whether the host answered at all.  ``final``: asking again cannot help, as with a
    certificate that is not trusted.  ``wait_seconds``: for how long the host wants not to be asked.
    """

    def __init__(
        self, message: str, *, contact: bool, final: bool = False, wait_seconds: float = 0.0
    ) -> None:
        super().__init__(message)
        self.contact = contact
        self.final = final
        self.wait_seconds = wait_seconds


def host_of(url: str) -> str:
    """For people: without user and password."""
    return urlsplit(url).hostname or url


@contextmanager
def get(
    url: str, headers: Mapping[str, str], timeout: tuple[float, float], proxy: str | None, token: str = ""
) -> Iterator[requests.Response]:
    """
    The answer to a GET, redirects followed, its body not read yet.

    ``timeout``: seconds to connect, and seconds without a byte.  Nothing is asked for compressed unless
    ``headers`` do.  ``token`` goes to the host of ``url`` alone, and no other credentials are sent, whatever
    stands in the URL or in ~/.netrc.
    Raises Unreachable, and NetworkError for a redirect that leads nowhere or out of https.
    """
    import requests  # noqa: PLC0415 - it takes 60 ms, and most starts ask nobody

    asked = urlsplit(url)
    with requests.Session() as session:
        session.headers.update(_HEADERS)
        for _ in range(_MOST_REDIRECTS):
            same_host = urlsplit(url)[:2] == asked[:2]
            with _in_words(url, timeout, contact=False):
                response = session.get(
                    url,
                    headers=dict(headers),
                    auth=_signing(token if same_host else ""),
                    timeout=timeout,
                    proxies=_proxies(url, proxy),
                    allow_redirects=False,
                    stream=True,
                )
            target = session.get_redirect_target(response)
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
    """The body as it comes, as sent or ``unpacked``.  Raises Unreachable where it is cut or stands still."""
    # read1 hands over what there is; read, all that urllib3 had before 2.2, loses half a chunk to a stall
    read = getattr(response.raw, "read1", response.raw.read)
    with _in_words(response.url, timeout, contact=True):
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


@contextmanager
def _in_words(url: str, timeout: tuple[float, float], *, contact: bool) -> Iterator[None]:
    """Around calls of requests and nothing else: what it raises are OSErrors, as those of a full disk."""
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 - comes with requests

    try:
        yield
    except (OSError, HTTPError) as error:
        _raise(host_of(url), timeout, error, contact=contact)


def _raise(host: str, timeout: tuple[float, float], error: Exception, *, contact: bool) -> NoReturn:
    from urllib3 import exceptions  # noqa: PLC0415 - comes with requests

    chain = list(_causes(error))

    def caused_by(*kinds: type[BaseException]) -> BaseException | None:
        return next((each for each in chain if isinstance(each, kinds)), None)

    final = False
    if caused_by(socket.gaierror):
        text = f"the name {host} cannot be resolved"
    elif caused_by(exceptions.ProxyError):
        text = f"the proxy in front of {host} does not let us through: {_last(chain)}"
    elif found := caused_by(ssl.SSLError):
        final = isinstance(found, ssl.SSLCertVerificationError)
        reason = found.verify_message if isinstance(found, ssl.SSLCertVerificationError) else str(found)
        text = f"no secure connection to {host}: {reason}"
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
    raise Unreachable(text, contact=contact, final=final) from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What lies below, from the outside in: requests and urllib3 hide it in three different places."""
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
