"""Two builds compared: only by the outcomes of the comparison's own requests, and nobody else's server is touched."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.errors import NetworkError, Superseded
from supervisor.measure import comparison
from supervisor.measure.comparison import Comparison
from supervisor.measure.measurement import Workload
from supervisor.measure.speed import Speed
from supervisor.paths import Paths
from supervisor.plan.launch import LaunchPlan
from supervisor.plan.plan_json import to_json
from supervisor.progress import Silent

OLD = LaunchPlan("p", ("old",), {}, "127.0.0.1", 1, "b1", "cpu", "", "m", "old")
NEW = replace(OLD, argv=("new",), build="b2", digest="new")
OTHER = replace(OLD, profile="c", argv=("other",), digest="other")
LOAD = Workload(8, 8)


class Daemon:
    """Answers as one does; ``decide`` is what each start comes to."""

    def __init__(self, **speeds):
        self.running = OLD
        self.speeds = speeds
        self.started: list[str] = []
        self.held: list[int] = []
        self.decide = lambda plan: "ready"

    @contextmanager
    def hold(self, paths, owner, why, server):
        assert (owner, why, server) == ("engine update", "comparing b2 with b1", "two")
        self.held.append(7)
        yield 7
        self.held.clear()

    def ask(self, paths, request):
        if request["op"] == "status":
            return {
                "status": {"servers": [{"name": "default", "state": "x"}, {"name": "two", "state": "ready"}]}
            }
        assert request["server"] == "two"
        plan = self.running
        return {"profile": plan.profile, "url": plan.digest, "key": "", "plan": to_json(plan)}

    def follow(self, paths, request, say):
        assert self.held == [request["hold"]], "while it compares, the server is ours"
        assert request["server"] == "two"
        digest = request["plan"]["digest"]
        self.started.append(digest)
        result = self.decide(digest)
        if result != "superseded":
            self.running = {"old": OLD, "new": NEW}[digest]
        outcome = {"result": result, "why": "superseded by a start of c (request 9)", "hint": ""}
        return {"outcome": outcome, "status": {"server": {"last_failure": None}}}

    def measure(self, target, load=None):
        assert target.model == "p"
        return Speed(self.speeds[target.url], 100.0, load or LOAD)


@pytest.fixture
def held(monkeypatch):
    """The comparison on server two of this daemon."""

    @contextmanager
    def waiting(_):
        yield Silent()

    @contextmanager
    def held(daemon):
        monkeypatch.setattr(comparison, "client", daemon)
        monkeypatch.setattr(comparison.speed, "measure", daemon.measure)
        monkeypatch.setattr(comparison.speed, "glance", daemon.measure)
        made = Comparison(Paths.under(Path("/nowhere")), Silent(), waiting)
        with made.holding("two", "comparing b2 with b1") as found:
            yield found

    return held


@pytest.fixture
def compared(held):
    """The verdict about the new build beside this daemon."""

    def compared(daemon):
        with held(daemon) as comparing:
            return comparing.compared(NEW, OLD)

    return compared


def test_one_that_is_as_fast_stays(compared):
    daemon = Daemon(old=10.0, new=10.0)
    verdict = compared(daemon)
    assert (verdict.worse, daemon.started) == ("", ["new"])


def test_one_that_is_slower_goes_back(compared):
    daemon = Daemon(old=10.0, new=5.0)
    verdict = compared(daemon)
    assert "50 % of the 10.0" in verdict.worse
    assert daemon.started == ["new", "old"]


def test_a_comparison_that_was_superseded_touches_nothing_any_more(compared):
    """`switch c` meanwhile: once c's speed was judged as the new build's, and once c was killed for the old one."""
    daemon = Daemon(old=10.0)
    daemon.decide = lambda digest: "superseded"
    with pytest.raises(
        Superseded, match=r"b2 \(cpu\) was not judged: .* superseded by a start of c \(request 9\)"
    ):
        compared(daemon)
    assert daemon.started == ["new"]


def test_what_runs_in_its_place_is_not_measured_for_it(compared):
    daemon = Daemon(old=10.0, other=42.6)

    follow = daemon.follow

    def replaced(paths, request, say):
        answer = follow(paths, request, say)
        daemon.running = OTHER
        return answer

    daemon.follow = replaced
    with pytest.raises(Superseded, match="not judged: c runs in place of p"):
        compared(daemon)
    assert daemon.started == ["new"]


def test_one_that_is_only_moved_has_to_answer_where_the_old_one_did(held):
    daemon = Daemon(old=10.0)

    def measure(target):
        if target.url == "new":
            raise NetworkError("it broke off the measurement.")
        return Speed(10.0, 100.0, LOAD)

    daemon.measure = measure
    with held(daemon) as comparing:
        verdict = comparing.moved(NEW, OLD)
    assert (verdict.worse, daemon.started) == (
        "it does not answer: it broke off the measurement",
        ["new", "old"],
    )


def test_the_speed_of_one_that_is_only_moved_does_not_matter(held):
    daemon = Daemon(old=10.0, new=1.0)
    with held(daemon) as comparing:
        assert comparing.moved(NEW, OLD).worse == ""
    assert daemon.started == ["new"]
