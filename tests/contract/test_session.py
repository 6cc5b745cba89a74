"""A server to measure in: what others get meanwhile, and that everything is as it was, however it ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from supervisor.daemon.daemon import OPERATION_SECONDS
from supervisor.errors import AlreadyRunning, NotRunning, StartFailed, Superseded, SupervisorError
from supervisor.home import client
from supervisor.home.background_daemon import background_daemon, ordered
from supervisor.home.control_socket import endpoint
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


def lived_in(tmp_path, monkeypatch):
    made = Home(tmp_path)
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(made.root))
    yield made
    end_daemon(made.root)
    for each in made.daemons:
        each.wait(BOUND_SECONDS)


home = pytest.fixture(lived_in)


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
    assert left == {"daemon.log", "daemon.out", "events.jsonl", "daemon.lock", "default.lock"}
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


def test_what_it_stops_itself_is_back_afterwards_and_the_session_goes_on(home):
    made = home.plan()
    home.start(made)
    with home.opened(made) as session:
        session.stop()
        assert home.servers() == {"p": ("stopped", "p")}
        session.run(made)
        session.stop()
    assert home.servers() == {"p": ("ready", "p")}


def test_a_trial_that_fails_is_an_answer_and_changes_nothing_else(home):
    made = home.plan()
    home.start(made)
    kept = {file: file.read_bytes() for file in home.paths.state.rglob("*") if file.suffix == ".json"}
    broken = home.plan(digest="broken", exit=1, stderr="cudaMalloc failed: out of memory")
    with home.opened(made) as session:
        with pytest.raises(StartFailed, match=r"(?s)did not become ready.*out of memory"):
            session.run(replace(broken, adjusted=made, figures="x"))
        assert home.servers() == {"p": ("failed", "broken")}, "no other plan was tried instead"
        assert "memory" in session.diagnosis()
    assert home.servers() == {"p": ("ready", "p")}
    assert home.ask("status")["status"]["servers"][0]["last_failure"] is None, "it is none of the user's"
    assert set(home.paths.state.rglob("*.json")) == set(kept), "nothing was learnt from it"


def test_one_that_dies_while_it_is_measured_is_not_restarted_and_says_why(home):
    made = home.plan()
    home.start(made)
    with home.opened(made) as session:
        session.run(home.plan(digest="trial"))
        psutil.Process(home.ask("status")["status"]["servers"][0]["pid"]).kill()
        home.watch(lambda now: now["servers"][0]["state"] == "failed")
        assert ("exit code" if sys.platform == "win32" else "SIGKILL") in session.diagnosis()
    assert home.servers() == {"p": ("ready", "p")}


@pytest.mark.parametrize("before", ["unload", "stop"])
def test_what_did_not_run_before_does_not_run_afterwards(home, before):
    made = home.plan("q")
    home.start(home.plan("p"))
    home.load(made)
    home.ask(before, server="q")
    states = home.servers()
    with home.opened(made) as session:
        session.run(home.plan("q", digest="trial"))
        assert home.servers()["q"] == ("ready", "trial")
    assert home.servers() == states


# --- others meanwhile


def test_requests_of_others_wait_with_the_reason_and_then_go(home):
    made = home.plan()
    home.start(made)
    url = f"http://127.0.0.1:{home.port}"
    answers = []
    other = threading.Thread(target=lambda: answers.append(post(url, "p")[0]))
    with home.opened(made) as session:
        target = session.run(made)
        other.start()
        waiting = home.watch(lambda now: now["gateway"]["waiting"])
        assert [(each["profile"], each["requests"]) for each in waiting] == [("p", 1)]
        assert waiting[0]["reason"] == f"bench (pid {os.getpid()}) measures it: trying what is fast"
        assert measured(target) == 200
        assert session.disturbed() == ()
        assert answers == []
    other.join(BOUND_SECONDS)
    assert answers == [200]
    last = home.ask("requests")["requests"]
    assert [each["caller"] for each in last] == [f"bench (pid {os.getpid()})", ""]


def test_one_that_waits_too_long_is_told_why_and_when_to_come_again(home):
    made = home.plan()
    home.start(made, hold_timeout_seconds=0.2)
    with home.opened(made) as session:
        session.run(made)
        status, headers, answer = post(f"http://127.0.0.1:{home.port}", "p")
    assert (status, answer["error"]["code"]) == (503, "not_ready")
    assert "bench (pid" in answer["error"]["message"]
    assert headers["retry-after"]


def test_a_guessed_hold_is_none(home):
    made = home.plan()
    home.start(made)
    with home.opened(made) as session:
        target = session.run(made)
        assert target.hold > 2**32
        assert post(target.url, "p", hold=1001)[0] == 409
    assert measured(target) == 409, "it is over"


def test_a_second_session_is_refused_with_who_and_why(home):
    home.start(home.plan("p"))
    with home.opened(home.plan("p")):
        for name in "pq":
            with (
                pytest.raises(
                    SupervisorError,
                    match=r"bench \(pid \d+\) has held the server since .*: trying what is fast",
                ),
                home.opened(home.plan(name)),
            ):
                pass
        for op in ("load", "start"):
            with pytest.raises(SupervisorError, match="bench"):
                home.ask(op, plan=to_json(home.plan("r")))
    assert home.servers() == {"p": ("ready", "p")}


def test_polite_ones_let_others_pass_and_tell_of_them(home):
    made = home.plan()
    home.start(made)
    with home.opened(made, polite=True) as session:
        session.run(made)
        assert post(f"http://127.0.0.1:{home.port}", "p")[0] == 200
        assert [each.split(",")[0] for each in session.disturbed()] == ["/v1/chat/completions for p"]
        assert session.disturbed() == ()


def test_a_request_for_a_model_that_made_way_waits_too(home):
    made, answers = home.plan("q"), []
    home.start(home.plan("p"), max_loaded=1)
    other = threading.Thread(target=lambda: answers.append(post(f"http://127.0.0.1:{home.port}", "p")[0]))
    with home.opened(made) as session:
        session.run(made)
        other.start()
        (waiting,) = home.watch(lambda now: now["gateway"]["waiting"])
        assert waiting["profile"] == "p"
        assert waiting["reason"] == f"q: bench (pid {os.getpid()}) measures it: trying what is fast"
        assert home.servers()["q"] == ("ready", "q")
    other.join(BOUND_SECONDS)
    assert (answers, home.servers()) == ([200], {"p": ("ready", "p")})


def test_polite_ones_wait_for_others(home, tmp_path):
    made, gate = home.plan("p", chat_gate=tmp_path / "gate"), tmp_path / "gate"
    home.start(made)
    other = threading.Thread(target=post, args=(f"http://127.0.0.1:{home.port}", "p"))
    with home.opened(made, polite=True) as session:
        session.run(made)
        other.start()
        home.watch(lambda now: now["gateway"]["requests_under_way"])
        quiet = threading.Thread(target=session.wait_until_quiet)
        quiet.start()
        gate.touch()
        quiet.join(BOUND_SECONDS)
        assert len(session.disturbed()) == 1, "it has been answered by now"
    other.join(BOUND_SECONDS)


def test_polite_ones_give_way_to_a_request_that_needs_the_memory(home):
    made = home.plan("q")
    home.start(home.plan("p"), max_loaded=1)
    with home.opened(made, polite=True) as session:
        session.run(made)
        assert post(f"http://127.0.0.1:{home.port}", "p")[0] == 200
        with pytest.raises(Superseded, match="p was asked for, and there is no memory for both"):
            session.run(made)
    assert home.servers() == {"p": ("ready", "p")}


def test_polite_ones_give_way_to_who_needs_the_memory(home):
    made = home.plan("q")
    home.start(home.plan("p"), max_loaded=1)
    with home.opened(made, polite=True) as session:
        target = session.run(made)
        assert home.load(home.plan("r"))["outcome"]["result"] == "ready"
        with pytest.raises(Superseded, match="a load of r was asked for"):
            session.wait_until_quiet()
        with pytest.raises(Superseded):
            session.run(made)
        assert measured(target) == 409
    assert "q" not in home.servers()


def test_a_stop_of_the_server_ends_it_and_it_stays_down(home):
    made = home.plan("q")
    home.start(home.plan("p"))
    home.load(made)
    with home.opened(made) as session:
        session.run(home.plan("q", digest="trial"))
        home.ask("stop", server="q")
        with pytest.raises(Superseded, match="q was stopped"):
            session.run(made)
    assert home.servers()["q"] == ("stopped", "q")


# --- however it ends


def test_a_ctrl_c_puts_everything_back(home):
    made = home.plan()
    home.start(made)
    interrupted = contextlib.ExitStack()
    session = interrupted.enter_context(home.opened(made))
    session.run(home.plan(digest="trial"))
    with pytest.raises(KeyboardInterrupt), interrupted:
        raise KeyboardInterrupt
    assert home.servers() == {"p": ("ready", "p")}


def test_a_stop_of_the_daemon_ends_all(home):
    made = home.plan()
    home.start(made)
    with home.opened(made) as session:
        session.run(home.plan(digest="trial"))
        home.ask("stop")
        with pytest.raises((NotRunning, Superseded)):
            session.run(made)
    with pytest.raises(NotRunning):
        home.ask("status")


_HOLDER = """
import json, sys
from contextlib import nullcontext
from supervisor.measure.session import opened
from supervisor.paths import Paths
from supervisor.plan.plan_json import from_json
from supervisor.progress import Silent

made, *trials = map(from_json, json.loads(sys.argv[1]))
with opened(Paths.from_environment(), made, owner="bench", why="to be killed", progress=Silent(),
            waiting=lambda text: nullcontext(Silent())) as session:
    print("held", flush=True)
    for trial in trials:
        session.run(trial)
        print("runs", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def holder(*plans):
    """Another process that measures; killed at the end of the block."""
    sent = json.dumps([to_json(each) for each in plans])
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, sent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process
        process.kill()


def state_of(name, state, digest):
    return lambda now: any(
        (each["profile"], each["state"], each["digest"]) == (name, state, digest) for each in now["servers"]
    )


def is_free(now):
    return not any(each["held_by"] for each in now["servers"])


@pytest.mark.parametrize("step", ["held", "loading", "runs", "answering"])
def test_who_is_killed_has_everything_put_back(home, tmp_path, step):
    made, gate = home.plan("q"), tmp_path / "gate"
    trial = home.plan("q", digest="trial", **{"load_gate": gate} if step == "loading" else {})
    home.start(home.plan("p"), max_loaded=1)
    plans = (made,) if step == "held" else (made, trial)
    with holder(*plans) as process:
        assert process.stdout.readline() == "held\n"
        if step == "loading":
            home.watch(state_of("q", "starting", "trial"))
            assert home.servers()["p"][0] == "sleeping"
        elif step != "held":
            assert process.stdout.readline() == "runs\n"
    home.watch(lambda now: is_free(now) and state_of("p", "ready", "p")(now))
    assert home.servers() == {"p": ("ready", "p")}
    assert home.load(made)["outcome"]["result"] == "ready", "nobody holds anything any more"


def test_who_is_killed_while_another_model_drains_leaves_that_in_place(home, tmp_path):
    """The room is not made yet: the trial must not be loaded for nobody."""
    made, gate, answers = home.plan("q"), tmp_path / "gate", []
    home.start(home.plan("p", chat_gate=gate), max_loaded=1, drain_timeout_seconds=60)
    ask = threading.Thread(target=lambda: answers.append(post(f"http://127.0.0.1:{home.port}", "p")[0]))
    ask.start()
    home.watch(lambda now: now["gateway"]["requests_under_way"])
    with holder(made, made) as process:
        assert process.stdout.readline() == "held\n"
        home.watch(state_of("p", "draining", "p"))
    home.watch(is_free)
    gate.touch()
    home.watch(state_of("p", "ready", "p"))
    ask.join(BOUND_SECONDS)
    assert answers == [200]
    assert "q" not in home.servers()


def test_where_no_daemon_ran_nothing_is_left_of_one_who_is_killed(home):
    made = home.plan()
    with holder(made, made) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["held\n", "runs\n"]
        now = home.ask("status")["status"]
        pids = [now["daemon"]["pid"], now["servers"][0]["pid"]]
    assert all(map(wait_until_gone, pids))
    assert not list(home.root.rglob("*.json"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not promise to tell of both in their order")
def test_that_an_owner_is_gone_is_known_even_if_the_daemon_hears_of_it_only_when_it_is_asked(home):
    """Frozen, it gets both at once: nobody who comes again is refused for one who is dead."""
    made = home.plan("p")
    home.start(made)
    with holder(made) as process:
        assert process.stdout.readline() == "held\n"
        daemon = psutil.Process(home.ask("status")["status"]["daemon"]["pid"])
        daemon.suspend()
        try:
            process.kill()
            process.wait()
            with (
                endpoint(home.paths.runtime).connect(BOUND_SECONDS) as asking,
                asking.makefile("rb") as answer,
            ):
                asking.sendall(b'{"protocol": 1, "op": "status"}\n')
                daemon.resume()
                status = json.loads(answer.readline())["status"]
        finally:
            daemon.resume()
    assert status["daemon"]["unsettled"] == f"what bench (pid {process.pid}) changed is being put back"


@pytest.mark.parametrize("has_daemon", [False, True], ids=["without a daemon", "with one"])
def test_who_is_killed_and_comes_again_at_once_waits_until_the_one_before_is_over(home, has_daemon):
    """The daemon that ends is not taken for one that serves, and what is being put back refuses nobody."""
    made, slow = home.plan("p"), home.plan("p", digest="trial", term="ignore")
    if has_daemon:
        home.start(made)
    with holder(made, slow) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["held\n", "runs\n"]
        before = home.ask("status")["status"]["daemon"]["pid"]
    with home.opened(made) as session:
        assert measured(session.run(made)) == 200
        after = home.ask("status")["status"]["daemon"]
    assert (after["pid"] == before, after["operation"]) == (
        (True, None) if has_daemon else (False, f"bench (pid {os.getpid()})")
    )


def test_a_session_beside_one_that_has_its_own_daemon_is_refused_and_never_uses_that(home):
    with (
        home.opened(home.plan("p")),
        pytest.raises(AlreadyRunning, match=r"bench \(pid \d+\) uses this machine: trying what is fast"),
        home.opened(home.plan("q")),
    ):
        pass


def test_of_two_that_begin_at_once_one_is_refused_with_the_others_name(home):
    """Whichever starts its daemon first: the other one must not measure there."""
    outcomes, met, done = [], threading.Barrier(2), threading.Barrier(2)

    def measure(name):
        made = home.plan(name)
        met.wait(BOUND_SECONDS)
        try:
            with home.opened(made) as session:
                outcomes.append(measured(session.run(made)))
                done.wait(BOUND_SECONDS)
        except SupervisorError as error:
            outcomes.append(type(error))
            done.wait(BOUND_SECONDS)

    both = [threading.Thread(target=measure, args=(name,)) for name in "pq"]
    for each in both:
        each.start()
    for each in both:
        each.join(BOUND_SECONDS)
    assert sorted(outcomes, key=str) == [200, AlreadyRunning]


def test_a_daemon_whose_starter_is_gone_waits_for_nobody(home):
    with background_daemon(home.paths) as daemon:
        daemon.stdout.close()
        daemon.stdin.write(json.dumps({"foreground": False, "operation": OWNER}).encode())
    assert daemon.wait(OPERATION_SECONDS / 2) == 0


def test_after_a_daemon_that_was_killed_itself_the_next_start_runs_the_users_plan(home):
    """The last profile used is what it was, and what the killed daemon remembered is forgotten."""
    made = home.plan("q")
    with holder(made, made) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["held\n", "runs\n"]
        psutil.Process(home.ask("status")["status"]["daemon"]["pid"]).kill()
    home.start(home.plan("p"))
    assert home.servers() == {"p": ("ready", "p")}
    endpoint = ["control.json"] if sys.platform == "win32" else []
    assert sorted(file.name for file in home.root.rglob("*.json")) == [*endpoint, "default.json"]
