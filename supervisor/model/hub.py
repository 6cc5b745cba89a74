"""The Hugging Face hub: which files a repository has, and where each can be had."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urljoin, urlsplit

from ..download.fetch import PATIENT, Patience
from ..download.network import Unreachable
from ..download.page import Page, page
from ..errors import ConfigError, NetworkError, UsageError
from .hub_files import HubFile, is_inside
from .hub_refusals import no_list, refusal, unreachable
from .locate import hugging_face_home

ENDPOINT = "https://huggingface.co"
ENDPOINT_VARIABLE = "HF_ENDPOINT"
# The names and their order are huggingface_hub's, whose `hf auth login` writes the file.
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
TOKEN_FILE_VARIABLE = "HF_TOKEN_PATH"  # noqa: S105 - the name of a variable
REVISION = "main"
REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_MOST_PAGE_BYTES = 16 << 20  # a page has 1000 files at most, of some 300 bytes each
_MOST_PAGES = 100
_NEXT = re.compile(r'<([^>]+)>\s*;[^,]*\brel="?next"?')


@dataclass(frozen=True, slots=True)
class Hub:
    """
    ``endpoint`` is an address without a slash at the end; a mirror may stand there.

    ``token`` goes to the endpoint alone, never to the hosts that it redirects to, and never unencrypted
    beyond this machine.  A proxy is the environment's (HTTPS_PROXY, NO_PROXY).
    """

    endpoint: str = ENDPOINT
    token: str = field(default="", repr=False)
    patience: Patience = PATIENT

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Raises ConfigError for an address that is none, and for a token that cannot be one."""
        endpoint = _address(environ.get(ENDPOINT_VARIABLE, "").strip() or ENDPOINT)
        address = urlsplit(endpoint)
        private = address.scheme == "https" or address.hostname in _LOOPBACK
        return cls(endpoint, _token(environ) if private else "")

    def files(self, repo: str) -> tuple[HubFile, ...]:
        """
        All files of a repository's main branch.

        Raises UsageError for what is no repository's name, NotFound, and NetworkError for all refusals.
        """
        demand_repository(repo)
        return tuple(file for entry in self._entries(repo) if (file := _file(entry)))

    def url(self, repo: str, path: str) -> str:
        """Where a file can be had; it redirects to another host."""
        return f"{self.endpoint}/{repo}/resolve/{REVISION}/{quote(path)}"

    def get(self, repo: str, url: str, headers: Mapping[str, str], most_bytes: int) -> Page:
        """An answer with status 200 or 206.  Raises NotFound, and NetworkError in words."""
        try:
            found = page(url, headers, most_bytes, patience=self.patience, token=self.token)
        except Unreachable as failure:
            raise unreachable(self.endpoint, failure) from failure
        if found.status in {200, 206}:
            return found
        raise refusal(self.endpoint, repo, found.status, found.headers, has_token=bool(self.token))

    def _entries(self, repo: str) -> Iterator[Mapping[str, Any]]:
        """Source: https://huggingface.co/docs/hub/api, "tree"; the pages are chained by Link headers."""
        url = f"{self.endpoint}/api/models/{repo}/tree/{REVISION}?recursive=true"
        for _ in range(_MOST_PAGES):
            found = self.get(repo, url, {"Accept-Encoding": "gzip"}, _MOST_PAGE_BYTES)
            yield from _listed(self.endpoint, found)
            following = _NEXT.search(found.headers.get("link", ""))
            if following is None:
                return
            url = urljoin(url, following[1])
            if urlsplit(url)[:2] != urlsplit(self.endpoint)[:2]:  # the token is not for others
                raise NetworkError(f"{self.endpoint} continues its list of files at another host.")
        raise NetworkError(f"{self.endpoint} has no end of files in {repo}.")


def demand_repository(repo: str) -> None:
    if not REPOSITORY.fullmatch(repo) or ".." in repo:
        raise UsageError(
            f"{repo} is no repository's name on the Hugging Face hub.",
            hint="It looks like owner/name: ggml-org/gpt-oss-20b-GGUF",
        )


def _listed(endpoint: str, found: Page) -> list[Mapping[str, Any]]:
    try:
        entries = json.loads(found.body)
    except ValueError:
        entries = None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise no_list(endpoint, found.body)
    return entries


def _file(entry: Mapping[str, Any]) -> HubFile | None:
    """None for a folder, and for a file that would not lie inside of the repository."""
    path, size = entry.get("path"), entry.get("size")
    if entry.get("type") != "file" or not isinstance(path, str) or not isinstance(size, int):
        return None
    stored = entry.get("lfs")
    sha256 = stored.get("oid") if isinstance(stored, dict) else ""
    told = sha256 if isinstance(sha256, str) and re.fullmatch(r"[0-9a-f]{64}", sha256) else ""
    return HubFile(path, size, told) if is_inside(path) else None


def _address(text: str) -> str:
    try:
        parts = urlsplit(text)
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise ConfigError(
            f"{ENDPOINT_VARIABLE} is {text!r}, which is no web address.",
            hint=f"It should look like {ENDPOINT}.",
        )
    return text.rstrip("/")


def _token(environ: Mapping[str, str]) -> str:
    """The first that is set, else what `hf auth login` wrote.  It is never shown."""
    for name in TOKEN_VARIABLES:
        if token := environ.get(name, "").strip():
            return _must_be_token(name, token)
    named = environ.get(TOKEN_FILE_VARIABLE)
    file = Path(named).expanduser() if named else hugging_face_home(environ) / "token"
    try:
        return _must_be_token(str(file), file.read_text("utf-8").strip())
    except (OSError, UnicodeDecodeError):
        return ""  # nobody logged in; who needed to is told by the hub


def _must_be_token(where: str, token: str) -> str:
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{where} holds characters that no token has.", hint="Set it anew, or unset it: hf auth login"
        )
    return token
