"""What holds for every test."""

from __future__ import annotations

import signal
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

from .fakes.loops import LOOPS, choose

ROOT = Path(__file__).parent.parent

# A slow machine is no failure of ours: what must not take long is measured in bench/.
settings.register_profile("patient", deadline=None)
settings.register_profile("brief", deadline=None, max_examples=10)  # files are ten times slower under Wine
settings.load_profile("patient")

# Where the suite is started with `&`, the shell has SIGINT ignored, and every program that a test interrupts would be deaf to it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """
    Deals out whole scopes, in the order of `pytest_collection_modifyitems`.

    Tests that run engines with several threads go to one worker: the threads spin while they wait for one
    another, so two engines on the same cores make each other a hundred times slower.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return scope_of_test(nodeid)

    config.option.loadscopereorder = False  # it goes by the number of tests alone
    return Scheduling(config, log)


def pytest_collection_modifyitems(config, items):
    """
    With several workers, what takes long comes first, and what is small fills up the end.

    The files of tests/e2e have few tests that take seconds each: by their number, those with one test came last
    of all, when the other workers had nothing left to do.
    """
    if hasattr(config, "workerinput"):
        sizes = Counter(scope_of_test(item.nodeid) for item in items)
        items.sort(
            key=lambda item: (not item.nodeid.startswith("tests/e2e/"), -sizes[scope_of_test(item.nodeid)])
        )


def scope_of_test(nodeid):
    return scope_of(nodeid.partition("::")[0]) or nodeid


@cache
def scope_of(file):
    """Which tests of a file, named from the root, go to one worker; empty where each may go to any."""
    text = (ROOT / file).read_text("utf-8")
    if "mark.engine" in text and not file.startswith("tests/e2e/"):
        return "engines"
    stays = file.startswith(("tests/unit/", "tests/e2e/")) or 'scope="module"' in text
    return file if stays else ""


@pytest.fixture(params=LOOPS, scope="module")
def each_loop(request):
    """For modules whose promises hold on every loop that the daemon runs on; their transports differ."""
    choose(request.param)
    yield request.param
    choose("asyncio")
