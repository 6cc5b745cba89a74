"""Numbers in what the kernel and its tools print."""

from __future__ import annotations

import re

MIB = 1024 * 1024
_DIGITS = 19  # what fits into 64 bits; more is no number of anything


def whole(text: str | None) -> int | None:
    """``24564`` or ``0x5000``, not negative; None for anything else, ``[N/A]`` among it."""
    found = re.fullmatch(r"\s*(?:(\d+)|0x([0-9a-fA-F]+))\s*", text or "", re.ASCII)
    if found is None or len(found[1] or found[2]) > _DIGITS:
        return None
    return int(found[1]) if found[1] else int(found[2], 16)


def decimal(text: str | None) -> float | None:
    """The number that a text begins with: ``16.0 GT/s PCIe`` is 16.0."""
    found = re.match(r"\s*(\d{1,9}(?:\.\d{1,9})?)(?![\w.])", text or "", re.ASCII)
    return float(found[1]) if found else None


def pci_address(text: str) -> str:
    """``00000000:01:00.0`` of NVIDIA's tools as ``0000:01:00.0`` of everybody else; "" for no address."""
    found = re.fullmatch(
        r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", text.strip().lower(), re.ASCII
    )
    if found is None:
        return ""
    domain = int(found[1] or "0", 16)
    return f"{domain:04x}:{found[2]}:{found[3]}.{found[4]}"
