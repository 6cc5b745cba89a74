"""What the control socket's client makes of a refusal."""

from __future__ import annotations

import pytest

from supervisor.errors import SupervisorError
from supervisor.home import client
from supervisor.paths import Paths


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (
            "Not a request that this daemon knows (at most 9 bytes): op: must be one of status.",
            "older version",
        ),
        ("There is no server x.", ""),
    ],
)
def test_a_daemon_that_does_not_know_a_request_may_be_older(tmp_path, monkeypatch, error, hint):
    def refuse(*_):
        raise client._refusal({"error": error})
        yield

    monkeypatch.setattr(client, "_messages", refuse)
    with pytest.raises(SupervisorError) as raised:
        client.ask(Paths.under(tmp_path), {"op": "code"})
    assert (str(raised.value), hint in raised.value.hint, bool(hint)) == (
        error,
        True,
        bool(raised.value.hint),
    )
