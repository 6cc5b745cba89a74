"""A release of llama.cpp and its archives, as values."""

from __future__ import annotations

from dataclasses import dataclass

REPOSITORY = "ggml-org/llama.cpp"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of a release.  ``sha256`` (hex) is "" and ``size_bytes`` 0 where not known."""

    name: str
    size_bytes: int
    sha256: str
    url: str
    uploaded: bool = True

    @property
    def usable(self) -> bool:
        return self.uploaded and bool(self.sha256)


@dataclass(frozen=True, slots=True)
class Release:
    """``origin`` is where the list of assets comes from: the lock file, the API, or a cache of it."""

    tag: str  # b11429
    assets: tuple[Asset, ...]
    published: str = ""  # ISO 8601, UTC
    origin: str = ""

    def find(self, name: str) -> Asset | None:
        return next((asset for asset in self.assets if asset.name == name), None)
