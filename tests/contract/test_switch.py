"""A switch to a model that is loaded next to the main server, as its clients see it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from supervisor.plan.plan_json import to_json

from ..fakes.launching import BOUND_SECONDS
from .test_session import lived_in, post, state_of

home = pytest.fixture(lived_in)


def test_requests_for_it_wait_until_the_main_server_has_it(home, tmp_path):
    """Its own process finishes its answers first and goes; meanwhile nobody gets 503."""
    gate = tmp_path / "gate"
    made, address = home.plan("q", chat_gate=gate), f"http://127.0.0.1:{home.port}"
    home.start(home.plan("p"), drain_timeout_seconds=60)
    home.load(made)
    with ThreadPoolExecutor(3) as pool:
        try:
            first = pool.submit(post, address, "q")
            home.watch(lambda now: now["gateway"]["requests_under_way"] == 1)
            switched = pool.submit(home.ask, "start", plan=to_json(made))
            home.watch(state_of("q", "draining", "q"))
            second = pool.submit(post, address, "q")
            home.watch(lambda now: now["gateway"]["requests_waiting"] == 1)
        finally:
            gate.touch()
        assert [each.result(BOUND_SECONDS)[0] for each in (first, second)] == [200, 200]
        assert switched.result(BOUND_SECONDS)["outcome"]["result"] == "ready"
    assert home.servers() == {"q": ("ready", "q")}
