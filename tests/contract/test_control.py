"""The control endpoint: private, the same words over a unix socket and over TCP with a token, and its answers."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.cli.outcome import show_outcome
from supervisor.cli.status import _exit_code, _lines
from supervisor.daemon.control import Control
from supervisor.daemon.endpoint import TokenEndpoint, UnixEndpoint
from supervisor.daemon.listener import listen
from supervisor.errors import NotRunning, PermissionDenied, StartFailed
from supervisor.gateway.seen.activity import Activity
from supervisor.plan.wire import to_json
from supervisor.server.table import State

from ..fakes.asked import a_chat
from ..fakes.launching import BOUND_SECONDS
from .test_server import QUICK, behind, plan, promise


@pytest.fixture(params=[UnixEndpoint, TokenEndpoint])
def at(request, tmp_path):
    return request.param(tmp_path / "run" / "control")


async def echo(reader, writer):
    writer.write(b"heard " + await reader.readline())
    writer.close()


def said_to(at, line=b"hello\n"):
    with at.connect(5.0) as client:
        client.sendall(line)
        return client.makefile("rb").readline()


async def served(at, client):
    """What ``client``, a blocking function, gets while somebody listens."""
    server = await listen(at, echo)
    with ThreadPoolExecutor(1) as pool:
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, client)
        finally:
            server.close()


def test_a_client_is_heard(at):
    assert asyncio.run(served(at, lambda: said_to(at))) == b"heard hello\n"


def test_only_the_owner_can_use_it(at):
    mode = asyncio.run(served(at, lambda: (at.path.stat().st_mode, at.path.parent.stat().st_mode)))
    assert [stat.S_IMODE(each) for each in mode] == [0o600, 0o700]


def test_what_an_earlier_daemon_left_is_replaced(at):
    at.path.parent.mkdir()
    at.path.write_text("stale")
    assert asyncio.run(served(at, lambda: said_to(at))) == b"heard hello\n"


def test_nobody_there_is_said_with_what_to_do(at):
    with pytest.raises(NotRunning) as error:
        at.connect(1.0)
    assert "start" in error.value.hint


def test_it_leaves_nothing_behind(at):
    asyncio.run(served(at, lambda: None))
    at.remove()
    assert not at.path.exists()
    at.remove()


def test_a_wrong_token_gets_no_answer(tmp_path):
    at = TokenEndpoint(tmp_path / "control.json")

    def intruder():
        port = json.loads(at.path.read_text())["port"]
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"guess\nhello\n")
            return client.makefile("rb").read()

    assert asyncio.run(served(at, intruder)) == b""


def test_a_socket_that_is_not_ours_to_use_is_a_permission_matter(tmp_path):
    folder = tmp_path / "folder.sock"
    folder.mkdir()
    with pytest.raises((PermissionDenied, NotRunning)):
        UnixEndpoint(folder).connect(1.0)


IMPATIENT = replace(QUICK, start_timeout_seconds=1.0, start_limit_seconds=1.0)
DAEMON = {"pid": 1, "memory_bytes": None, "uptime_seconds": 0.0}
REQUEST = a_chat()


class NoFront:
    """What the control asks about clients, where the test has none; it notes what it is asked."""

    activity: Activity | None = None

    def __init__(self, refusal=None):
        self.refusal = refusal
        self.admitted = []
        self.kept_warm = []

    async def admit(self, server, sent, *, by_request):
        if self.refusal is not None:
            raise self.refusal
        self.admitted.append((sent.profile, by_request, server.state))
        return sent

    def keep_warm(self):
        self.kept_warm.append(True)

    def key(self, asked):
        return f"opens {asked.profile}"

    def about(self):
        return None


def control_of(test, front=None):
    """The control of a server under test; what it does on a change is added to what the test does."""
    control = Control(
        test.server,
        lambda: DAEMON,
        lambda: None,
        lambda now: test.server.stop(now=now),
        front or NoFront(),
    )
    note = test.server._on_change
    test.server._on_change = lambda: (note(), control.changed())
    return control


async def answer_to(control, op, **request):
    """The last line of the answer, which comes within the bound."""
    line = json.dumps({"protocol": 1, "op": op, **request}).encode() + b"\n"
    async with asyncio.timeout(BOUND_SECONDS):
        return [message async for message in control._answer(line)][-1]


@promise
async def test_unload_gives_the_memory_back_and_load_brings_it_back(test, tmp_path):
    control = control_of(test)
    await test.server.start(behind(plan(tmp_path)))
    unloaded = await answer_to(control, "unload")
    assert (unloaded["final"], unloaded["outcome"]["result"]) == (True, "asleep")
    assert unloaded["status"]["server"]["pid"] is None
    loaded = await answer_to(control, "load")
    assert (loaded["final"], loaded["outcome"]["result"]) == (True, "ready")


@promise
async def test_load_keeps_what_is_loaded_and_starts_its_idle_time_anew(test, tmp_path):
    front = NoFront()
    control = control_of(test, front)
    await test.server.start(behind(plan(tmp_path)))
    assert (await answer_to(control, "load"))["outcome"]["result"] == "ready"
    assert (front.kept_warm, test.server.state, test.starts) == ([True], State.READY, 1)


@promise
async def test_load_of_what_has_failed_says_why_it_did(test, tmp_path):
    control = control_of(test)
    await test.server.start(plan(tmp_path, exit=1, stderr="error: invalid argument: --foo"))
    answer = await answer_to(control, "load")
    assert "--foo" in answer["outcome"]["why"]
    with pytest.raises(StartFailed):
        show_outcome(answer, as_json=False)


@promise
async def test_a_sleeper_is_well_and_says_what_wakes_it(test, tmp_path):
    control = control_of(test)
    await test.server.start(behind(plan(tmp_path)))
    status = (await answer_to(control, "unload"))["status"]
    assert _exit_code(status) == 0
    assert next(_lines(status)).startswith("state     sleeping (the next request loads it), for")


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ({"why": "the next request loads it", "hint": ""}, "p sleeps; the next request loads it\n"),
        (
            {"why": "no request loads it", "hint": "goss-supervisor load"},
            "p sleeps; nothing loads it but goss-supervisor load\n",
        ),
    ],
)
def test_a_sleep_is_a_success_and_says_what_ends_it(outcome, said, capsys):
    answer = {"outcome": {"result": "asleep", "profile": "p", **outcome}}
    assert show_outcome(answer, as_json=False) == 0
    assert capsys.readouterr().out == said


@promise
async def test_a_plan_has_its_door_before_anything_is_done_for_it(test, tmp_path):
    front = NoFront()
    control = control_of(test, front)
    first, second = plan(tmp_path, name="first"), plan(tmp_path, name="second")
    await answer_to(control, "start", plan=to_json(first))
    await answer_to(control, "start", plan=to_json(second), by_request=True)
    assert front.admitted == [("first", False, State.STOPPED), ("second", True, State.READY)]


@promise
async def test_a_plan_that_may_not_run_is_answered_with_the_reason(test, tmp_path):
    control = control_of(test, NoFront(StartFailed("no door", hint="make one")))
    answer = await answer_to(control, "start", plan=to_json(plan(tmp_path)), by_request=True)
    assert answer == {"error": "no door", "hint": "make one"}
    assert test.server.state is State.STOPPED


@promise
async def test_another_protocol_is_refused_but_for_the_stop_that_the_refusal_names(test, tmp_path):
    control = control_of(test)
    await test.server.start(plan(tmp_path))
    refusal = await answer_to(control, "status", protocol=2)
    assert "protocol 1" in refusal["error"]
    assert "goss-supervisor stop" in refusal["hint"]
    assert (await answer_to(control, "stop", protocol=2))["outcome"]["result"] == "stopped"


@promise
async def test_the_key_that_opens_the_door_is_told_with_what_runs(test, tmp_path):
    control = control_of(test)
    assert (await answer_to(control, "running"))["key"] == ""
    await test.server.start(behind(plan(tmp_path)))
    assert (await answer_to(control, "running"))["key"] == "opens p"


@promise
async def test_what_clients_do_is_told_of_a_plan_with_a_door_only(test, tmp_path):
    front = NoFront()
    front.about = lambda: {"connections": 1}
    control = control_of(test, front)
    await test.server.start(behind(plan(tmp_path)))
    assert (await answer_to(control, "status"))["status"]["gateway"] == {"connections": 1}
    await test.server.start(plan(tmp_path))
    assert (await answer_to(control, "status"))["status"]["gateway"] is None


# --- the last requests


def note(activity, *profiles):
    for profile in profiles:
        activity.add(replace(REQUEST, profile=profile))


@promise
async def test_without_a_gateway_there_are_no_requests_to_show(test, tmp_path):
    answer = await answer_to(control_of(test), "requests")
    assert answer["error"] == "There is no gateway."
    assert "gateway" in answer["hint"]


@promise
async def test_the_last_requests_are_shown_from_the_number_on_that_is_asked_for(test, tmp_path):
    front = NoFront()
    front.activity = Activity()
    note(front.activity, "a", "b", "c")
    control = control_of(test, front)
    for asked, seen in (({}, "abc"), ({"last": 2}, "bc"), ({"since": 2}, "c"), ({"since": 3}, "")):
        answer = await answer_to(control, "requests", **asked)
        assert ("".join(each["profile"] for each in answer["requests"]), answer["final"]) == (seen, True)


@promise
async def test_who_follows_from_now_on_is_told_nothing_of_before(test, tmp_path):
    front = NoFront()
    front.activity = Activity()
    note(front.activity, "old")
    control = control_of(test, front)
    line = json.dumps({"protocol": 1, "op": "requests", "last": 0, "follow": True}).encode() + b"\n"
    async with asyncio.timeout(BOUND_SECONDS):
        following = asyncio.ensure_future(anext(control._answer(line)))
        await asyncio.sleep(0)
        note(front.activity, "new")
        assert [each["profile"] for each in (await following)["requests"]] == ["new"]


@promise
async def test_who_follows_is_told_of_each_request_until_the_end(test, tmp_path):
    front = NoFront()
    front.activity = Activity()
    note(front.activity, "old", "a")
    control = control_of(test, front)
    line = json.dumps({"protocol": 1, "op": "requests", "last": 1, "follow": True}).encode() + b"\n"
    async with asyncio.timeout(BOUND_SECONDS):
        messages = control._answer(line)
        said = [await anext(messages)]
        for profiles in ("b", "cd"):
            following = asyncio.ensure_future(anext(messages))
            await asyncio.sleep(0)
            control.changed()  # of the server: nothing to tell
            note(front.activity, *profiles)
            said.append(await following)
        following = asyncio.ensure_future(anext(messages, None))
        await control.finish()
        assert await following is None
    assert [[each["profile"] for each in message["requests"]] for message in said] == [
        ["a"],
        ["b"],
        ["c", "d"],
    ]
    assert not any(message["final"] for message in said)


@promise
async def test_a_reload_does_not_wake_a_sleeper(test, tmp_path):
    control = control_of(test)
    asked = behind(plan(tmp_path))
    await test.server.rest(asked)
    same = await answer_to(control, "reload", plan=to_json(asked))
    other = await answer_to(control, "reload", plan=to_json(behind(plan(tmp_path, name="other"))))
    assert [answer["outcome"]["result"] for answer in (same, other)] == ["unchanged", "asleep"]
    assert (test.server.state, test.server.plan.profile) == (State.SLEEPING, "other")


# --- what is no request, or no plan


def a_line(op, **request):
    return json.dumps({"protocol": 1, "op": op, **request}).encode() + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"status",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"[]",
        b'"status"',
        b"null",
        b"{}",
        b'{"op": "status"}',
        b'{"protocol": 1}',
        b'{"protocol": "1", "op": "status"}',
        b'{"protocol": true, "op": "status"}',
        b'{"protocol": NaN, "op": "status"}',
        b'{"protocol": [], "op": "stop"}',
        a_line("dance"),
        a_line(None),
        a_line(["status"]),
        a_line({"status": 1}),
        a_line("requests", since="0"),
        a_line("requests", since=True),
        a_line("requests", since=-1),
        a_line("requests", last=1.5),
        a_line("requests", last=[]),
        a_line("requests", last=10**30),
        a_line("requests", follow="no"),
        a_line("stop", now="no"),
        a_line("stop", now=1),
        a_line("stop", now=None),
        a_line("start"),
        a_line("start", plan=None),
        a_line("start", plan=[]),
        a_line("start", plan={}, by_request="yes"),
        a_line("reload", plan="p"),
    ],
    ids=lambda line: line[:60],
)
def test_what_is_no_request_gets_an_error_and_the_server_goes_on(line, tmp_path):
    @promise
    async def story(test, tmp_path):
        control = control_of(test)
        await test.server.start(plan(tmp_path))
        async with asyncio.timeout(BOUND_SECONDS):
            (answer,) = [message async for message in control._answer(line)]
        assert answer["error"]
        assert (await answer_to(control, "status"))["status"]["server"]["state"] == "ready"

    story(tmp_path)


@promise
async def test_a_request_may_say_more_than_its_operation_needs(test, tmp_path):
    answer = await answer_to(control_of(test), "status", since=3, of_tomorrow={"x": [1]})
    assert answer["final"]


UNFIT = (
    {"argv": []},
    {"argv": [""]},
    {"argv": [sys.executable, 1]},
    {"argv": [sys.executable, "\0"]},
    {"argv": [sys.executable, "\ud800"]},
    {"env": {"A": 1}},
    {"env": {"A": "\0"}},
    {"env": {"A=B": "c"}},
    {"secrets": {"A": 1}},
    {"secrets": {"": "a"}},
    {"model_files": ["\0"]},
    {"host": "a..b", "port": 0},
    {"port": -1},
    {"health": {"interval_seconds": float("nan")}},
    {"adjusted": {}},
)


@promise
async def test_a_plan_that_cannot_be_run_is_refused_and_the_server_goes_on(test, tmp_path):
    good = plan(tmp_path)
    control = control_of(test)
    await test.server.start(good)
    for number, each in enumerate(UNFIT):
        answer = await answer_to(control, "start", plan={**to_json(good), **each, "digest": str(number)})
        assert "error" in answer or answer["outcome"]["result"] == "rolled back", each
        assert test.server.is_serving


def places(document, here=()):
    """The path of each value in it."""
    inside = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in inside:
        yield (*here, key)
        if isinstance(value, dict | list):
            yield from places(value, (*here, key))


WRONG = (None, True, 0, -1, 7, 1.5, 1e300, 10**30, float("nan"), "", "\0", "x\0y", "\ud800", "a..b", "x")
WRONG += ([], {}, [""], [0], [[]], ["\0"], {"": ""}, {"A=B": "c"}, {"A": 1}, {"A\0": "b"})


def changed(document, place, value):
    """A copy with another value at this place; without it where the value is `...`."""
    copy = json.loads(json.dumps(document))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return copy


@given(data=st.data())
@settings(max_examples=5)
def test_no_plan_however_wrong_ends_the_daemon(data, tmp_path_factory):
    """It is refused, and what runs goes on; or it is run, and a right plan takes its place."""

    @promise
    async def story(test, tmp_path):
        good = replace(plan(tmp_path), secrets={"KEY": "k"}, model_files=(__file__,), health=IMPATIENT)
        document = json.loads(json.dumps(to_json(replace(good, adjusted=good))))
        everywhere = sorted(places(document), key=repr)
        control = control_of(test)
        await test.server.start(good)
        for place in data.draw(st.lists(st.sampled_from(everywhere), min_size=20, max_size=20)):
            sent = changed(document, place, data.draw(st.sampled_from((*WRONG, ...))))
            op = data.draw(st.sampled_from(["start", "reload"]))
            before = test.server.child
            async for answer in control._answer(a_line(op, plan=sent)):
                if "error" in answer:
                    assert (test.server.child, test.server.is_serving) == (before, True)
                elif test.server.child not in {before, None}:
                    break  # it was launched: whether it serves one day is another matter
            if "error" not in answer:
                assert (await answer_to(control, "start", plan=to_json(good)))["outcome"]["result"] == "ready"

    story(tmp_path_factory.mktemp("plans"))


# --- signs of life


@pytest.fixture
def talkative(monkeypatch):
    monkeypatch.setattr("supervisor.daemon.control.REPEAT_SECONDS", 0.01)


@pytest.mark.usefixtures("talkative")
def test_a_daemon_at_work_says_so_again_and_again_and_promises_it(tmp_path):
    @promise
    async def story(test, tmp_path):
        gate, control = tmp_path / "gate", control_of(test)
        said = control._answer(a_line("start", plan=to_json(plan(tmp_path, load_gate=gate))))
        seen = []
        async with asyncio.timeout(BOUND_SECONDS):
            while seen.count("starting") < 5:
                message = await anext(said)
                assert message["again_seconds"] > 0
                seen.append(message["status"]["server"]["state"])
            gate.touch()
            last = [message async for message in said][-1]
        assert last["outcome"]["result"] == "ready"

    story(tmp_path)


@pytest.mark.usefixtures("talkative")
def test_who_follows_the_requests_hears_that_there_are_none(tmp_path):
    @promise
    async def story(test, tmp_path):
        front = NoFront()
        front.activity = Activity()
        said = control_of(test, front)._answer(a_line("requests", follow=True))
        async with asyncio.timeout(BOUND_SECONDS):
            for _ in range(3):
                message = await anext(said)
                assert (message["requests"], message["final"]) == ([], False)
                assert message["again_seconds"] > 0

    story(tmp_path)
