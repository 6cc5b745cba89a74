"""All faults, in the order in which they are shown: that of these modules."""

from __future__ import annotations

from importlib import import_module

from .fault import CATALOGUE as FAULTS

for _name in ("under_load", "commands", "others", "scripted", "daemon", "hangs", "starts", "places"):
    import_module(f"{__package__}.{_name}")

__all__ = ["FAULTS"]
