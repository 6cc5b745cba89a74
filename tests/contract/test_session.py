"""A server to measure in: what others get meanwhile, and that everything is as it was, however it ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from supervisor.errors import NotRunning, StartFailed, Superseded, SupervisorError
from supervisor.home import client
from supervisor.home.background_daemon import background_daemon, ordered
from supervisor.measure.session import opened
from supervisor.paths import Paths
from supervisor.plan.launch import LaunchPlan
from supervisor.plan.listen import Listen, Offer
from supervisor.plan.plan_json import from_json, listen_to_json, to_json
from supervisor.profile.definition import GatewaySettings
from supervisor.progress import Silent

from ..fakes.launching import BOUND_SECONDS, end_daemon, free_port, wait_until_gone
from .test_server import behind, plan

OWNER = "bench"


class Home:
    """A home with a daemon, or without one, that runs scripted servers."""

    def __init__(self, root: Path) -> None:
        self.root, self.paths = root / "home", Paths.under(root / "home")
        self.folder = root
        self.port = free_port()
        self.said: list[str] = []
        self.daemons: list[subprocess.Popen] = []

    def plan(self, name: str = "p", digest: str = "", **faults) -> LaunchPlan:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        made = behind(plan(folder, name=name, **faults))
        return replace(made, digest=digest or name, needs={"RAM": 1 << 20})

    def start(self, made: LaunchPlan, **settings) -> None:
        """As ``start -d`` does; the daemon offers p, q and r."""
        offers = tuple(Offer(name, (name,)) for name in "pqr")
        terms = GatewaySettings(min_warm_seconds=0, **settings)
        listen = Listen(made.profile, "127.0.0.1", self.port, settings=terms, offers=offers)
        orders = {"foreground": False, "plan": to_json(made), "listen": listen_to_json(listen)}
        with background_daemon(self.paths) as daemon:
            self.daemons.append(daemon)
            assert ordered(self.paths, daemon, json.dumps(orders).encode(), lambda _: None)["outcome"]

    def ask(self, op: str, **fields):
        return client.ask(self.paths, {"op": op, **fields})

    def load(self, made: LaunchPlan):
        return self.ask("load", plan=to_json(made))

    def servers(self) -> dict[str, tuple[str, str]]:
        """State and digest by profile."""
        servers = self.ask("status")["status"]["servers"]
        return {each["profile"]: (each["state"], each["digest"]) for each in servers if each["profile"]}

    def watch(self, wanted):
        """The first status that is as wanted."""
        with contextlib.closing(client.stream(self.paths, {"op": "watch"})) as messages:
            return next(found for each in messages if (found := wanted(each["status"])))

    def opened(self, made: LaunchPlan, **more):
        return opened(
            self.paths,
            made,
            owner=OWNER,
            why="trying what is fast",
            progress=self,
            waiting=lambda text: contextlib.nullcontext(Silent()),
            **more,
        )

    def step(self, text: str) -> None:
        self.said.append(text)

    def update(self, fraction, detail="") -> None:
        pass


@pytest.fixture
def home(tmp_path, monkeypatch):
    made = Home(tmp_path)
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(made.root))
    yield made
    end_daemon(made.root)
    for each in made.daemons:
        each.wait(BOUND_SECONDS)


def post(url: str, model: str, key: str = "", hold: int = 0) -> tuple[int, dict, dict]:
    """Status, headers and answer."""
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname, at.port, timeout=BOUND_SECONDS)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    headers |= {"X-Goss-Hold": str(hold)} if hold else {}
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", json.dumps({"model": model}), headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), json.loads(answer.read())


def measured(target) -> int:
    return post(target.url, target.model, target.key, target.hold)[0]


# --- where no daemon runs


def test_without_a_daemon_one_is_started_that_leaves_nothing_behind(home):
    made = home.plan()
    with home.opened(made) as session:
        target = session.run(made)
        pid = home.ask("status")["status"]["daemon"]["pid"]
        assert measured(target) == 200
        assert urlsplit(target.url).hostname == "127.0.0.1"
        assert post(target.url, "p")[0] == 401, "nobody else comes in there"
    assert wait_until_gone(pid)
    with pytest.raises(NotRunning):
        home.ask("status")
    left = {file.name for file in home.root.rglob("*") if file.is_file()}
    assert left == {"daemon.log", "daemon.out", "daemon.lock", "default.lock"}
    assert home.said == ["nothing runs here: llama-server is started for this, and stopped afterwards"]


# --- where one runs


def test_what_runs_is_used_in_its_place(home):
    made = home.plan()
    home.start(made)
    pid = home.ask("status")["status"]["servers"][0]["pid"]
    with home.opened(made) as session:
        assert measured(session.run(made)) == 200
    assert home.ask("status")["status"]["servers"][0]["pid"] == pid


def test_a_trial_runs_in_its_place_and_the_plan_is_back_afterwards(home):
    made, trial = home.plan(), home.plan(digest="trial")
    home.start(made)
    with home.opened(made) as session:
        session.run(trial)
        assert home.servers() == {"p": ("ready", "trial")}
        session.run(made)
        session.run(trial, fresh=True)
    assert home.servers() == {"p": ("ready", "p")}
    assert from_json(home.ask("running")["plan"]) == made


def test_a_model_that_is_not_loaded_takes_the_place_of_others_and_gives_it_back(home):
    chat, made = home.plan("p"), home.plan("q")
    home.start(chat, max_loaded=1)
    with home.opened(made) as session:
        assert home.said == ["p is unloaded to make room, and loaded again afterwards"]
        assert home.servers() == {"p": ("ready", "p")}, "it was only said so far"
        assert measured(session.run(made)) == 200
        assert home.servers() == {"p": ("sleeping", "p"), "q": ("ready", "q")}
    assert home.servers() == {"p": ("ready", "p")}
