"""A peer, as ``peers`` in config.yaml names it: another goss-supervisor, or any OpenAI endpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from .declare import key

_NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_URL_WORDS = "an address such as http://bigbox.local:8080"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Peer:
    """
    Where it is, and what of it is served here.  It has a ``name`` once config.yaml is read.  ``secret`` is
    the key itself, if the program that prepared this had it.
    """

    url: str = key(
        "",
        "Where it is: `http://bigbox.local:8080`, or `https://…/v1` of any OpenAI endpoint.",
        what=_URL_WORDS,
        pattern=r"(?i:https?)://[!-~]{1,500}",
    )
    name: str = key(
        "",
        "What it is called here: its models are served as `NAME/MODEL`, too. Without it: the first part of "
        "the host's name.",
        what="a name (letters, digits, '.', '_' and '-')",
        pattern=_NAME_PATTERN,
    )
    api_key_env: str = key(
        "",
        "The environment variable with the key that it asks for. Only its name is kept.",
        what="the name of an environment variable, not a key",
        pattern=r"[A-Za-z_][A-Za-z0-9_]*",
    )
    models: tuple[str, ...] = key(
        (),
        "Which of its models are served here. Without it: all that it lists, up to 1,000.",
        what="a model name or a list of them",
        pattern=r"[!-~]{1,200}",
    )
    ca_file: str = key(
        "",
        "Certificates (PEM) to verify an https address with, in place of the system's.",
        what="a whole path from the root or from ~",
        pattern=r"(?:[/~\\]|[A-Za-z]:).{0,1000}",
    )
    secret: str = field(default="", repr=False)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or _PORTS[parts.scheme]

    @property
    def has_tls(self) -> bool:
        return urlsplit(self.url).scheme == "https"

    @property
    def host_header(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def prefix(self) -> str:
        """What comes before ``/v1`` and its own paths."""
        return urlsplit(self.url).path.rstrip("/").removesuffix("/v1")

    def key_in(self, environment: Mapping[str, str]) -> str:
        """Its key, as it came with it or as this environment has it; "" where neither does."""
        return self.secret or environment.get(self.api_key_env, "")


def url_problem(url: str) -> str:
    """Why this is no address of a peer, as the end of "must be …"; "" where it is one."""
    try:
        parts = urlsplit(url)
        wrong = _first_wrong(parts, parts.port)
    except ValueError as error:  # a port that is no number, half of an IPv6 address
        return f"{_URL_WORDS}: {str(error)[:1].lower()}{str(error)[1:]}"
    return f"{_URL_WORDS}, {wrong}" if wrong else ""


def _first_wrong(parts: SplitResult, port: int | None) -> str:
    if "@" in parts.netloc:
        return "without a name or password in it: api-key-env names the variable with the key"
    if parts.query or parts.fragment:
        return "without anything behind its path"
    if not re.fullmatch(r"[A-Za-z0-9_.:%-]+", parts.hostname or ""):
        return "with a host"
    return "with a port from 1 to 65535" if port == 0 else ""


def name_of_host(peer: Peer) -> str:
    """The first part of the host's name, or a whole IPv4 address; "" where the host makes no name."""
    try:
        ip_address(peer.host)
    except ValueError:
        name = peer.host.partition(".")[0]
    else:
        name = peer.host
    return name if re.fullmatch(_NAME_PATTERN, name) else ""
