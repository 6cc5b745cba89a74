"""Reads a model's header from a web server piece by piece, before the model is downloaded."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import NetworkError, VerificationFailed
from .header import BrokenHeader, Header, read_header
from .hub import Hub, HubFile, choose
from .metadata import Model, Part, join
from .open import HeaderCache

# The first piece holds the header of a part that is not the first (some 100 KiB), and of many a small model;
# a vocabulary of 200,000 tokens takes 10 MiB, for which few round trips are better than little too much.
FIRST_BYTES, LARGEST_BYTES = 1 << 20, 4 << 20
_AT_ONCE = 4  # parts whose headers are read at the same time: their time is the way there and back


class RemoteSource:
    """
    A `Source` of a hub's file: read from front to back, it keeps one piece of at most LARGEST_BYTES.

    ``fetched_bytes`` is what came over the network so far.  Reading raises NotFound and NetworkError.
    """

    def __init__(self, hub: Hub, repo: str, file: HubFile) -> None:
        self.name = f"{repo}:{file.path}"
        self.size_bytes = file.size_bytes
        self.fetched_bytes = 0
        self._hub, self._repo = hub, repo
        self._url = hub.url(repo, file.path)
        self._start, self._piece = 0, b""
        self._ahead_bytes = FIRST_BYTES

    def read(self, offset: int, length: int) -> bytes:
        end = min(offset + length, self.size_bytes)
        kept = self._kept(offset, end)
        missing = end - offset - len(kept)
        if missing <= 0:
            return kept
        start = offset + len(kept)
        last = min(start + max(missing, self._ahead_bytes), self.size_bytes)
        self._start, self._piece = offset, kept + self._fetch(start, last)
        self._ahead_bytes = min(2 * self._ahead_bytes, LARGEST_BYTES)
        return self._piece[: end - offset]

    def _kept(self, offset: int, end: int) -> bytes:
        place = offset - self._start
        return self._piece[place : end - self._start] if 0 <= place < len(self._piece) else b""

    def _fetch(self, start: int, end: int) -> bytes:
        asked = {"Range": f"bytes={start}-{end - 1}"}
        found = self._hub.get(self._repo, self._url, asked, end - start)
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", found.headers.get("content-range", ""))
        # a host that knows no ranges sends all from its beginning, of which no more is read than was asked
        begins = int(span[1]) if found.status == 206 and span else 0
        if begins != start or len(found.body) != end - start:
            raise NetworkError(
                f"{self.name} cannot be read in pieces: its host sent something else than was asked for.",
                hint="Is a proxy in between that knows no ranges? The model can be pulled all the same.",
            )
        self.fetched_bytes += len(found.body)
        return found.body


def hub_model(repo: str, file: str | None, hub: Hub, cache: Path | None = None) -> Model:
    """
    The model of a repository, from the headers of all its parts; ``cache`` is a folder where they are kept.

    ``file`` as for `choose`.  Raises NotFound, UsageError, NetworkError, and VerificationFailed for what is
    no model or of which parts are missing.
    """
    files = choose(repo, hub.files(repo), file)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        headers = list(pool.map(lambda part: _remote_header(hub, repo, part, cache), files))
    parts = [Part(f"{repo}:{part.path}", part.size_bytes) for part in files]
    return join(list(zip(parts, headers, strict=True)))


def _remote_header(hub: Hub, repo: str, file: HubFile, folder: Path | None) -> Header:
    """From the cache where the content is known by its digest; other content may change unnoticed."""
    source = RemoteSource(hub, repo, file)
    if folder is None or not file.sha256:
        return _read(source)
    stamp = f"{file.size_bytes} {file.sha256}"
    return HeaderCache(folder).get(hub.url(repo, file.path), stamp, lambda: _read(source))


def _read(source: RemoteSource) -> Header:
    try:
        return read_header(source)
    except BrokenHeader as error:
        raise VerificationFailed(
            f"The model {source.name} is {error}.", hint="Choose another file: llama.cpp cannot load this."
        ) from error
