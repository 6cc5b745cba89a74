"""What a compile needs from the machine, and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from ...errors import ConfigError, NoSuitableEngine
from .venv import Listener, Workshop

_SYSTEM = platform.system().lower()

BASE = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DGGML_RPC=ON",
)
FLAVOURS: Mapping[str, tuple[str, ...]] = {
    "cpu": ("-DGGML_METAL=OFF",),
    "cuda": ("-DGGML_CUDA=ON",),
    "vulkan": ("-DGGML_VULKAN=ON",),
    "rocm": ("-DGGML_HIP=ON",),
    "metal": ("-DGGML_METAL=ON",),
}
# flavour: the compiler that it needs, and how people get it
_COMPILERS = {
    "cuda": ("nvcc", "Install the CUDA toolkit (https://developer.nvidia.com/cuda-downloads)."),
    "vulkan": ("glslc", "Debian, Ubuntu: sudo apt-get install libvulkan-dev glslc spirv-headers"),
    "rocm": ("hipcc", "Install ROCm (https://rocm.docs.amd.com)."),
}
_CUDA_HOME = Path("/usr/local/cuda/bin/nvcc")  # where NVIDIA's own packages put it, on nobody's PATH
_DEBIAN = ("build-essential", "cmake", "ninja-build")


def flavour_for(wanted: str | None, *, wants_gpu: bool) -> str:
    """
    The flavour to compile.  None is cpu, or what this machine has the compiler for where a GPU is wanted.

    Raises ConfigError for one that cannot be compiled here, NoSuitableEngine where none can be chosen.
    """
    if wanted is None:
        return _gpu_flavour() if wants_gpu else "cpu"
    wanted = wanted.partition("-")[0]  # cuda-12.8: the compiler's version is the machine's own
    if wanted not in FLAVOURS:
        known = ", ".join(FLAVOURS)
        raise ConfigError(f"engine.flavour {wanted} cannot be compiled; these can: {known}.")
    if (wanted == "metal") != (_SYSTEM == "darwin") and wanted in {"metal", "cuda", "rocm"}:
        raise ConfigError(f"engine.flavour {wanted} does not exist on {_SYSTEM}.")
    return wanted


def _gpu_flavour() -> str:
    if _SYSTEM == "darwin":
        return "metal"
    if found := next(filter(_compiler, _COMPILERS), None):
        return found
    raise NoSuitableEngine(
        "This profile asks for a GPU, and no GPU compiler is installed (nvcc, glslc or hipcc).",
        hint="Install one and set engine.flavour to cuda, vulkan or rocm. " + _COMPILERS["vulkan"][1],
    )


def environment_for(flavour: str) -> dict[str, str]:
    """Raises NoSuitableEngine if the flavour's own compiler is missing."""
    if flavour not in _COMPILERS:
        return {}
    compiler = _compiler(flavour)
    if compiler is None:
        name, hint = _COMPILERS[flavour]
        raise NoSuitableEngine(f"The flavour {flavour} needs {name}, which is not installed.", hint=hint)
    return {"CUDACXX": compiler} if flavour == "cuda" else {}


def _compiler(flavour: str) -> str | None:
    found = shutil.which(_COMPILERS[flavour][0])
    if found is None and flavour == "cuda" and _CUDA_HOME.exists():
        return str(_CUDA_HOME)
    return found


def ensure_cpp_compiler(workshop: Workshop, listen: Listener) -> None:
    """Install one as root on Debian; else raise NoSuitableEngine, saying how.  On Windows cmake looks."""
    names = (os.environ.get("CXX") or "c++", "c++", "g++", "clang++")
    if _SYSTEM == "windows" or any(map(shutil.which, names)):
        return
    if sys.platform == "linux" and os.geteuid() == 0 and shutil.which("apt-get"):
        noninteractive = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q"]
        workshop.run([*noninteractive, "update"], listen, "apt-get update")
        workshop.run([*noninteractive, "install", *_DEBIAN], listen, "Installing a C++ compiler")
        return
    raise NoSuitableEngine(
        "Compiling llama.cpp needs a C++ compiler, and none is installed.", hint=_how_to_get_one()
    )


def _how_to_get_one() -> str:
    if _SYSTEM == "darwin":
        return "Run: xcode-select --install"
    for manager, command in {
        "apt-get": f"sudo apt-get install {' '.join(_DEBIAN)}",
        "dnf": "sudo dnf install gcc-c++ make cmake ninja-build",
        "pacman": "sudo pacman -S base-devel cmake ninja",
        "zypper": "sudo zypper install gcc-c++ make cmake ninja",
        "apk": "apk add build-base cmake ninja linux-headers",
    }.items():
        if shutil.which(manager):
            return f"Run: {command}"
    return "Install g++ or clang++ with your system's package manager."
