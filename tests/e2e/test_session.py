"""The program's own sessions on a real engine: the user's server is measured in place, and is back afterwards."""

from __future__ import annotations

import json
import urllib.request
from contextlib import nullcontext

from supervisor.measure.session import opened
from supervisor.paths import Paths
from supervisor.prepare.prepare import prepare
from supervisor.progress import Silent

from .conftest import PATIENCE


def answered(target) -> int:
    """By the real engine, through the gateway."""
    body = json.dumps({"model": target.model, "prompt": "hi", "n_predict": 4}).encode()
    headers = {"Authorization": f"Bearer {target.key}", "X-Goss-Hold": str(target.hold)}
    request = urllib.request.Request(f"{target.url}/completion", body, headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)["tokens_predicted"]


def test_a_session_measures_a_trial_and_leaves_the_users_server_as_it_was(built_home, monkeypatch):
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(built_home.root))
    paths = Paths.under(built_home.root)
    settings = dict(each.split("=", 1) for each in built_home.settings if each != "--set")

    def planned(**more):
        return prepare("demo", {**settings, **more}, paths, Silent()).plan

    def session():
        waiting = lambda _: nullcontext(Silent())  # noqa: E731 - as the command gives it
        return opened(paths, planned(), owner="bench", why="e2e", progress=Silent(), waiting=waiting)

    with session() as alone:
        assert answered(alone.run(planned())) == 4
    built_home.run("status", code=3)
    assert not list(paths.state.glob("default.json")), "it is not the profile that was started last"

    built_home.start()
    before = built_home.status()["servers"]
    with session() as beside:
        assert answered(beside.run(planned(**{"server.ctx-size": "256"}))) == 4
        assert "holds it: e2e" in built_home.run("start", code=4).stderr
        assert "held by   bench (pid" in built_home.run("status").stdout
    (after,) = built_home.status()["servers"]
    assert (after["state"], after["digest"]) == ("ready", before[0]["digest"])
