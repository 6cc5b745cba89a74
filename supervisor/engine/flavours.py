"""The names of flavours: ``cuda-12.8`` is of the family ``cuda`` and of version 12.8."""

from __future__ import annotations

import re

# the best first, where several serve a computer; how people write them
FAMILIES = {
    "metal": "Metal", "cuda": "CUDA", "opencl": "OpenCL", "rocm": "ROCm", "sycl": "SYCL",
    "openvino": "OpenVINO", "vulkan": "Vulkan", "cpu": "CPU",
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
