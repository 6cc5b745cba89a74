"""Whether the C library of a Linux is new enough for an archive.  Pure."""

from __future__ import annotations

from ...hardware.hardware import Hardware
from ..flavours import family, numbers, version

# the oldest that will do, by the symbols of what is made on Ubuntu 22.04 and on 24.04 (release.yml)
_OLD_BUILDER = (2, 34)
_NEW_BUILDER = (2, 38)


def why_not(flavour: str, hardware: Hardware) -> str:
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


def caveat(hardware: Hardware) -> str:
    """What is to be said of an archive that is ranked all the same."""
    if hardware.os != "linux" or (hardware.libc and hardware.libc_version):
        return ""
    return "the version of glibc is not known" if hardware.libc else "the C library is not known"


def _needed(flavour: str, arch: str) -> tuple[int, int]:
    """Made on 22.04 are CPU and Vulkan for x64, and ROCm until August 2026."""
    of = family(flavour)
    old = of in {"cpu", "vulkan"} or (of == "rocm" and version(flavour) < (7, 14))
    return _OLD_BUILDER if old and arch == "x86_64" else _NEW_BUILDER
