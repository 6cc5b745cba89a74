"""Which memories a machine has for an engine, and which of its GPUs the engine should use.  Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..engine.build import DEVICES, family
from ..engine.device_choice import choose_devices
from ..hardware.hardware import Gpu, Hardware
from .accounts import RAM, Pool

_MIB = 1024**2
_WIRED_BY_MACOS_BYTES = 2 * 1024**3
_SMALL_MAC_BYTES = 32 * 1024**3
_LISTED = re.compile(r"(?P<name>\w+): (?P<what>.*) \((?P<total>\d+) MiB, (?P<free>\d+) MiB free\)")
_SAME_SIZE = 0.12  # a driver keeps some of a card from programs


@dataclass(frozen=True, slots=True)
class Memories:
    """
    ``pools`` are those that an engine will use: the GPUs first, the RAM last.

    ``device`` is the value of ``--device`` that makes llama.cpp use just these GPUs; empty where it does so
    by itself.  ``idle`` has a sentence for each card that then gets nothing.
    """

    pools: tuple[Pool, ...]
    device: str = ""
    idle: tuple[str, ...] = ()


def memories_of(
    hardware: Hardware,
    flavour: str,
    devices: Sequence[str] = (),
    *,
    model_bytes: int | None = None,
    every: bool = False,
) -> Memories:
    """
    What `choose_devices` takes, or all GPUs that the flavour has with ``every``: where the profile itself
    names devices.  A build of flavour cpu has the RAM alone.

    ``devices`` are what the engine itself lists, whose figures count.  Without them (it is not installed yet,
    or the machine is another one) it is what the hardware record says of the GPUs that the flavour is for.
    """
    of = family(flavour)
    ram = Pool(RAM, hardware.ram_bytes, _free_ram(hardware))
    if of == "cpu":
        return Memories((ram,))
    found = _listed(devices, hardware, of) or _expected(hardware, of)
    gpus = [gpu for gpu, _ in found]
    choice = choose_devices(gpus, flavour, model_bytes)
    used = range(len(found)) if every else choice.used
    pools = [found[index][1] for index in used]
    if every or choice.is_default:
        return Memories((*pools, ram))
    names = ",".join(pool.name for pool in pools)
    idle = [index for index in range(len(found)) if index not in choice.used and not gpus[index].integrated]
    called = " and ".join(gpus[index].name or found[index][1].name for index in choice.used)
    said = tuple(
        f"{gpus[index].name or found[index][1].name} stays idle: {called} alone is faster; server.device: "
        f"{','.join(found[each][1].name for each in sorted((*choice.used, index)))} would use it too"
        for index in idle
    )
    return Memories((*pools, ram), names, said)


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


def _listed(devices: Iterable[str], hardware: Hardware, of: str) -> list[tuple[Gpu, Pool]]:
    """Lines of ``--list-devices``.  A device of another machine (RPC) is not ours to plan."""
    left, found = _fitting(hardware, of), list[tuple[Gpu, Pool]]()
    lines = [line for device in devices if (line := _LISTED.fullmatch(device.strip()))]
    adapters = _adapters(lines, left, in_container=bool(hardware.environment))
    for line in lines:
        if line["name"].startswith("RPC"):
            continue
        total, free = int(line["total"]) * _MIB, int(line["free"]) * _MIB
        gpu = _meant(line["what"], total, left)
        own = sum(_own_bytes(each) for each in hardware.gpus)
        if gpu is None:
            gpu = Gpu("unknown", line["what"], memory_bytes=total, integrated=not hardware.discrete)
        else:
            left.remove(gpu)
            own = _own_bytes(gpu)
            gpu = replace(gpu, memory_bytes=gpu.memory_bytes or total)
        shares, adapter = bool(gpu.integrated or gpu.unified), adapters.get(line["name"], "")
        pool = Pool(line["name"], total, min(total, free), shares, own if shares else 0, adapter=adapter)
        found.append((gpu, pool))
    return found


def _adapters(lines: Iterable[re.Match[str]], gpus: Sequence[Gpu], *, in_container: bool) -> dict[str, str]:
    """
    The PCI address of each device that an engine lists, where it is certain: only one card has this size or,
    of several, this name, and no other device can be the same card.

    The order says nothing.  CUDA puts the card first that it takes for the fastest and promises none for the
    rest, unless CUDA_DEVICE_ORDER does; CUDA_VISIBLE_DEVICES and its like leave out and reorder; a slice of a
    card (MIG) is smaller than the card.  What NVIDIA's driver says of processes in a container, by numbers
    that mean others there, is of no use.
    """
    possible: dict[str, set[str]] = {}
    for line in lines:
        sized = [gpu for gpu in gpus if _is_of_size(gpu, int(line["total"]) * _MIB)]
        if len(sized) > 1:
            sized = [gpu for gpu in sized if _is_called(gpu, line["what"])]
        if not (in_container and any(gpu.vendor == "nvidia" for gpu in sized)):
            possible[line["name"]] = {gpu.pci for gpu in sized}
    times = Counter(address for addresses in possible.values() for address in addresses)
    return {
        name: address
        for name, addresses in possible.items()
        for address in addresses
        if len(addresses) == 1 and times[address] == 1
    }


def _is_of_size(gpu: Gpu, total: int) -> bool:
    return abs((gpu.memory_bytes or total) - total) <= _SAME_SIZE * total


def _is_called(gpu: Gpu, what: str) -> bool:
    """By a name that says more than ``AMD Radeon Graphics``, which may be any of them."""
    words = _words(gpu.name)
    return len(words) > 1 and words <= _words(what)


def _meant(what: str, total: int, gpus: Sequence[Gpu]) -> Gpu | None:
    """The GPU that an engine calls ``what``: by its name, or as the only one of its size or at all."""
    named = [gpu for gpu in gpus if _is_called(gpu, what)]
    if named:
        return max(named, key=lambda gpu: len(_words(gpu.name)))
    sized = [gpu for gpu in gpus if gpu.memory_bytes and _is_of_size(gpu, total)]
    return next((each[0] for each in (sized, gpus) if len(set(each)) == 1), None)


def _words(name: str) -> set[str]:
    """Without what only some drivers say."""
    return set(re.findall(r"\w+", name.lower())) - {"r", "tm", "graphics", "gpu", "nvidia", "amd", "intel"}


def _expected(hardware: Hardware, of: str) -> list[tuple[Gpu, Pool]]:
    """Cards first, as the loader of Vulkan sorts them."""
    prefix = next((prefix for prefix, flavour in DEVICES.items() if flavour == of), None)
    if prefix is None:
        return []
    gpus = sorted(_fitting(hardware, of), key=lambda gpu: bool(gpu.integrated))
    return [(gpu, _pool(f"{prefix}{index}", gpu, hardware)) for index, gpu in enumerate(gpus)]


def _fitting(hardware: Hardware, of: str) -> list[Gpu]:
    vendor = {"cuda": "nvidia", "rocm": "amd", "metal": "apple"}.get(of)
    return [gpu for gpu in hardware.gpus if vendor in {None, gpu.vendor}]


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
