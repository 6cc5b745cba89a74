"""
A small nvidia-smi: a program that prints the same CSV, for machines without one.  With ``--follow`` it
prints a line of sensors for each GPU, and an empty line, for each line that it reads, until its input ends.

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
SENSORS = (
    *("pci.bus_id", "utilization.gpu", "temperature.gpu", "power.draw", "enforced.power.limit"),
    *("memory.used", "memory.total", "fan.speed", "clocks.gr", "name"),
)
"""In percent, degrees, milliwatts, bytes, percent and MHz.  The name comes last: it may have a comma."""
NOT_KNOWN = "[N/A]"
_LIBRARY = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
_MIB = 1024 * 1024
_OF_THE_CHIP = 0  # NVML_TEMPERATURE_GPU
_OF_GRAPHICS = 0  # NVML_CLOCK_GRAPHICS


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


class _Utilization(ctypes.Structure):
    """nvmlUtilization_t, in percent."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


def begin(library: ctypes.CDLL) -> None:
    """Raises OSError with NVML's own words where it cannot be initialised."""
    library.nvmlErrorString.restype = ctypes.c_char_p
    if code := library.nvmlInit_v2():
        raise OSError(library.nvmlErrorString(code).decode("utf-8", "replace"))


def lines(library: ctypes.CDLL) -> Iterator[str]:
    """Once `begin` has been called."""
    cuda = ctypes.c_int()
    if not library.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(cuda)):
        yield f"CUDA Version: {cuda.value // 1000}.{cuda.value % 1000 // 10}"
    driver = ctypes.create_string_buffer(96)
    library.nvmlSystemGetDriverVersion(driver, len(driver))
    for handle in _handles(library):
        yield ", ".join(_device(library, handle, driver.value.decode()))


def _handles(library: ctypes.CDLL) -> Iterator[ctypes.c_void_p]:
    count = ctypes.c_uint()
    library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    for index in range(count.value):
        handle = ctypes.c_void_p()
        if not library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
            yield handle


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


def sensors(library: ctypes.CDLL) -> Iterator[str]:
    """A line for each GPU; of a figure that this GPU or an old library does not have, [N/A]."""
    for handle in _handles(library):
        yield ", ".join(_sensors(library, handle))


def _sensors(library: ctypes.CDLL, handle: ctypes.c_void_p) -> tuple[str, ...]:
    """In the order of SENSORS."""

    def asked(call: str, *of: int) -> str:
        value = ctypes.c_uint()
        function = getattr(library, call, None)
        failed = function is None or function(handle, *of, ctypes.byref(value))
        return NOT_KNOWN if failed else str(value.value)

    name, pci, memory = ctypes.create_string_buffer(96), _Pci(), _Memory()
    library.nvmlDeviceGetName(handle, name, len(name))
    library.nvmlDeviceGetPciInfo_v3(handle, ctypes.byref(pci))
    counted = library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0
    busy = _Utilization()
    is_busy_known = library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(busy)) == 0
    return (
        pci.busId.decode("utf-8", "replace"),
        str(busy.gpu) if is_busy_known else NOT_KNOWN,
        asked("nvmlDeviceGetTemperature", _OF_THE_CHIP),
        asked("nvmlDeviceGetPowerUsage"),
        asked("nvmlDeviceGetEnforcedPowerLimit"),
        str(memory.total - memory.free) if counted else NOT_KNOWN,
        str(memory.total) if counted else NOT_KNOWN,
        asked("nvmlDeviceGetFanSpeed"),
        asked("nvmlDeviceGetClockInfo", _OF_GRAPHICS),
        name.value.decode("utf-8", "replace"),
    )


def main() -> int:
    try:
        library = ctypes.CDLL(_LIBRARY)
        begin(library)
        follows = sys.argv[1:] == ["--follow"]
        for _ in sys.stdin if follows else ("",):
            for line in sensors(library) if follows else lines(library):
                print(line)
            if follows:
                print(flush=True)
    except (OSError, AttributeError) as error:  # no library, or one too old to know these calls
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
