"""Linux: what the kernel and the distribution say, and all sources for GPUs side by side."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace

from ..machine import Machine
from ..merge import merge
from ..share import shared
from ..types import Gpu, Hardware
from . import (
    amd,
    intel,
    nodes,
    nvidia_proc,
    nvidia_smi,
    pci,
    vulkan,
)
from .cpu import cpu
from .numbers import whole
from .told import ask_all

SOURCES = {  # the most direct first: what it says of a field counts
    "nvidia-smi": nvidia_smi.gpus,
    "NVIDIA's kernel module": nvidia_proc.gpus,
    "amdgpu": amd.gpus,
    "Intel's driver": intel.gpus,
    "the PCI bus": pci.gpus,
    "vulkaninfo": vulkan.gpus,
}
_ARCHS = {"aarch64": "arm64", "amd64": "x86_64"}


def hardware(machine: Machine) -> Hardware:
    """All but the disk."""
    told = ask_all(SOURCES, machine)
    memory = _meminfo(machine)
    ram, available, limit_note = _limited(machine, memory.get("MemTotal"), memory.get("MemAvailable"))
    name, version = _distribution(machine)
    libc, libc_version = _libc(machine)
    gpus, gpu_notes = shared(merge(gpu for each in told for gpu in each.gpus), ram, available)
    return Hardware(
        os="linux",
        arch=_arch(machine),
        os_name=name,
        os_version=version,
        kernel=_kernel(machine),
        environment=_environment(machine),
        libc=libc,
        libc_version=libc_version,
        cpu=cpu(machine),
        ram_bytes=ram,
        available_bytes=available,
        gpus=tuple(_with_nodes(machine, gpu) for gpu in gpus),
        notes=(*(note for each in told for note in each.notes), *gpu_notes, *limit_note),
    )


def _with_nodes(machine: Machine, gpu: Gpu) -> Gpu:
    return replace(gpu, nodes=nodes.of(machine, gpu))


def _meminfo(machine: Machine) -> dict[str, int]:
    """``MemTotal:       24684084 kB``, in bytes."""
    lines = re.findall(
        r"^(\w+):\s+(\d{1,15}) kB$", machine.read("/proc/meminfo") or "", re.MULTILINE | re.ASCII
    )
    return {name: int(kib) * 1024 for name, kib in lines}


def _limited(
    machine: Machine, ram: int | None, available: int | None
) -> tuple[int | None, int | None, tuple[str, ...]]:
    """A container sees the memory of its host and is killed for more than its own (cgroup v2, memory.max)."""
    limit = whole(machine.read("/sys/fs/cgroup/memory.max"))
    if limit is None or (ram is not None and limit >= ram):
        return ram, available, ()
    used = whole(machine.read("/sys/fs/cgroup/memory.current")) or 0
    left = max(limit - used, 0)
    note = f"This container may use {limit / 1024**3:.1f} GiB of the host's memory."
    return limit, left if available is None else min(available, left), (note,)


def _distribution(machine: Machine) -> tuple[str, str]:
    """Name and version by os-release(5)."""
    text = machine.read("/etc/os-release") or machine.read("/usr/lib/os-release") or ""
    pairs = (line.partition("=") for line in text.splitlines())
    said = {key.strip(): _unquoted(value) for key, equals, value in pairs if equals}
    return said.get("PRETTY_NAME") or said.get("NAME") or "", said.get("VERSION_ID", "")


def _unquoted(value: str) -> str:
    try:
        return " ".join(shlex.split(value))
    except ValueError:
        return value.strip()


def _arch(machine: Machine) -> str:
    """The kernel's: a 32-bit userland is rare, and engines for it do not exist."""
    said = (machine.read("/proc/sys/kernel/arch") or "").strip()  # since Linux 6.1
    if not said:
        outcome = machine.run("uname", "-m")
        said = outcome.stdout.strip() if outcome else ""
    return _ARCHS.get(said, said)


def _kernel(machine: Machine) -> str:
    return (machine.read("/proc/sys/kernel/osrelease") or "").strip()


def _environment(machine: Machine) -> str:
    """
    wsl2, container, or "".

    A file that marks containers may have come with an image that was made into a virtual machine; in a
    container, process 2 is no thread of the kernel.
    """
    if re.search(r"microsoft.*WSL2|WSL2.*microsoft", _kernel(machine), re.IGNORECASE):
        return "wsl2"
    marks = ("/.dockerenv", "/run/.containerenv", "/run/systemd/container")
    marked = any(machine.target(path) for path in marks) or _root_is_layered(machine)
    host = (machine.read("/proc/2/comm") or "").strip() == "kthreadd"
    return "container" if marked and not host else ""


def _root_is_layered(machine: Machine) -> bool:
    """As in a Kubernetes pod, which has no mark."""
    return re.match(r"overlay / overlay ", machine.read("/proc/self/mounts") or "") is not None


def _libc(machine: Machine) -> tuple[str, str]:
    """Name and version: by getconf, which only glibc's answers, else by what ldd says of itself."""
    asked = machine.run("getconf", "GNU_LIBC_VERSION")
    found = re.search(r"glibc (\d+\.\d+)", asked.stdout) if asked else None
    if found:
        return "glibc", found[1]
    asked = machine.run("ldd", "--version")
    said = asked.stdout + asked.stderr if asked else ""
    if musl := re.search(r"musl libc.*\nVersion (\d+\.\d+(?:\.\d+)?)", said):
        return "musl", musl[1]
    glibc = re.search(r"(?:GLIBC|GNU libc).* (\d+\.\d+)$", said, re.MULTILINE)
    return ("glibc", glibc[1]) if glibc else ("", "")
