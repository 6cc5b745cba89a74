"""A computer's hardware as values.  ``None`` and "" mean unknown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Os = Literal["linux", "macos", "windows"]


@dataclass(frozen=True, slots=True)
class Cpu:
    """``performance_cores`` are the fast ones of a hybrid, all of them elsewhere."""

    name: str = ""
    cores: int | None = None  # physical
    performance_cores: int | None = None
    threads: int | None = None
    features: tuple[str, ...] = ()  # instruction sets that matter to ggml: avx2, avx512f, amx_int8, sve …


@dataclass(frozen=True, slots=True)
class PcieLink:
    """As it runs now, and what card and slot could do; a card over OCuLink shows a width of 4."""

    width: int | None = None
    max_width: int | None = None
    speed_gts: float | None = None  # GT/s per lane: 16.0 is PCIe 4
    max_speed_gts: float | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A device file, and whether this user may open it."""

    path: str
    may_open: bool


@dataclass(frozen=True, slots=True)
class Gpu:
    """
    One GPU, from any source.

    ``memory_bytes`` is all that it can use.  Of that, ``shared_bytes`` is part of the RAM that the system
    reports (GTT, unified memory); the rest is its own, or carved out of the RAM by the firmware before
    the system counted it.
    """

    vendor: str  # nvidia, amd, intel, apple, qualcomm, or unknown
    name: str = ""
    pci: str = ""  # 0000:01:00.0, small letters
    device_id: str = ""  # vendor:device, as in 10de:2803
    memory_bytes: int | None = None
    free_bytes: int | None = None
    shared_bytes: int = 0
    integrated: bool | None = None
    unified: bool | None = None
    driver: str = ""  # nvidia 580.95.05, amdgpu, xe; with the version where there is one
    driver_version: str = ""  # 580.95.05
    cuda: str = ""  # the newest CUDA that the driver knows: 13.0
    architecture: str = ""  # compute capability 8.9, gfx1151, …
    link: PcieLink | None = None
    nodes: tuple[Node, ...] = ()
    sources: tuple[str, ...] = ()  # which reported it: nvidia-smi, sysfs, vulkaninfo …


@dataclass(frozen=True, slots=True)
class Hardware:
    """``notes`` says what could not be found out and why, one sentence each."""

    os: Os
    arch: str  # x86_64, arm64, or what the system says
    os_name: str = ""  # Ubuntu 24.04.1 LTS, macOS 26.1, Windows 11 …
    os_version: str = ""  # 24.04, 26.1, 10.0.26100
    kernel: str = ""
    environment: str = ""  # wsl2, container, or ""
    libc: str = ""  # glibc, musl, or ""
    libc_version: str = ""
    cpu: Cpu = field(default_factory=Cpu)
    ram_bytes: int | None = None  # as the system reports it
    available_bytes: int | None = None
    disk_free_bytes: int | None = None  # where engines and models go
    gpus: tuple[Gpu, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def memory_bytes(self) -> int | None:
        """The memory that a model may have, each byte counted once: RAM, and that of the GPUs but `minor`."""
        if self.ram_bytes is None:
            return None
        used = (gpu for gpu in self.gpus if gpu not in self.minor)
        return self.ram_bytes + sum((gpu.memory_bytes or 0) - gpu.shared_bytes for gpu in used)

    @property
    def minor(self) -> tuple[Gpu, ...]:
        """Cards with less than a quarter of another GPU's memory: a model is faster without them."""
        largest = max((gpu.memory_bytes or 0 for gpu in self.gpus), default=0)
        return tuple(gpu for gpu in self.discrete if 0 < (gpu.memory_bytes or 0) * 4 < largest)

    @property
    def installed_ram_bytes(self) -> int | None:
        """RAM with what the firmware carved out of it for an integrated GPU, which the system leaves out."""
        if self.ram_bytes is None:
            return None
        carved = sum((g.memory_bytes or 0) - g.shared_bytes for g in self.gpus if g.integrated)
        return self.ram_bytes + carved

    @property
    def discrete(self) -> tuple[Gpu, ...]:
        return tuple(gpu for gpu in self.gpus if gpu.integrated is False)

    @property
    def fingerprint(self) -> str:
        """What an engine's view of the GPUs depends on: the cards, their drivers, and who may use them."""
        parts = [
            f"{gpu.name or gpu.device_id} {gpu.driver} {gpu.driver_version} "
            f"{'open' if all(node.may_open for node in gpu.nodes) else 'closed'}"
            for gpu in self.gpus
        ]
        return "; ".join(sorted(parts)) or "no GPU"
