"""What holds for every test."""

from __future__ import annotations

import signal
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

from .fakes.loops import LOOPS, choose

ROOT = Path(__file__).parent.parent
WITHOUT_ENGINES = {
    "tests/e2e/test_command_engine.py",  # its servers are scripts, but for one test that is skipped nearly everywhere
    "tests/e2e/test_page_views.py",  # its servers are scripts
    "tests/e2e/test_release.py",  # downloads most of the time
    "tests/e2e/test_tune.py",  # its servers are scripts
    "tests/e2e/test_update.py",  # its servers are scripts
}

# A slow machine is no failure of ours: what must not take long is measured in bench/.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Where the suite is started with `&`, the shell has SIGINT ignored, and every program that a test interrupts would be deaf to it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """
    All tests that run engines go to one worker: an engine's threads spin while they wait for one another,
    so two engines on the same cores make each other a hundred times slower.
    """
    from xdist.scheduler import LoadScopeScheduling

    class EnginesTogether(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "engines" if runs_engines(nodeid.partition("::")[0]) else nodeid

    return EnginesTogether(config, log)


@cache
def runs_engines(file):
    """Whether a file of tests, named from the root, has some that keep an engine computing."""
    if file in WITHOUT_ENGINES:
        return False
    return file.startswith("tests/e2e/") or "mark.engine" in (ROOT / file).read_text("utf-8")


@pytest.fixture(params=LOOPS, scope="module")
def each_loop(request):
    """For modules whose promises hold on every loop that the daemon runs on; their transports differ."""
    choose(request.param)
    yield request.param
    choose("asyncio")
