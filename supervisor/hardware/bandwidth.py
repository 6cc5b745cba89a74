"""
How fast memories are, as their makers publish it: bytes per second.  Pure.

Of graphics cards: bus width times data rate, as in the makers' tables; of processors with memory of their
own on the package, the same of Apple, AMD and NVIDIA.
"""

from __future__ import annotations

import re

from .conditions import Conditions
from .hardware import Gpu, Hardware

_GB = 1e9
# by what the name has in it, the longer names first: RTX 4060 Ti before RTX 4060
_PUBLISHED = (
    ("RTX 5090", 1792), ("RTX 5080", 960), ("RTX 5070 Ti", 896), ("RTX 5070", 672), ("RTX 5060 Ti", 448),
    ("RTX 5060", 448), ("RTX 4090", 1008), ("RTX 4080 SUPER", 736), ("RTX 4080", 717),
    ("RTX 4070 Ti SUPER", 672), ("RTX 4060 Ti", 288), ("RTX 4060", 272), ("RTX 3090 Ti", 1008),
    ("RTX 3090", 936), ("RTX PRO 6000", 1792), ("Tesla T4", 320), ("GB10", 273),
    ("RX 9070 GRE", 432), ("RX 9070", 640), ("RX 7900 XTX", 960), ("RX 7900 XT", 800), ("RX 6900 XT", 512),
    ("Arc A770", 560), ("Arc A750", 512), ("Arc B580", 456), ("Arc B570", 380),
    ("Radeon 8060S", 256), ("Radeon 8050S", 256),
    ("M1 Ultra", 800), ("M1 Max", 400), ("M1 Pro", 200), ("M1", 68), ("M2 Ultra", 800), ("M2 Max", 400),
    ("M2 Pro", 200), ("M2", 100), ("M3 Ultra", 819), ("M3 Pro", 150), ("M3", 100),
    ("M4 Pro", 273), ("M4", 120),
)  # fmt: skip
_SEVERAL = ("M3 Max", "M4 Max", "RTX 4060 Laptop")  # sold with more than one


def gpu_bandwidth(gpu: Gpu) -> float | None:
    """None for one that is not in the table, or whose name says too little."""
    if any(_is_called(name, gpu.name) for name in (*_SEVERAL, "Laptop", "Mobile", "Max-Q")):
        return None
    return next((figure * _GB for name, figure in _PUBLISHED if _is_called(name, gpu.name)), None)


def ram_bandwidth(hardware: Hardware, conditions: Conditions) -> float | None:
    """By its modules, else by the processor whose GPU shares it."""
    shared = (gpu_bandwidth(gpu) for gpu in hardware.gpus if gpu.unified)
    return conditions.ram_bytes_per_second or next(filter(None, shared), None)


def _is_called(name: str, full: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", full, re.IGNORECASE) is not None
