"""Which flavours of a release suit a computer, the best first, each with its reason.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..hardware.hardware import Hardware
from .build import FAMILIES, family, numbers, version
from .catalogue.releases import Asset, AssetName, Release, parse
from .suitability import is_of, judge_flavour, together

_RANKS = {name: rank for rank, name in enumerate(FAMILIES)}
_SYSTEMS = {"linux": "Linux", "macos": "macOS", "windows": "Windows"}
# the oldest that will do, by the symbols of what is made on Ubuntu 22.04 and on 24.04 (release.yml)
_OLD_BUILDER = (2, 34)
_NEW_BUILDER = (2, 38)


@dataclass(frozen=True, slots=True)
class FlavourOption:
    """A flavour that can be installed: its archive, and the CUDA runtime that it needs."""

    flavour: str  # cpu, cuda-13.4, vulkan, metal, rocm-10.0 …
    reason: str
    archive: Asset
    companion: Asset | None = None

    @property
    def download_bytes(self) -> int | None:
        """None where the size of a file is not known."""
        sizes = [asset.size_bytes for asset in (self.archive, self.companion) if asset]
        return sum(sizes) if all(sizes) else None


@dataclass(frozen=True, slots=True)
class FlavourVerdict:
    """A flavour, and why it is taken or not."""

    flavour: str
    reason: str


@dataclass(frozen=True, slots=True)
class Survey:
    """``ranked`` is best first; what is neither ranked nor rejected is for another system."""

    tag: str
    ranked: tuple[FlavourOption, ...]
    rejected: tuple[FlavourVerdict, ...]


def survey(
    hardware: Hardware, release: Release, *, flavour: str | None, gpu: bool, model_bytes: int | None = None
) -> Survey:
    """
    All flavours of a release, judged for a computer and what a profile asks for.

    ``flavour`` is a family (``cuda``) or exact (``cuda-12.8``), None is any; ``gpu`` says that the CPU
    alone will not do; ``model_bytes`` is the size of the model, None for one that is not known yet.
    """
    offers = _offers(hardware, release)
    ranked, rejected = order_flavours(hardware, offers, flavour=flavour, gpu=gpu, model_bytes=model_bytes)
    options: list[FlavourOption] = []
    refused = [*rejected, *_absent(hardware, offers, flavour)]
    for verdict in ranked:
        offer = offers[verdict.flavour]
        if problem := offer.problem or _why_not(verdict.flavour, hardware):
            refused.append(FlavourVerdict(verdict.flavour, problem))
        else:
            reason = together((verdict.reason, _caveat(hardware)))
            options.append(FlavourOption(verdict.flavour, reason, offer.archive, offer.companion))
    return Survey(release.tag, tuple(options), tuple(sorted(refused, key=_by_name)))


def order_flavours(
    hardware: Hardware,
    flavours: Iterable[str],
    *,
    flavour: str | None,
    gpu: bool,
    model_bytes: int | None = None,
) -> tuple[tuple[FlavourVerdict, ...], tuple[FlavourVerdict, ...]]:
    """The same for flavours by name, where the archives do not matter: (ranked, rejected)."""
    judged = {
        name: judge_flavour(name, hardware, asked=flavour, gpu=gpu, model_bytes=model_bytes)
        for name in set(flavours)
    }
    taken = sorted(
        (name for name in judged if not judged[name].refused),
        key=lambda name: (judged[name].seconds, _RANKS[family(name)], judged[name].order, name),
    )
    ranked = tuple(FlavourVerdict(name, judged[name].reason) for name in taken)
    rejected = (FlavourVerdict(name, each.reason) for name, each in judged.items() if each.refused)
    return ranked, tuple(sorted(rejected, key=_by_name))


@dataclass(frozen=True, slots=True)
class _Offer:
    """A flavour of a release for this system, and what is wrong with it."""

    archive: Asset
    companion: Asset | None
    problem: str


def _offers(hardware: Hardware, release: Release) -> dict[str, _Offer]:
    """By flavour.  Where an archive is there as zip and tar.gz, which keeps links, the tar.gz is taken."""
    fitting = [
        (name, asset) for name, asset in _for(hardware, release) if name.kind == "engine" and name.flavour
    ]
    fitting.sort(key=lambda each: (each[1].usable, each[0].archive == "tar.gz", each[1].name))
    return {name.flavour: _offer(name, asset, hardware, release) for name, asset in fitting}


def _offer(name: AssetName, archive: Asset, hardware: Hardware, release: Release) -> _Offer:
    if name.backend != "cuda":
        return _Offer(archive, None, _unusable("its archive", archive))
    companion = _companion(name, hardware, release)
    missing = "" if companion else f"the CUDA {name.version} runtime that belongs to it is missing"
    problem = _unusable("its archive", archive) or missing or _unusable("its CUDA runtime", companion)
    return _Offer(archive, companion, problem)


def _companion(name: AssetName, hardware: Hardware, release: Release) -> Asset | None:
    """A tag is in its name on Linux only."""
    fitting = [
        asset
        for other, asset in _for(hardware, release)
        if (other.kind, other.version) == ("cudart", name.version) and other.tag in {"", name.tag}
    ]
    return min(fitting, key=lambda asset: (not asset.usable, asset.name), default=None)


def _unusable(what: str, asset: Asset | None) -> str:
    if asset is None or asset.usable:
        return ""
    return f"{what} has no digest" if asset.uploaded else f"{what} is not uploaded yet"


def _absent(hardware: Hardware, offers: Iterable[str], asked: str | None) -> list[FlavourVerdict]:
    """What this computer could want, and the release does not have for its system."""
    wanted = {*_always(hardware)} - ({"vulkan"} if not hardware.gpus else set())
    wanted |= {"cuda"} if any(gpu.vendor == "nvidia" for gpu in hardware.gpus) else set()
    if asked is not None:
        wanted = {asked}
    here = f"{_SYSTEMS[hardware.os]} on {hardware.arch}"
    return [
        FlavourVerdict(name, f"this release has no {_title(name)} build for {here}")
        for name in wanted
        if not any(is_of(offer, name) for offer in offers)
    ]


def _always(hardware: Hardware) -> tuple[str, ...]:
    """The flavours that a whole release has for a system, whatever cards are in it."""
    if hardware.os == "macos":
        return ("metal",) if hardware.arch == "arm64" else ("cpu",)
    return ("vulkan", "cpu") if hardware.arch == "x86_64" else ("cpu",)


def _for(hardware: Hardware, release: Release) -> Iterable[tuple[AssetName, Asset]]:
    """The archives of a release that are for a computer's system."""
    for asset in release.assets:
        name = parse(asset.name)
        if name and (name.os, name.arch) == (hardware.os, hardware.arch):
            yield name, asset


def _title(name: str) -> str:
    of = family(name)
    return name.replace(of, FAMILIES.get(of, of), 1).replace("-", " ")


def _by_name(verdict: FlavourVerdict) -> tuple[int, str]:
    return _RANKS.get(family(verdict.flavour), len(_RANKS)), verdict.flavour


def _why_not(flavour: str, hardware: Hardware) -> str:
    """Why an archive cannot run here; empty when it can, or when nobody knows."""
    if hardware.os != "linux" or not hardware.libc:
        return ""
    if hardware.libc != "glibc":
        return f"it needs glibc, this system has {hardware.libc}"
    needed = _needed(flavour, hardware.arch)
    found = numbers(hardware.libc_version)
    if found and found < needed:
        return f"it needs glibc {needed[0]}.{needed[1]}, this system has {hardware.libc_version}"
    return ""


def _caveat(hardware: Hardware) -> str:
    """A caveat about an archive that is ranked all the same."""
    if hardware.os != "linux" or (hardware.libc and hardware.libc_version):
        return ""
    return "the version of glibc is not known" if hardware.libc else "the C library is not known"


def _needed(flavour: str, arch: str) -> tuple[int, int]:
    """Made on 22.04 are CPU and Vulkan for x64, and ROCm until August 2026."""
    of = family(flavour)
    old = of in {"cpu", "vulkan"} or (of == "rocm" and version(flavour) < (7, 14))
    return _OLD_BUILDER if old and arch == "x86_64" else _NEW_BUILDER
