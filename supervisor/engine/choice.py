"""Which flavours of a release suit a computer, the best first, each with its reason.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..hardware.types import Hardware
from .releases import Asset, Release


@dataclass(frozen=True, slots=True)
class Option:
    """A flavour that can be installed: its archive, and the CUDA runtime that belongs beside it."""

    flavour: str  # cpu, cuda-13.4, vulkan, metal, rocm-10.0 …
    reason: str
    archive: Asset
    companion: Asset | None = None

    @property
    def download_bytes(self) -> int:
        return self.archive.size_bytes + (self.companion.size_bytes if self.companion else 0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A flavour, and why it is taken or not."""

    flavour: str
    reason: str


@dataclass(frozen=True, slots=True)
class Survey:
    """``ranked`` is best first; what is neither ranked nor rejected is for another system."""

    tag: str
    ranked: tuple[Option, ...]
    rejected: tuple[Verdict, ...]


def survey(hardware: Hardware, release: Release, *, flavour: str | None, gpu: bool) -> Survey:
    """
    All flavours of a release, judged for a computer and what a profile asks for.

    ``flavour`` is a family (``cuda``) or exact (``cuda-12.8``), None is any; ``gpu`` says that the CPU
    alone will not do.
    """
    raise NotImplementedError


def order_flavours(
    hardware: Hardware, flavours: Iterable[str], *, flavour: str | None, gpu: bool
) -> tuple[tuple[Verdict, ...], tuple[Verdict, ...]]:
    """The same for flavours by name, where the archives do not matter: (ranked, rejected)."""
    raise NotImplementedError
