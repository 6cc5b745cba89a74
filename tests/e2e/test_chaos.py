"""Faults at random under clients that check every answer: the short form of bench/chaos.py."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from ..faults.catalogue import FAULTS
from ..faults.chaos import run
from .conftest import BUILT

# Of each kind one; `bench/chaos.py --minutes 10` draws from all.
DRAWN = (
    "gets SIGKILL",
    "is killed, and its record names another program's process",
    "loses its runtime folder",
    "has a full disk when a server dies",
    "`load --alone` evicts the others",
    "the gateway gets random bytes",
)


def test_faults_at_random_break_nothing_silently_and_leave_nothing():
    if BUILT not in os.environ:
        pytest.skip(f"{BUILT} is not set: run bin/test")
    faults = [
        each
        for each in FAULTS
        if each.inject and each.name.startswith(DRAWN) and (os.geteuid() == 0 or not each.needs_root)
    ]
    with tempfile.TemporaryDirectory(prefix="goss-") as short:  # there are sockets in it
        report = run(Path(short), faults, seed=1, least=len(faults), workers=3)
    assert report.is_well, report.document()
    assert sum(report.faults.values()) == len(report.faults) == len(faults) >= len(DRAWN) - 1
    assert report.recoveries
    assert "ConnectionRefusedError" not in report.document()["broken_by"], (
        "no client waited for the next daemon"
    )
