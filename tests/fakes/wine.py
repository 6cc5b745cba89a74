"""Whether Wine plays Windows; for tests of what it lacks, with the evidence as the reason."""

from __future__ import annotations

import ctypes
import sys

if sys.platform == "win32":
    ON_WINE = hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")
else:
    ON_WINE = False
