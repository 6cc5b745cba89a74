"""Unit tests ask nobody: a connection is refused here."""

from __future__ import annotations

import socket

import pytest


@pytest.fixture(autouse=True, scope="package")
def _alone():
    def refused(*_args, **_more):
        raise AssertionError("a test that asks somebody belongs in tests/contract")

    with pytest.MonkeyPatch.context() as patched:
        if hasattr(socket, "AF_UNIX"):  # elsewhere the event loop itself connects to itself
            patched.setattr(socket.socket, "connect", refused)
            patched.setattr(socket.socket, "bind", refused)
        yield
