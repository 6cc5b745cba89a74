"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# A slow machine is no failure of ours: what must not take long is measured in bench/.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
