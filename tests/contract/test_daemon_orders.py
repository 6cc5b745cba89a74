"""
The real daemon with several scripted servers, in any order of requests, deaths and freezes.

`GOSS_TEST_ORDERS=N` tries N courses of events at random; the suite tries some, always the same.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from supervisor.daemon.control_request import Operation
from supervisor.plan.plan_json import to_json
from supervisor.profile.definition import Restart

from ..fakes.launching import BOUND_SECONDS, end_daemon, wait_until_gone
from .test_session import Home

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="processes are found and frozen as Linux does"
)

PROFILES = st.sampled_from("pqr")
DOWN = {"sleeping", "stopped"}


class Daemon(RuleBasedStateMachine):
    """
    What each profile's server should be doing is in ``states``, and what it answers in ``words``; a change gives
    both anew.  ``main`` is the profile of the main server.
    """

    ended = 0  # courses

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="goss-orders-"))
        self.home = Home(self.root)
        self.version = count(1)
        self.answered: set[int] = set()
        self.main, self.states, self.words = "p", {"p": "ready"}, {}
        self.stream_gate = self.root / "streams-go-on"
        self.stream_gate.touch()
        with mock.patch.dict(os.environ, GOSS_SUPERVISOR_HOME=str(self.home.root)):
            self.home.start(self.plan("p"), unknown_model="reject")
        (self.daemon,) = self.home.daemons

    def plan(self, profile, **faults):
        says = f"{profile}{next(self.version)}"
        made = self.home.plan(profile, digest=says, says=says, stream_gate=self.stream_gate, **faults)
        self.words[profile] = says
        return replace(made, restart=Restart(max_restarts=1000, backoff_seconds=0.01))

    # --- requests to change something

    def ask(self, op: Operation, **fields) -> str:
        """The result; every request has an id and an outcome of its own."""
        outcome = self.home.ask(op, **fields)["outcome"]
        assert outcome["id"] not in self.answered
        self.answered.add(outcome["id"])
        return outcome["result"]

    @rule(profile=PROFILES)
    def start(self, profile):
        """In the main server, wherever it runs now: a switch."""
        assert self.ask("start", plan=to_json(self.plan(profile))) == "ready"
        self.became_main(profile)

    def became_main(self, profile):
        if self.main != profile:
            del self.states[self.main]
        self.main = profile
        self.states[profile] = "ready"

    @rule(profile=PROFILES)
    def load(self, profile):
        assert self.ask("load", plan=to_json(self.plan(profile))) == "ready"
        self.states[profile] = "ready"

    def known(self, data, *states):
        return data.draw(
            st.sampled_from([name for name in sorted(self.states) if self.states[name] in states])
        )

    def some_are(*states):
        return precondition(lambda self: set(self.states.values()) & set(states))

    @rule(data=st.data())
    @some_are("ready", "sleeping")
    def unload(self, data):
        profile = self.known(data, "ready", "sleeping")
        assert self.ask("unload", server=profile) == "asleep"
        self.states[profile] = "sleeping"

    @rule(data=st.data())
    def wake(self, data):
        """What was stopped needs its plan again."""
        profile = self.known(data, "ready", *DOWN)
        if self.states[profile] == "stopped":
            assert self.ask("load", server=profile) == "stopped"
            return
        assert self.ask("load", server=profile) == "ready"
        self.states[profile] = "ready"

    @rule(data=st.data(), now=st.booleans())
    def stop_one(self, data, now):
        profile = self.known(data, "ready", *DOWN)
        assert self.ask("stop", server=profile, now=now) == "stopped"
        self.states[profile] = "stopped"

    @rule(data=st.data())
    @some_are("ready", "sleeping")
    def reload(self, data):
        profile = self.known(data, "ready", "sleeping")
        result = self.ask("reload", plan=to_json(self.plan(profile)), server=profile)
        assert result == ("ready" if self.states[profile] == "ready" else "asleep"), result

    @rule(first=PROFILES, second=st.sampled_from(("start", "load", "unload", "stop")), now=st.booleans())
    def change_while_it_loads(self, first, second, now):
        """Both get their outcome; what the second asked for is there in the end."""
        gate = self.root / f"gate-{next(self.version)}"
        with ThreadPoolExecutor(2) as pool:
            one = pool.submit(self.ask, "load", plan=to_json(self.plan(first, load_gate=gate)))
            digest = self.words[first]
            self.home.watch(lambda now: self.found(now, first, digest, "starting"))
            changes = {"start": {"plan": None}, "load": {"plan": None}, "stop": {"now": now}}.get(second, {})
            if "plan" in changes:
                changes["plan"] = to_json(self.plan(first))
            else:
                changes["server"] = first
            two = pool.submit(self.ask, second, **changes)
            if second in {"start", "load"}:
                self.home.watch(lambda now: self.is_over(now, first, digest) or one.done())
            gate.touch()
            assert one.result(BOUND_SECONDS) in {"ready", "superseded"}
            assert two.result(BOUND_SECONDS) == {"unload": "asleep", "stop": "stopped"}.get(second, "ready")
        if second == "start":
            self.became_main(first)
        else:
            self.states[first] = {"unload": "sleeping", "stop": "stopped"}.get(second, "ready")

    # --- what befalls servers

    def found(self, status, profile, digest, state):
        return [
            each for each in status["servers"]
            if (each["profile"], each["digest"], each["state"]) == (profile, digest, state)
        ]  # fmt: skip

    def is_over(self, status, profile, digest):
        return not [
            each for each in status["servers"] if (each["profile"], each["digest"]) == (profile, digest)
        ]

    def pid(self, profile):
        servers = self.home.ask("status")["status"]["servers"]
        return next(each["pid"] for each in servers if each["profile"] == profile)

    @rule(data=st.data())
    @some_are("ready")
    def kill(self, data):
        """It comes back by itself."""
        profile = self.known(data, "ready")
        killed = self.pid(profile)
        os.kill(killed, signal.SIGKILL)
        self.comes_back(profile, killed)

    def comes_back(self, profile, killed):
        assert wait_until_gone(killed)
        gone = {None, killed}  # None until the daemon has heard of it
        self.home.watch(
            lambda now: [
                each
                for each in self.found(now, profile, self.words[profile], "ready")
                if each["pid"] not in gone
            ]
        )

    @rule(data=st.data())
    @some_are("ready")
    def freeze(self, data):
        """What is asked meanwhile is answered when it goes on."""
        profile = self.known(data, "ready")
        pid = self.pid(profile)
        os.kill(pid, signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(self.answer, profile)
                self.home.watch(lambda now: now["gateway"]["requests_under_way"] == 1)
                os.kill(pid, signal.SIGCONT)
                assert asked.result(BOUND_SECONDS) == (200, self.words[profile])
        finally:
            os.kill(pid, signal.SIGCONT)

    # --- requests of clients

    def post(self, profile, *, stream):
        connection = http.client.HTTPConnection("127.0.0.1", self.home.port, timeout=BOUND_SECONDS)
        connection.request("POST", "/v1/chat/completions", json.dumps({"model": profile, "stream": stream}))
        return connection

    def answer(self, profile):
        """Status and words."""
        with contextlib.closing(self.post(profile, stream=False)) as connection:
            answered = connection.getresponse()
            body = json.loads(answered.read())
        return answered.status, body["choices"][0]["message"]["content"] if "choices" in body else body[
            "error"
        ]["code"]

    @rule(data=st.data())
    def ask_for(self, data):
        """A sleeping one wakes for it, a stopped one does not."""
        profile = self.known(data, "ready", *DOWN)
        if self.states[profile] == "stopped":
            assert self.answer(profile) == (503, "server_down")
            return
        assert self.answer(profile) == (200, self.words[profile])
        self.states[profile] = "ready"

    @rule(data=st.data(), killed=st.booleans())
    @some_are("ready")
    def stream(self, data, killed):
        """Whole with its end, or without it where the server died in the middle."""
        profile = self.known(data, "ready")
        self.stream_gate.unlink()
        try:
            with contextlib.closing(self.post(profile, stream=True)) as connection:
                events = connection.getresponse()
                while self.words[profile].encode() not in events.readline():
                    pass
                if killed:
                    pid = self.pid(profile)
                    os.kill(pid, signal.SIGKILL)
                    assert wait_until_gone(pid)
                self.stream_gate.touch()
                try:
                    rest = events.read()
                except http.client.IncompleteRead as broken:
                    rest = broken.partial
                assert (b"[DONE]" in rest) == (not killed)
                assert (b'"error"' in rest) == killed
        finally:
            self.stream_gate.touch()
        if killed:
            self.comes_back(profile, pid)

    # --- what holds after each of them

    @invariant()
    def the_status_says_what_the_processes_say(self):
        servers = [each for each in self.home.ask("status")["status"]["servers"] if each["profile"]]
        assert {each["profile"]: each["state"] for each in servers} == self.states
        assert len(servers) == len(self.states)
        assert servers[0]["profile"] == self.main
        said = {each["pid"]: each["digest"] for each in servers if each["pid"] is not None}
        assert said == dict(self.processes())
        up = {self.words[profile] for profile, state in self.states.items() if state not in DOWN}
        assert sorted(said.values()) == sorted(up)

    def processes(self):
        """Pid and words of every scripted server of this home that lives."""
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # it has just ended
                line = file.read_bytes().decode(errors="replace").split("\0")
                if f"stream_gate={self.stream_gate}" in line:
                    yield int(file.parent.name), next(word[5:] for word in line if word.startswith("says="))

    def teardown(self):
        Daemon.ended += 1
        try:
            assert self.ask("stop") == "stopped"
            assert self.daemon.wait(BOUND_SECONDS) == 0
            assert not list(self.processes())
            assert not list((self.home.root / "run").rglob("*.sock"))
        finally:
            end_daemon(self.home.root)
            shutil.rmtree(self.root)


def test_any_order_of_requests_deaths_and_freezes_keeps_the_promises():
    ended = Daemon.ended
    many = os.environ.get("GOSS_TEST_ORDERS")
    run_state_machine_as_test(
        Daemon,
        settings=settings(
            max_examples=int(many or 3),
            stateful_step_count=15,
            derandomize=not many,
            database=None,
            phases=[Phase.generate],  # to make it shorter would take minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Daemon.ended - ended >= int(many or 3)
