"""Sessions of requests that trust what the system trusts."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Any

import requests
import truststore
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy


class _SystemStore(HTTPAdapter):
    """
    Certificates of the system's store count, next to those that requests knows.

    A company's own authority is in that store, and only there.  What REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE or
    SSL_CERT_FILE name takes the place of requests' own list.
    """

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as in requests
        super().init_poolmanager(*args, ssl_context=_context(), **kwargs)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:  # noqa: ANN401 - as in requests
        return super().proxy_manager_for(proxy, ssl_context=_context(), **kwargs)


def _context() -> ssl.SSLContext:
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def new_session() -> requests.Session:
    """Follows the proxies and certificates of the environment."""
    session = requests.Session()
    session.mount("https://", _SystemStore())
    session.verify = os.environ.get("SSL_CERT_FILE") or True  # requests itself knows only the other two
    return session


def proxy_for(url: str, proxies: Mapping[str, str]) -> str:
    """The proxy that a request for ``url`` takes; "" for none.  ``proxies`` go before the environment's."""
    return select_proxy(url, {**get_environ_proxies(url, None), **proxies}) or ""
