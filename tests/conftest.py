"""What holds for every test."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings

from .fakes.loops import LOOPS, choose

# A slow machine is no failure of ours: what must not take long is measured in bench/.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Where the suite is started with `&`, the shell has SIGINT ignored, and every program that a test interrupts would be deaf to it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=LOOPS, scope="module")
def each_loop(request):
    """For modules whose promises hold on every loop that the daemon runs on; their transports differ."""
    choose(request.param)
    yield request.param
    choose("asyncio")
