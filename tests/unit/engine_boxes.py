"""Computers as records, as far as the choice of an engine looks at them."""

from __future__ import annotations

from dataclasses import replace

from supervisor.hardware.hardware import Gpu, Hardware, Node

GIB = 1024**3
RENDER = (Node("/dev/dri/card0", may_open=False), Node("/dev/dri/renderD128", may_open=True))
KFD = (*RENDER, Node("/dev/kfd", may_open=True))
NVIDIA_NODES = (Node("/dev/nvidia0", may_open=True), Node("/dev/nvidiactl", may_open=True))


def nvidia(
    name: str, capability: str, *, driver: str = "580.95.05", cuda: str = "13.0", gib: int = 16
) -> Gpu:
    return Gpu(
        vendor="nvidia",
        name=f"NVIDIA {name}",
        memory_bytes=gib * GIB,
        integrated=False,
        driver=f"nvidia {driver}".strip(),
        driver_version=driver,
        cuda=cuda,
        architecture=capability,
        nodes=NVIDIA_NODES,
    )


def amd(name: str, gfx: str, *, integrated: bool) -> Gpu:
    return Gpu("amd", f"AMD {name}", integrated=integrated, driver="amdgpu", architecture=gfx, nodes=KFD)


ARC = Gpu("intel", "Intel Arc 140T", integrated=True, driver="xe", nodes=RENDER)
RADEON_890M = amd("Radeon 890M", "gfx1150", integrated=True)
RADEON_8060S = amd("Radeon 8060S", "gfx1151", integrated=True)
RADEON_RAPHAEL = amd("Radeon Graphics", "gfx1036", integrated=True)
RX_9070 = amd("Radeon RX 9070", "gfx1201", integrated=False)
RTX_4060_TI = nvidia("GeForce RTX 4060 Ti", "8.9")
ADRENO = Gpu("qualcomm", "Qualcomm Adreno X1-85", integrated=True, unified=True)
M4 = Gpu("apple", "Apple M4", integrated=True, unified=True, driver="metal")

UBUNTU = Hardware("linux", "x86_64", "Ubuntu 24.04.3 LTS", libc="glibc", libc_version="2.39")
DEBIAN = replace(UBUNTU, os_name="Debian 12", libc_version="2.36")
WINDOWS = Hardware("windows", "x86_64", "Windows 11")
MAC = Hardware("macos", "arm64", "macOS 26.1")


def on(system: Hardware, *gpus: Gpu) -> Hardware:
    return replace(system, gpus=gpus)


BOXES = {
    "285h": on(UBUNTU, ARC),
    "hx370": on(UBUNTU, RADEON_890M),
    "hx370-4060ti": on(UBUNTU, RADEON_890M, RTX_4060_TI),
    "hx370-4060ti-debian": on(DEBIAN, RADEON_890M, RTX_4060_TI),
    "max395": on(UBUNTU, RADEON_8060S),
    "9700x-9070": on(UBUNTU, RADEON_RAPHAEL, RX_9070),
    "9700x-9070-windows": on(WINDOWS, RADEON_RAPHAEL, RX_9070),
    "m4-mini": on(MAC, M4),
    "m4-max": on(MAC, replace(M4, name="Apple M4 Max")),
    "intel-mac": Hardware("macos", "x86_64", gpus=(Gpu("amd", "AMD Radeon Pro 5500M", integrated=False),)),
    "x-elite": on(replace(WINDOWS, arch="arm64"), ADRENO),
    "3090-1070": on(
        UBUNTU, nvidia("GeForce RTX 3090", "8.6", gib=24), nvidia("GeForce GTX 1070", "6.1", gib=8)
    ),
    "5090-1070-windows": on(
        WINDOWS, nvidia("GeForce RTX 5090", "12.0", gib=32), nvidia("GeForce GTX 1070", "6.1")
    ),
    "5070-windows": on(WINDOWS, nvidia("GeForce RTX 5070", "12.0", driver="581.57")),
    "4090-old-windows": on(WINDOWS, nvidia("GeForce RTX 4090", "8.9", driver="552.22", cuda="12.4")),
    "newest-driver": on(UBUNTU, nvidia("GeForce RTX 4090", "8.9", driver="615.71.09", cuda="13.4")),
    "ancient-driver": on(UBUNTU, nvidia("GeForce RTX 2080", "7.5", driver="470.256.02", cuda="11.4")),
    "wsl2": replace(
        on(UBUNTU, replace(RTX_4060_TI, nodes=(Node("/dev/dxg", may_open=True),))), environment="wsl2"
    ),
    "spark": on(replace(UBUNTU, arch="arm64"), replace(nvidia("GB10", "12.1", cuda="13.0"), integrated=True)),
    "container": replace(UBUNTU, environment="container"),
    "no-gpu": UBUNTU,
    "rhel-9": replace(on(UBUNTU, ARC), libc_version="2.34"),
    "debian-11": replace(UBUNTU, libc_version="2.31"),
    "alpine": replace(on(UBUNTU, RTX_4060_TI), libc="musl", libc_version="1.2.5"),
    "raspberry": replace(UBUNTU, arch="arm64", libc_version="2.41"),
    "riscv": replace(UBUNTU, arch="riscv64"),
}
