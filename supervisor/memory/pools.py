"""The memories of a machine that an engine can put a model into.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ..engine.fitness import DEVICES
from ..engine.flavours import family
from ..hardware.hardware import Gpu, Hardware
from .accounts import RAM, Pool

_MIB = 1024**2
_WIRED_BY_MACOS_BYTES = 2 * 1024**3
_SMALL_MAC_BYTES = 32 * 1024**3
_LISTED = re.compile(r"(?P<name>\w+): .*\((?P<total>\d+) MiB, (?P<free>\d+) MiB free\)")


def pools_of(hardware: Hardware, flavour: str, devices: Sequence[str] = ()) -> tuple[Pool, ...]:
    """
    The GPUs first, the RAM last; a build of flavour cpu has the RAM alone.

    ``devices`` are what the engine itself lists, whose figures count.  Without them (it is not installed yet,
    or the machine is another one) it is what the hardware record says of the GPUs that the flavour is for.
    """
    of = family(flavour)
    ram = Pool(RAM, hardware.ram_bytes, _free_ram(hardware))
    if of == "cpu":
        return (ram,)
    listed = tuple(filter(None, (_listed(device, hardware) for device in devices)))
    return (*(listed or _expected(hardware, of)), ram)


def given_back(pools: Iterable[Pool], held: Mapping[str, int]) -> tuple[Pool, ...]:
    """With what a server that will have ended holds of them, by name, counted as free."""
    return tuple(_with(pool, held.get(pool.name, 0)) for pool in pools)


def _with(pool: Pool, held: int) -> Pool:
    if pool.free_bytes is None:
        return pool
    free = pool.free_bytes + held
    return replace(pool, free_bytes=min(free, pool.total_bytes or free))


def _free_ram(hardware: Hardware) -> int | None:
    """
    What can be had without harm.

    macOS counts as available what nobody uses; what other programs hold it compresses and swaps as a matter
    of course, and the 20b runs on a Mac mini of 16 GB, of which 8 are available.  There it is all but the
    2 GiB that the system keeps wired.
    """
    if hardware.os != "macos" or hardware.ram_bytes is None:
        return hardware.available_bytes
    return max(hardware.available_bytes or 0, hardware.ram_bytes - _WIRED_BY_MACOS_BYTES)


def _listed(device: str, hardware: Hardware) -> Pool | None:
    """One line of ``--list-devices``.  A device of another machine (RPC) is not ours to plan."""
    found = _LISTED.fullmatch(device.strip())
    if found is None or found["name"].startswith("RPC"):
        return None
    total, free = int(found["total"]) * _MIB, int(found["free"]) * _MIB
    own = sum(_own_bytes(gpu) for gpu in hardware.gpus)
    shares = not hardware.discrete
    return Pool(found["name"], total, min(total, free), shares, own if shares else 0)


def _expected(hardware: Hardware, of: str) -> tuple[Pool, ...]:
    prefix = next((prefix for prefix, flavour in DEVICES.items() if flavour == of), None)
    if prefix is None:
        return ()
    return tuple(_pool(f"{prefix}{index}", gpu, hardware) for index, gpu in enumerate(_used(hardware, of)))


def _used(hardware: Hardware, of: str) -> Iterable[Gpu]:
    """llama.cpp leaves integrated GPUs alone where there is another."""
    vendor = {"cuda": "nvidia", "rocm": "amd", "metal": "apple"}.get(of)
    fitting = [gpu for gpu in hardware.gpus if vendor in {None, gpu.vendor}]
    return [gpu for gpu in fitting if not gpu.integrated] or fitting


def _pool(name: str, gpu: Gpu, hardware: Hardware) -> Pool:
    shares = bool(gpu.integrated or gpu.unified)
    total, free = gpu.memory_bytes, gpu.free_bytes
    if gpu.vendor == "apple":
        total = free = _of_a_mac(hardware.ram_bytes)
    if shares and free is None:
        free = total
    available = _free_ram(hardware)
    if shares and free is not None and available is not None:
        free = min(free, _own_bytes(gpu) + available)
    return Pool(name, total, free, shares, _own_bytes(gpu) if shares else 0)


def _own_bytes(gpu: Gpu) -> int:
    return max(0, (gpu.memory_bytes or 0) - gpu.shared_bytes) if gpu.vendor != "apple" else 0


def _of_a_mac(ram: int | None) -> int | None:
    """
    What Metal recommends as the most (recommendedMaxWorkingSetSize): two thirds of the RAM up to 32 GiB and
    three quarters above, as engines print on Macs of 16 (10,923 MiB), 32, 36 and 128 GB.
    """
    if ram is None:
        return None
    return ram * 2 // 3 if ram <= _SMALL_MAC_BYTES else ram * 3 // 4
