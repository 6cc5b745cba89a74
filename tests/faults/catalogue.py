"""All faults, in the order in which they are shown."""

from __future__ import annotations

from . import daemon, scripted, starts, under_load
from .fault import CATALOGUE as FAULTS

__all__ = ["FAULTS", "daemon", "scripted", "starts", "under_load"]
