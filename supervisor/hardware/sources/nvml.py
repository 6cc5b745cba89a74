"""
A small nvidia-smi for machines without one: a program that prints the same CSV.

A bare interpreter runs it by its path, so it imports nothing of ours.  Names and values of the calls are
NVIDIA's: https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator

FIELDS = (
    *("name", "pci.bus_id", "pci.device_id", "memory.total", "memory.free", "driver_version", "compute_cap"),
    *("pcie.link.gen.current", "pcie.link.gen.max", "pcie.link.width.current", "pcie.link.width.max"),
)
NOT_KNOWN = "[N/A]"
_LIBRARY = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
_MIB = 1024 * 1024


class _Pci(ctypes.Structure):
    """nvmlPciInfo_t, as nvmlDeviceGetPciInfo_v3 fills it."""

    _fields_ = (
        ("busIdLegacy", ctypes.c_char * 16),
        ("domain", ctypes.c_uint),
        ("bus", ctypes.c_uint),
        ("device", ctypes.c_uint),
        ("pciDeviceId", ctypes.c_uint),
        ("pciSubSystemId", ctypes.c_uint),
        ("busId", ctypes.c_char * 32),
    )


class _Memory(ctypes.Structure):
    """nvmlMemory_t, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def lines(library: ctypes.CDLL) -> Iterator[str]:
    """Raises OSError with NVML's own words where it cannot be initialised."""
    library.nvmlErrorString.restype = ctypes.c_char_p
    if code := library.nvmlInit_v2():
        raise OSError(library.nvmlErrorString(code).decode("utf-8", "replace"))
    cuda, count = ctypes.c_int(), ctypes.c_uint()
    if not library.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(cuda)):
        yield f"CUDA Version: {cuda.value // 1000}.{cuda.value % 1000 // 10}"
    driver = ctypes.create_string_buffer(96)
    library.nvmlSystemGetDriverVersion(driver, len(driver))
    library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    for index in range(count.value):
        handle = ctypes.c_void_p()
        if not library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
            yield ", ".join(_device(library, handle, driver.value.decode()))


def _device(library: ctypes.CDLL, handle: ctypes.c_void_p, driver: str) -> tuple[str, ...]:
    """In the order of FIELDS."""
    name, pci, memory = ctypes.create_string_buffer(96), _Pci(), _Memory()
    library.nvmlDeviceGetName(handle, name, len(name))
    library.nvmlDeviceGetPciInfo_v3(handle, ctypes.byref(pci))
    counted = library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0
    major, minor = ctypes.c_int(), ctypes.c_int()
    known = library.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor)) == 0
    return (
        name.value.decode("utf-8", "replace"),
        pci.busId.decode("utf-8", "replace"),
        f"0x{pci.pciDeviceId:08X}",
        str(memory.total // _MIB) if counted else NOT_KNOWN,
        str(memory.free // _MIB) if counted else NOT_KNOWN,
        driver,
        f"{major.value}.{minor.value}" if known else NOT_KNOWN,
        _link(library.nvmlDeviceGetCurrPcieLinkGeneration, handle),
        _link(library.nvmlDeviceGetMaxPcieLinkGeneration, handle),
        _link(library.nvmlDeviceGetCurrPcieLinkWidth, handle),
        _link(library.nvmlDeviceGetMaxPcieLinkWidth, handle),
    )


def _link(call: ctypes._NamedFuncPointer, handle: ctypes.c_void_p) -> str:
    value = ctypes.c_uint()
    return NOT_KNOWN if call(handle, ctypes.byref(value)) else str(value.value)


def main() -> int:
    try:
        for line in lines(ctypes.CDLL(_LIBRARY)):
            print(line)
    except (OSError, AttributeError) as error:  # no library, or one too old to know these calls
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
