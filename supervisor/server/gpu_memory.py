"""
What a server holds of each GPU, as drivers say it for processes, and what that means for its plan.  Pure.

Drivers know GPUs by their addresses on the PCI bus, llama.cpp by names of its own; a plan has the addresses
of those that are certain.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ..plan.launch import LaunchPlan


@dataclass(frozen=True, slots=True)
class GpuHeld:
    """
    Of one GPU.  ``own_bytes`` is None where the driver tells no such figure; ``ram_bytes`` is what the GPU
    borrows of the RAM: for the model if it shares the RAM, for copies to and fro if it is a card.
    """

    own_bytes: int | None = None
    ram_bytes: int = 0

    def __add__(self, other: GpuHeld) -> GpuHeld:
        known = [each for each in (self.own_bytes, other.own_bytes) if each is not None]
        return GpuHeld(sum(known) if known else None, self.ram_bytes + other.ram_bytes)


GpusHeld = Mapping[str, GpuHeld]
"""By the GPU's address, 0000:03:00.0."""

_CLIENT = re.compile(rb"^drm-(client-id|pdev):\s+(\S+)$", re.MULTILINE)
_OWN, _RAM = rb"vram|local", rb"gtt|system"
_UNITS = {b"": 1, b" KiB": 1024, b" MiB": 1024**2}
_SIZES = {
    (kind, of): re.compile(rb"^drm-%s-(?:%s)\d*:\s+(\d{1,15})( [KM]iB)?$" % (kind, of), re.MULTILINE)
    for kind in (b"resident", b"memory")
    for of in (_OWN, _RAM)
}


def drm_held(clients: Iterable[bytes]) -> dict[str, GpuHeld]:
    """
    From texts of /proc/PID/fdinfo; one client of a GPU may have several files.  Where a driver tells what is
    resident, that counts.  Empty where no driver tells anything.
    """
    found: dict[tuple[bytes, bytes], GpuHeld] = {}
    for text in clients:
        fields = dict(_CLIENT.findall(text))
        own, ram = _size(text, _OWN), _size(text, _RAM)
        if b"client-id" in fields and (own, ram) != (None, None):
            found[fields.get(b"pdev", b""), fields[b"client-id"]] = GpuHeld(own, ram or 0)
    held: dict[str, GpuHeld] = {}
    for (address, _), each in found.items():
        name = address.decode("ascii", "replace")
        held[name] = held.get(name, GpuHeld()) + each
    return held


def _size(text: bytes, of: bytes) -> int | None:
    for kind in (b"resident", b"memory"):
        if sizes := _SIZES[kind, of].findall(text):
            return sum(int(number) * _UNITS[unit] for number, unit in sizes)
    return None


def by_device(plan: LaunchPlan, held: GpusHeld) -> dict[str, int]:
    """Bytes by the plan's names of GPUs, where a driver tells and it is certain which GPU has that name."""
    found: dict[str, int] = {}
    for name, address in plan.adapters.items():
        known = held.get(address)
        if known is not None and name in plan.sharing:
            found[name] = (known.own_bytes or 0) + known.ram_bytes
        elif known is not None and known.own_bytes is not None:
            found[name] = known.own_bytes
    return found


def names_of(plans: Iterable[LaunchPlan], addresses: Collection[str]) -> dict[str, str]:
    """
    What plans call the GPUs at these addresses, "" for one on no bus; the first plan counts.  A machine's
    only GPU has the only name that there is, also where a plan is not certain of the address.
    """
    named: dict[str, str] = {}
    others: set[str] = set()
    for plan in plans:
        for name, address in plan.adapters.items():
            named.setdefault(address, name)
        known = {*plan.adapters, *plan.workers, "RAM"}
        others |= {name for name in (*plan.memory, *plan.sharing) if name not in known}
    if not named and len(addresses) == len(others) == 1:
        return dict(zip(addresses, others, strict=True))
    return named


def of_the_ram(plan: LaunchPlan, devices: Mapping[str, int]) -> int:
    """What GPUs that share the RAM take of it when they hold this: their own is used first."""
    return sum(max(0, devices.get(name, 0) - own) for name, own in plan.sharing.items())


def larger(planned: Mapping[str, int], measured: Mapping[str, int]) -> dict[str, int]:
    """By the names of both."""
    names = dict.fromkeys([*planned, *measured])
    return {name: max(planned.get(name, 0), measured.get(name, 0)) for name in names}
