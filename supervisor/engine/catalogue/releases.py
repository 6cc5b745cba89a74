"""
Releases of llama.cpp and their archives as values, and what an archive's name says about it.

Names are parsed by a pattern because versions change with every release.  It matches all names since b6096:
zip and tar.gz; the CUDA runtime's name has the release's tag on Linux and none on Windows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ...hardware.hardware import Os

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


_NAME = re.compile(
    r"(?P<runtime>cudart-)?llama-(?:(?P<tag>b\d+)-)?bin-(?P<system>macos|ubuntu|linux|win)"
    r"(?:-(?P<backend>[a-z]+(?:-[a-z][a-z0-9]*)?))??(?:-(?P<version>\d+(?:\.\d+)*))?"
    r"-(?P<arch>x64|arm64|s390x)(?:-(?P<suffix>[a-z0-9]+))?\.(?P<archive>zip|tar\.gz)",
    re.ASCII,
)
_SYSTEMS: dict[str, Os] = {"macos": "macos", "ubuntu": "linux", "linux": "linux", "win": "windows"}
# the backends that we can judge, and the family of flavours that each belongs to
_SAME = ("cpu", "cuda", "vulkan", "rocm", "sycl", "sycl-fp16", "sycl-fp32", "openvino", "opencl-adreno")
_FLAVOURS = {name: name for name in _SAME} | {"hip-radeon": "rocm"}  # rocm on Windows until August 2026


@dataclass(frozen=True, slots=True)
class AssetName:
    """``backend`` as it is written, "" where none is; ``suffix`` is what follows the architecture."""

    kind: Literal["engine", "cudart"]
    tag: str  # b11158, or ""
    os: Os
    backend: str  # cuda, hip-radeon, sycl-fp16 …
    version: str  # of the backend: 12.8, 2026.4.1, or ""
    arch: str  # x86_64, arm64, s390x
    suffix: str  # snapdragon, kleidiai, or ""
    archive: Literal["zip", "tar.gz"]

    @property
    def flavour(self) -> str:
        """cpu, cuda-13.4, rocm, metal …; "" for what nobody here can judge, which is not to be selected."""
        if self.suffix or (self.backend == "cuda" and not self.version):
            return ""
        if not self.backend:
            return self._unnamed
        base = _FLAVOURS.get(self.backend, "")
        return f"{base}-{self.version}" if base and self.version else base

    @property
    def _unnamed(self) -> str:
        """What has no backend in its name; for macOS on x64 it is built without Metal."""
        if self.version or self.os == "windows":
            return ""
        return "metal" if (self.os, self.arch) == ("macos", "arm64") else "cpu"


def parse(name: str) -> AssetName | None:
    """None for what is no archive for Linux, macOS or Windows: Android, openEuler, the web UI, sources …"""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    arch = found["arch"]
    return AssetName(
        kind="cudart" if found["runtime"] else "engine",
        tag=found["tag"] or "",
        os=_SYSTEMS[found["system"]],
        backend=found["backend"] or "",
        version=found["version"] or "",
        arch="x86_64" if arch == "x64" else arch,
        suffix=found["suffix"] or "",
        archive="zip" if found["archive"] == "zip" else "tar.gz",
    )
