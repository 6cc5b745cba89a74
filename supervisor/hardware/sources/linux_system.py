"""
Linux: facts from the kernel and the distribution, and all GPU sources in parallel.

Of what slows it down: cpufreq.rst and intel_pstate.rst in Documentation/admin-guide/pm of the kernel,
sysfs-platform_profile and sysfs-class-power in Documentation/ABI/testing; src/udev/dmi_memory_id of systemd,
whose database everybody may read, where the firmware's own tables are for root alone.
"""

from __future__ import annotations

import posixpath
import re
import shlex
import time
from collections.abc import Mapping
from dataclasses import replace

from ...cgroups import tightest
from ..conditions import Conditions, MemoryModule, PowerMode, channel_of
from ..gpu_merge import merge, shared
from ..hardware import Cpu, Gpu, Hardware, Node
from ..machine import Machine
from ..sensors import CounterRates, DeviceReading
from . import amd, intel, nvidia, pci, vulkan
from .gpu_report import ask_all
from .nvml_sensors import NvmlSensors
from .processor import LinuxProcessor
from .tool_output import whole

SOURCES = {  # the most direct first: what it says of a field counts
    "nvidia-smi": nvidia.smi_gpus,
    "NVIDIA's kernel module": nvidia.module_gpus,
    "a Jetson's own files": nvidia.jetson_gpus,
    "amdgpu": amd.gpus,
    "Intel's driver": intel.gpus,
    "the PCI bus": pci.gpus,
    "vulkaninfo": vulkan.gpus,
}
_ARCHS = {"aarch64": "arm64", "amd64": "x86_64"}
_KERNEL = "/proc/sys/kernel/osrelease"


def hardware(machine: Machine) -> Hardware:
    """All but the disk."""
    reports = ask_all(SOURCES, machine)
    memory = _meminfo(machine)
    ram, available, limit_note = _limited(machine, memory.get("MemTotal"), memory.get("MemAvailable"))
    name, version = _distribution(machine)
    libc, libc_version = _libc(machine)
    gpus, gpu_notes = shared(merge(gpu for each in reports for gpu in each.gpus), ram, available)
    return Hardware(
        os="linux",
        arch=_arch(machine),
        os_name=name,
        os_version=version,
        kernel=_line(machine, _KERNEL),
        environment=_environment(machine),
        libc=libc,
        libc_version=libc_version,
        cpu=cpu(machine),
        ram_bytes=ram,
        available_bytes=available,
        gpus=tuple(replace(gpu, nodes=nodes_of(machine, gpu)) for gpu in gpus),
        notes=(*(note for each in reports for note in each.notes), *gpu_notes, *limit_note),
    )


def _meminfo(machine: Machine) -> dict[str, int]:
    """``MemTotal:       24684084 kB``, in bytes."""
    lines = re.findall(r"(?am)^(\w+):\s+(\d{1,15}) kB$", machine.read("/proc/meminfo") or "")
    return {name: int(kib) * 1024 for name, kib in lines}


def _limited(
    machine: Machine, ram: int | None, available: int | None
) -> tuple[int | None, int | None, tuple[str, ...]]:
    """A container sees the memory of its host and is killed for more than its own control group allows."""
    group = tightest(machine.read)
    if group is None or (ram is not None and group.limit_bytes >= ram):
        return ram, available, ()
    left = group.left_bytes if available is None else min(available, group.left_bytes)
    limit = f"{group.limit_bytes / 1024**3:.1f} GiB"
    note = (
        f"This container may use {limit} of the host's memory."
        if _environment(machine) == "container"
        else f"The control group {group.path} allows {limit} of this machine's memory."
    )
    return group.limit_bytes, left, (note,)


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
    said = _line(machine, "/proc/sys/kernel/arch")  # since Linux 6.1
    if not said and (outcome := machine.run("uname", "-m")):
        said = outcome.stdout.strip()
    return _ARCHS.get(said, said)


def _line(machine: Machine, path: str) -> str:
    """All that a small file says; "" where there is none."""
    return (machine.read(path) or "").strip("\0 \t\n")


def _environment(machine: Machine) -> str:
    """
    wsl2, container, or "".

    A file that marks containers may have come with an image that was made into a virtual machine; in a
    container, process 2 is no thread of the kernel.
    """
    if re.search(r"microsoft.*WSL2|WSL2.*microsoft", _line(machine, _KERNEL), re.IGNORECASE):
        return "wsl2"
    marks = ("/.dockerenv", "/run/.containerenv", "/run/systemd/container")
    layered = _line(machine, "/proc/self/mounts").startswith("overlay / overlay ")  # Kubernetes sets no mark
    marked = layered or any(machine.target(path) for path in marks)
    return "container" if marked and _line(machine, "/proc/2/comm") != "kthreadd" else ""


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


CPUS = "/sys/devices/system/cpu"
FAST = 0.8
"""A core that reaches this part of the fastest one's clock (or capacity) is a fast one.  Zen 5c has 0.64 of
Zen 5 (HX 370), Zen 4c 0.74 of Zen 4 (8500G); the favoured cores of one kind differ by less than a tenth."""

X86 = "sse4_2 avx f16c fma bmi2 avx2 avx_vnni avx512f avx512cd avx512bw avx512dq avx512vl avx512vbmi"
X86_LATER = "avx512_vnni avx512_bf16 amx_tile amx_int8 amx_bf16"
ARM = "asimd asimddp asimdhp i8mm bf16 sve sve2 sme"
FEATURES = tuple(f"{X86} {X86_LATER} {ARM}".split())
"""Those that ggml has variants for (GGML_CPU_ALL_VARIANTS), as the kernel writes them."""
_ARM_NAMES = {"asimd": "neon", "asimddp": "dotprod", "asimdhp": "fp16"}  # as Apple and ggml call them


def cpu(machine: Machine) -> Cpu:
    blocks = _blocks(machine.read("/proc/cpuinfo") or "")
    first = blocks[0] if blocks else {}
    cores = _cores(machine)
    count = len(set(cores.values())) or _counted(blocks)
    return Cpu(
        # the board's model, where no processor is named, as on most ARM machines
        name=first.get("model name") or first.get("Model") or _line(machine, "/proc/device-tree/model"),
        cores=count,
        performance_cores=_fast(machine, cores) or count,
        threads=len(blocks) or len(cores) or None,
        features=_features(first.get("flags") or first.get("Features") or ""),
    )


def _blocks(text: str) -> list[dict[str, str]]:
    """One for each thread; what stands apart from them (``Model`` of a Raspberry Pi) goes with the first."""
    parts = [
        {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in part.splitlines())}
        for part in re.split(r"\n\s*\n", text)
    ]
    return [part for part in parts if "processor" in part]


def _features(flags: str) -> tuple[str, ...]:
    has = set(flags.split())
    return tuple(_ARM_NAMES.get(name, name) for name in FEATURES if name in has)


def _cores(machine: Machine) -> Mapping[int, str]:
    """Thread number to the threads of its core, as in ``0,12``, which names the core."""
    numbers = (whole(name[3:]) for name in machine.names(CPUS) if name.startswith("cpu"))
    found: dict[int, str] = {}
    for number in numbers:
        topology = f"{CPUS}/cpu{number}/topology"
        text = machine.read(f"{topology}/core_cpus_list") or machine.read(f"{topology}/thread_siblings_list")
        if number is not None and text:
            found[number] = text.strip()
    return found


def _counted(blocks: list[dict[str, str]]) -> int | None:
    """Without sysfs: by the numbers of package and core, which only x86 tells."""
    if not blocks or any("core id" not in block for block in blocks):
        return None
    return len({(block.get("physical id"), block["core id"]) for block in blocks})


def _fast(machine: Machine, cores: Mapping[int, str]) -> int | None:
    """Intel's hybrids list their fast ones; others tell by what the scheduler counts, or by the clock."""
    listed = numbers_in(machine.read("/sys/devices/cpu_core/cpus") or "")
    if listed:
        return len({cores[number] for number in listed if number in cores}) or None
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        speeds = {number: whole(machine.read(f"{CPUS}/cpu{number}/{name}")) for number in cores}
        most = max((speed for speed in speeds.values() if speed), default=0)
        if most:
            return len({cores[number] for number, speed in speeds.items() if speed and speed >= FAST * most})
    return None


def numbers_in(text: str) -> tuple[int, ...]:
    """``0-5,8`` as 0, 1, 2, 3, 4, 5, 8; empty for what is no such list."""
    found: list[int] = []
    for part in text.strip().split(","):
        ends = [whole(end) for end in part.split("-")]
        if len(ends) > 2 or None in ends or max(map(int, filter(None, ends)), default=0) > 65535:
            return ()
        found += range(int(ends[0] or 0), int(ends[-1] or 0) + 1)
    return tuple(found)


_RENDER = re.compile(r"renderD\d+")
_CARD = re.compile(r"nvidia\d+")


def nodes_of(machine: Machine, gpu: Gpu) -> tuple[Node, ...]:
    """Those that an engine needs: the render node, and the vendor's own for compute."""
    paths = [*_render(machine, gpu.pci), *_compute(machine, gpu)]
    return tuple(Node(path, machine.may_open(path)) for path in paths)


def _render(machine: Machine, pci: str) -> list[str]:
    """/dev/dri/renderD128, if it is there: a container may have sysfs and not the file."""
    if not pci:
        return []
    there = machine.names("/dev/dri")
    named = (name for name in machine.names("/sys/class/drm") if _RENDER.fullmatch(name))
    targets = {name: machine.target(f"/sys/class/drm/{name}/device") or "" for name in named}
    owned = (name for name, target in targets.items() if posixpath.basename(target) == pci)
    return [f"/dev/dri/{name}" for name in owned if name in there]


def _compute(machine: Machine, gpu: Gpu) -> list[str]:
    there = machine.names("/dev")
    wsl = {"dxg"} & set(there)  # WSL2 has one file for all GPUs, behind which Windows drives them
    if gpu.vendor == "nvidia":
        jetson = ("nvhost-gpu", "nvmap") if gpu.unified and not gpu.pci else ()
        shared = [name for name in ("nvidiactl", "nvidia-uvm", *jetson) if name in there]
        return [f"/dev/{name}" for name in (*_cards(machine, gpu.pci, there), *shared, *wsl)]
    if gpu.vendor == "amd" and "kfd" in there:
        return ["/dev/kfd"]
    return [] if gpu.pci else [f"/dev/{name}" for name in wsl]


def _cards(machine: Machine, pci: str, there: tuple[str, ...]) -> list[str]:
    """/dev/nvidiaN by the kernel module's word; where it gives none, all that are there."""
    cards = [name for name in there if _CARD.fullmatch(name)]
    minor = nvidia.minor(machine, pci)
    return cards if minor is None else [name for name in cards if name == f"nvidia{minor}"]


_FREQUENCY = f"{CPUS}/cpu0/cpufreq"
_PROFILE = "/sys/firmware/acpi/platform_profile"
_SUPPLIES = "/sys/class/power_supply"
_UDEV = "/run/udev/data/+dmi:id"
_MODES: dict[str, PowerMode] = {
    **dict.fromkeys(("low-power", "quiet", "cool"), "efficiency"),
    **dict.fromkeys(("balanced", "balanced-performance"), "balanced"),
    **dict.fromkeys(("performance", "max-power"), "performance"),
}


def conditions(machine: Machine) -> Conditions:
    modules, slots = _modules(machine)
    addresses = (gpu.pci for gpu in pci.gpus(machine).gpus)
    ports = {address: port for address in addresses if (port := pci.port(machine, address))}
    return Conditions(
        on_battery=_on_battery(machine),
        power_mode=_MODES.get(_line(machine, _PROFILE), ""),
        governor=_line(machine, f"{_FREQUENCY}/scaling_governor"),
        scaling_driver=_line(machine, f"{_FREQUENCY}/scaling_driver"),
        preference=_line(machine, f"{_FREQUENCY}/energy_performance_preference"),
        modules=modules,
        slots=slots,
        ports=ports,
    )


def _on_battery(machine: Machine) -> bool | None:
    """By the computer's own batteries: a mouse has one too, whose scope is Device."""
    found = None
    for name in machine.names(_SUPPLIES):
        folder = f"{_SUPPLIES}/{name}"
        if _line(machine, f"{folder}/type") == "Battery" and _line(machine, f"{folder}/scope") != "Device":
            found = bool(found) or _line(machine, f"{folder}/status") == "Discharging"
    return found


def _modules(machine: Machine) -> tuple[tuple[MemoryModule, ...], int | None]:
    """Those that are there, and how many slots there are."""
    lines = re.findall(r"(?am)^E:MEMORY_DEVICE_(\d{1,4})_(\w+)=(.*)$", machine.read(_UDEV) or "")
    devices: dict[int, dict[str, str]] = {}
    for number, name, value in lines:
        devices.setdefault(int(number), {})[name] = value.strip()
    there = [each for each in devices.values() if each.get("PRESENT") != "0" and "SIZE" in each]
    return tuple(map(_module, there)), len(devices) or None


def _module(device: dict[str, str]) -> MemoryModule:
    slot, bank = device.get("LOCATOR", ""), device.get("BANK_LOCATOR", "")
    return MemoryModule(
        slot,
        whole(device["SIZE"]),
        whole(device.get("CONFIGURED_SPEED_MTS") or device.get("SPEED_MTS")),
        whole(device.get("DATA_WIDTH")),
        channel_of(slot, bank),
    )


class LinuxSensors:
    """Of the processor, and of each GPU on the PCI bus or of NVIDIA; which there are is found out once."""

    def __init__(self, machine: Machine, nvml: NvmlSensors | None = None) -> None:
        self._machine = machine
        self._rates = CounterRates()
        self._processor = LinuxProcessor(machine)
        found = (gpu for source in (amd.gpus, intel.gpus, pci.gpus) for gpu in source(machine).gpus)
        self._gpus = merge(found)
        self._nvml = (nvml or NvmlSensors()) if nvidia.is_present(machine) else None

    def read(self, now: float | None = None) -> tuple[DeviceReading, ...]:
        now = time.monotonic() if now is None else now
        of_nvidia = self._nvml.read() if self._nvml else ()
        known = {each.pci: each for each in of_nvidia}
        others = [each for each in of_nvidia if each.pci not in {gpu.pci for gpu in self._gpus}]
        return (
            self._processor.read(now),
            *(known.get(gpu.pci) or self._of_gpu(gpu, now) for gpu in self._gpus),
            *others,  # under WSL2 there is no bus to see
        )

    def _of_gpu(self, gpu: Gpu, now: float) -> DeviceReading:
        if gpu.driver == "amdgpu":
            return amd.reading(self._machine, gpu)
        if gpu.driver in {"i915", "xe"}:
            return intel.reading(self._machine, gpu, self._rates, now)
        why = self._nvml.why if gpu.vendor == "nvidia" and self._nvml else ""
        driven = f"With the driver {gpu.driver}" if gpu.driver else "Without a driver"
        why = why or f"{driven} it cannot be read."
        return DeviceReading("", gpu.name or gpu.device_id, gpu.pci, why=why)

    def close(self) -> None:
        if self._nvml:
            self._nvml.close()
