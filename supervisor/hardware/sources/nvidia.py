"""
NVIDIA GPUs by nvidia-smi on Linux, WSL2 and Windows, or else by its library.

What its kernel module has in /proc is available even when its tools and its driver do not match.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ...tool import ToolResult
from ..hardware import Gpu, Os, PcieLink
from ..machine import TIMEOUT_SECONDS, Machine
from . import nvml
from .gpu_report import GpuReport
from .nvml import FIELDS
from .tool_output import MIB, NVIDIA_SMI, decimal, pci_address, whole

_GENERATIONS = {1: 2.5, 2: 5.0, 3: 8.0, 4: 16.0, 5: 32.0, 6: 64.0}  # GT/s per lane
_NEWER = ("compute_cap",)  # drivers before 510 do not know this field, and then answer nothing at all
HANGS = f"nvidia-smi did not answer within {TIMEOUT_SECONDS:g} s: the driver may hang."
_PRESENT = ("/dev/nvidiactl", "/dev/dxg", r"C:\Windows\System32\nvml.dll")
_UNIFIED = re.compile(r"\b(GB10|Orin|Thor|Xavier|Tegra)\b")  # no memory of their own, and they say [N/A]


def smi_gpus(machine: Machine) -> GpuReport:
    """All NVIDIA GPUs, with the newest CUDA that the driver knows."""
    for program in NVIDIA_SMI:
        report = _smi(machine, program)
        if report is not None:
            return report  # also where it failed: it asks the same library, which will say the same
    return _nvml(machine)


def _smi(machine: Machine, program: str) -> GpuReport | None:
    """None where there is no such program."""
    with ThreadPoolExecutor(2) as pool:  # side by side: one that hangs costs 5 s and no more
        listed, table = pool.map(lambda command: machine.run(*command), (query(program, FIELDS), (program,)))
    fields: tuple[str, ...] = FIELDS
    if listed is not None and "not a valid field" in listed.stdout + listed.stderr:
        fields = tuple(field for field in FIELDS if field not in _NEWER)
        listed = machine.run(*query(program, fields))
    if listed is None:
        return None
    if listed.returncode is None:
        return GpuReport(notes=(HANGS,))
    found = parse(listed.stdout, fields, cuda_version(table.stdout if table else ""), machine.os)
    return GpuReport(found, _complaints(listed, found))


def _complaints(outcome: ToolResult, found: tuple[Gpu, ...]) -> tuple[str, ...]:
    """Its own words where it lists none, or not all."""
    if found and outcome.returncode == 0:
        return ()
    lines = f"{outcome.stdout}\n{outcome.stderr}".splitlines()
    message = _words("\n".join(line for line in lines if "," not in line))
    return (f"nvidia-smi lists {'not all GPUs' if found else 'no GPU'}: {message}",)


def query(program: str, fields: Sequence[str]) -> tuple[str, ...]:
    return (program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits")


def cuda_version(text: str) -> str:
    """From the table's head: ``CUDA Version: 12.8``, and ``CUDA UMD Version: 13.3`` since driver 610."""
    found = re.search(r"CUDA (?:UMD )?Version\s*:\s*(\d{1,3}\.\d{1,3})\b", text, re.ASCII)
    return found[1] if found else ""


def parse(text: str, fields: Sequence[str], cuda: str, os: Os, source: str = "nvidia-smi") -> tuple[Gpu, ...]:
    """A line for each GPU; what is no such line is passed over, warnings among it."""
    # Not as CSV: nvidia-smi quotes nothing, and a quote must not swallow the lines after it.
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    records = (dict(zip(fields, row, strict=True)) for row in rows if len(row) == len(fields))
    return tuple(_smi_gpu(record, cuda, os, source) for record in records if _is_gpu(record))


def _is_gpu(record: dict[str, str]) -> bool:
    """A Jetson's GPU is on no PCI bus: its address is [N/A]."""
    if record["name"].startswith("["):
        return False
    return bool(pci_address(record["pci.bus_id"]) or _UNIFIED.search(record["name"]))


def _smi_gpu(record: dict[str, str], cuda: str, os: Os, source: str) -> Gpu:
    total, free = whole(record["memory.total"]), whole(record["memory.free"])
    version = record["driver_version"] if re.match(r"\d", record["driver_version"]) else ""
    capability = record.get("compute_cap", "")
    unified = total is None and _UNIFIED.search(record["name"]) is not None
    return Gpu(
        vendor="nvidia",
        name=_jetson_name(record["name"]),
        pci=pci_address(record["pci.bus_id"]),
        device_id=_device_id(record["pci.device_id"]),
        memory_bytes=None if total is None else total * MIB,
        free_bytes=None if free is None else free * MIB,
        integrated=unified,
        unified=unified,
        driver=f"nvidia {version}".strip() if os != "windows" else version,
        driver_version=version,
        cuda=cuda,
        architecture=capability if re.fullmatch(r"\d{1,2}\.\d", capability, re.ASCII) else "",
        link=None if unified else _link(record),  # of an internal bus, at one lane
        sources=(source,),
    )


def _jetson_name(name: str) -> str:
    """``Orin (nvgpu)`` as NVIDIA Orin, which is what the other sources call it."""
    return re.sub(r"^(?:NVIDIA )?(?:Tegra )?(.+) \(nvgpu\)$", r"NVIDIA \1", name)


def _device_id(text: str) -> str:
    """``0x280310DE``: device before vendor."""
    found = re.fullmatch(r"0x([0-9A-Fa-f]{4})([0-9A-Fa-f]{4})", text)
    return f"{found[2]}:{found[1]}".lower() if found else ""


def _link(record: dict[str, str]) -> PcieLink | None:
    speed, most = (decimal(record[f"pcie.link.gen.{which}"]) for which in ("current", "max"))
    link = PcieLink(
        width=whole(record["pcie.link.width.current"]) or None,
        max_width=whole(record["pcie.link.width.max"]) or None,
        speed_gts=_GENERATIONS.get(int(speed or 0)),
        max_speed_gts=_GENERATIONS.get(int(most or 0)),
    )
    return None if link == PcieLink() else link


def _words(text: str) -> str:
    """The first two lines: the second is often what to do."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    message = " ".join(lines[:2])[:300]
    return message if message.endswith(".") else f"{message or 'it printed nothing'}."


def is_present(machine: Machine) -> bool:
    """Whether there are signs of the driver."""
    return any(machine.target(path) for path in _PRESENT)


def _nvml(machine: Machine) -> GpuReport:
    """
    In a process of its own: a call into a driver that hangs cannot be taken back.

    Asked only where there are signs of the driver, so that a machine without one spends no time on it.
    """
    if not is_present(machine):
        return GpuReport()
    outcome = machine.run(sys.executable, "-I", "-S", str(Path(nvml.__file__)))
    if outcome is None or outcome.returncode is None:
        return GpuReport(notes=("NVIDIA's library (NVML) did not answer.",))
    found = parse(outcome.stdout, FIELDS, cuda_version(outcome.stdout), machine.os, "nvml")
    return GpuReport(found) if found else GpuReport(notes=(f"NVML: {_words(outcome.stderr)}",))


_TEGRA = "/etc/nv_tegra_release"
_COMPATIBLE = "/proc/device-tree/compatible"
_JETSONS = {  # the processor's name in the device tree: the GPU, its compute capability
    "tegra210": ("NVIDIA Tegra X1", "5.3"),
    "tegra186": ("NVIDIA Tegra X2", "6.2"),
    "tegra194": ("NVIDIA Xavier", "7.2"),
    "tegra234": ("NVIDIA Orin", "8.7"),
    "tegra264": ("NVIDIA Thor", "11.0"),
}
_CUDA_OF_JETPACK = {32: "10.2", 34: "11.4", 35: "11.4", 36: "12.6", 38: "13.0"}  # by release of Jetson Linux
_CUDA = "/usr/local/cuda/version.json"


def jetson_gpus(machine: Machine) -> GpuReport:
    """
    The GPU of a Jetson, which shares all the RAM and is on no bus.

    JetPack 6 was the first with an nvidia-smi, which knows little of it; a container may have the release
    file and no device tree, or neither.
    """
    text = machine.read(_COMPATIBLE) or ""
    found = next((gpu for processor, gpu in _JETSONS.items() if f"nvidia,{processor}" in text), None)
    release = re.search(r"R(\d{2}) \(release\)", machine.read(_TEGRA) or "")
    if found is None and release is None:
        return GpuReport()
    name, capability = found or ("", "")
    number = int(release[1]) if release else 0
    installed = re.search(r'"cuda"\s*:\s*\{[^}]*"version"\s*:\s*"(\d+\.\d+)', machine.read(_CUDA) or "")
    return GpuReport(
        (
            Gpu(
                vendor="nvidia",
                name=name,
                integrated=True,
                unified=True,
                driver="nvidia",
                cuda=installed[1] if installed else _CUDA_OF_JETPACK.get(number, ""),
                architecture=capability,
                sources=("tegra",),
            ),
        )
    )


MODULE = "/proc/driver/nvidia"


def module_gpus(machine: Machine) -> GpuReport:
    version = driver_version(machine)
    folders = (folder for folder in machine.names(f"{MODULE}/gpus") if pci_address(folder))
    return GpuReport(tuple(_module_gpu(machine, folder, version) for folder in folders))


def _module_gpu(machine: Machine, folder: str, version: str) -> Gpu:
    return Gpu(
        vendor="nvidia",
        name=_module_record(machine, folder).get("Model", ""),
        pci=pci_address(folder),
        driver=f"nvidia {version}".strip(),
        driver_version=version,
        sources=("proc",),
    )


def driver_version(machine: Machine) -> str:
    """
    From ``NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 …``, or
    ``NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build …``.
    """
    message = machine.read(f"{MODULE}/version") or ""
    found = re.search(r"Kernel Module\D.*?\s(\d{3}\.[\d.]{2,12})\s", message, re.ASCII)
    return found[1] if found else ""


def minor(machine: Machine, pci: str) -> int | None:
    """The N of /dev/nvidiaN of a card."""
    for folder in machine.names(f"{MODULE}/gpus"):
        if pci_address(folder) == pci:
            return whole(_module_record(machine, folder).get("Device Minor"))
    return None


def _module_record(machine: Machine, folder: str) -> dict[str, str]:
    r"""``Model: \t\t NVIDIA GeForce RTX 4090``, a line for each property."""
    lines = (machine.read(f"{MODULE}/gpus/{folder}/information") or "").splitlines()
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}
