"""The control endpoint: private, the same words over a unix socket and over TCP with a token, and its answers."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from types import SimpleNamespace
from unittest.mock import ANY, AsyncMock, Mock, patch

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.cli.output import show_outcome
from supervisor.cli.status import _exit_code, _lines
from supervisor.cli.status import status as status_command
from supervisor.daemon.control_listener import listen
from supervisor.daemon.control_server import Control
from supervisor.daemon.loads import Loads
from supervisor.errors import NotFound, NotRunning, PermissionDenied, StartFailed, Superseded
from supervisor.fleet.decisions import Awaited
from supervisor.gateway.scheduler import ContextUse
from supervisor.gateway.telemetry.activity import Activity
from supervisor.home import control_socket
from supervisor.home.control_socket import TokenEndpoint
from supervisor.paths import Paths
from supervisor.plan.listen import Listen
from supervisor.plan.plan_json import listen_to_json, to_json
from supervisor.server.lifecycle_table import State
from supervisor.server.server import Hold
from supervisor.server.survivors import Survivors

from ..fakes.asked import a_chat
from ..fakes.fleet_of_one import FleetOfOne
from ..fakes.launching import BOUND_SECONDS, PYTHON, program, wait_until_gone
from .test_server import behind, plan, promise

ENDPOINTS = [TokenEndpoint] if sys.platform == "win32" else [control_socket.UnixEndpoint, TokenEndpoint]


@pytest.fixture(params=ENDPOINTS)
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


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
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


def test_a_wrong_token_gets_no_answer(tmp_path):
    at = TokenEndpoint(tmp_path / "control.json")

    def intruder():
        port = json.loads(at.path.read_text())["port"]
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"guess\nhello\n")
            return client.makefile("rb").read()

    assert asyncio.run(served(at, intruder)) == b""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no Unix sockets for Python")
def test_a_socket_that_is_not_ours_to_use_is_a_permission_matter(tmp_path):
    folder = tmp_path / "folder.sock"
    folder.mkdir()
    with pytest.raises((PermissionDenied, NotRunning)):
        control_socket.UnixEndpoint(folder).connect(1.0)


DAEMON = {"pid": 1, "memory_bytes": None, "uptime_seconds": 0.0}
REQUEST = a_chat()


class NoGateway:
    """What the control asks of a gateway, where the test has none; it notes what it is asked."""

    gateway = None
    activity: Activity | None = None
    listen: Listen | None = None
    waiting: tuple[()] = ()
    active: tuple[()] = ()

    def __init__(self, refusal=None):
        self.refusal = refusal
        self.launched = []
        self.server = None

    async def launch(self, plan, listen, *, reload):
        if self.refusal is not None:
            raise self.refusal
        self.launched.append((plan.profile, listen, self.server.state))
        return (self.server.reload if reload else self.server.start)(plan)

    def refuse_at_the_end(self, plan):
        pass

    def changed(self, instance):
        pass

    def key(self, asked):
        return f"opens {asked.profile}"

    def about(self):
        return None

    def context_use(self, name):
        return ContextUse(1024, 700, 2, 3.5) if name == "default" else None


class OneServer(FleetOfOne):
    """A fleet of the server under test."""

    def __init__(self, server):
        self.server = server

    def get(self, name=None):
        if name not in {None, self.name}:
            raise NotFound(f"There is no server {name!r} here.")
        return self


def control_of(test, gateway=None):
    """The control of a server under test; what it does on a change is added to what the test does."""
    fleet, gateway = OneServer(test.server), gateway or NoGateway()
    gateway.server = test.server
    control = Control(
        fleet,
        lambda: DAEMON,
        lambda: None,
        lambda now: test.server.stop(now=now),
        gateway,
        Loads(
            lambda: fleet,
            lambda: None,
            asyncio.ensure_future,
            survivors=Survivors(Paths.under(test.tmp_path)),
        ),
    )
    note = test.server._on_change
    test.server._on_change = lambda: (note(), control.changed())
    return control


def answers(control, op, reader=None, **request):
    """Each line of the answer; the connection ends when ``reader`` does."""
    line = json.dumps({"protocol": 1, "op": op, **request}).encode() + b"\n"
    return control._answer(line, (reader or asyncio.StreamReader(), -1))


async def answer_to(control, op, **request):
    """The last line of the answer, which comes within the bound."""
    async with asyncio.timeout(BOUND_SECONDS):
        return [message async for message in answers(control, op, **request)][-1]


@promise
async def test_a_page_asks_what_a_connection_does_and_sees_each_change(test, tmp_path):
    control = control_of(test)
    before = control.happened
    await test.server.start(behind(plan(tmp_path)))
    assert control.happened is not before
    async with asyncio.timeout(BOUND_SECONDS):
        lines = [line async for line in control.control({"op": "unload", "can_edit": False})]
    assert (lines[-1]["final"], lines[-1]["outcome"]["result"]) == (True, "asleep")
    assert control.status()["server"]["state"] == "sleeping"
    assert control.log_of("default") == test.server.output.path
    with pytest.raises(NotFound):
        control.log_of("nobody")


@promise
async def test_without_a_daemon_the_status_has_the_same_fields_and_what_was_left(test, tmp_path):
    with patch.object(Paths, "from_environment", lambda: Paths.under(tmp_path / "empty")):
        asked = CliRunner().invoke(status_command, ["--json"], standalone_mode=False)
    told, now = json.loads(asked.stdout), control_of(test).status()
    assert asked.return_value == NotRunning.exit_code
    assert (told["schema"], told["daemon"]) == (now["schema"], None)
    assert told.keys() - now.keys() == {"survivors"}
    assert now.keys() <= told.keys()
    lists = {name for name, field in now.items() if isinstance(field, list)}
    assert [told[name] for name in (*lists, "survivors")] == [[]] * (len(lists) + 1)
    assert told["server"] == {"state": "stopped", "profile": None, "last_failure": None}
    assert told["server"].keys() <= now["server"].keys()


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
async def test_load_keeps_what_is_loaded(test, tmp_path):
    control = control_of(test)
    await test.server.start(behind(plan(tmp_path)))
    assert (await answer_to(control, "load"))["outcome"]["result"] == "ready"
    assert (test.server.state, test.starts) == (State.READY, 1)


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


@promise
async def test_status_has_the_share_of_what_is_loaded_in_each_memory(test, tmp_path):
    control = control_of(test)
    asked = replace(behind(plan(tmp_path, hold=50)), memory={"RAM": 60 * 2**20}, leaves={"RAM": 2**30})
    await test.server.start(asked)
    ram, *_ = (await answer_to(control, "status"))["status"]["memory"]
    assert (ram["device"], ram["leave_bytes"], ram["total_bytes"] > ram["left_bytes"] > 0) == (
        "RAM",
        2**30,
        True,
    )
    (share,) = ram["shares"]
    assert (share["server"], share["profile"], share["planned_bytes"]) == (
        "default",
        asked.profile,
        60 * 2**20,
    )
    assert share["measured_bytes"] is None or share["measured_bytes"] >= 50 * 2**20
    ram, *_ = (await answer_to(control, "unload"))["status"]["memory"]
    assert (ram["shares"], ram["leave_bytes"]) == ([], 2**30)


@promise
async def test_a_sleeper_that_is_reloaded_sleeps_on_with_the_new_plan_and_takes_no_memory(test, tmp_path):
    gateway = NoGateway()
    control = control_of(test, gateway)
    await test.server.start(behind(plan(tmp_path)))
    await answer_to(control, "unload")
    newer = replace(behind(plan(tmp_path)), build="b2", digest="newer")
    answer = await answer_to(control, "reload", plan=to_json(newer))
    assert (answer["outcome"]["result"], test.server.plan.build, test.starts) == ("asleep", "b2", 1)
    assert gateway.launched == [], "nothing may be unloaded for it"


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
async def test_a_start_brings_its_address_and_a_switch_does_not(test, tmp_path):
    gateway = NoGateway()
    control = control_of(test, gateway)
    first, second = plan(tmp_path, name="first"), plan(tmp_path, name="second")
    at = Listen("first", "127.0.0.1", 8080)
    await answer_to(control, "start", plan=to_json(first), listen=listen_to_json(at))
    await answer_to(control, "start", plan=to_json(second))
    assert gateway.launched == [("first", at, State.STOPPED), ("second", None, State.READY)]


@promise
async def test_a_plan_that_may_not_run_is_answered_with_the_reason(test, tmp_path):
    control = control_of(test, NoGateway(StartFailed("no gateway", hint="make one")))
    answer = await answer_to(control, "start", plan=to_json(plan(tmp_path)))
    assert answer == {"error": "no gateway", "hint": "make one", "exit_code": StartFailed.exit_code}
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
async def test_the_key_that_opens_the_address_is_told_with_what_runs(test, tmp_path):
    control = control_of(test)
    assert (await answer_to(control, "running"))["key"] == ""
    await test.server.start(behind(plan(tmp_path)))
    assert (await answer_to(control, "running"))["key"] == "opens p"


@promise
async def test_the_status_has_every_server_and_the_first_one_as_before(test, tmp_path):
    status = (await answer_to(control_of(test), "status"))["status"]
    assert (status["schema"], [server["name"] for server in status["servers"]]) == (2, ["default"])
    assert status["server"] == status["servers"][0]


@promise
async def test_a_server_that_is_not_there_is_named(test, tmp_path):
    answer = await answer_to(control_of(test), "unload", server="other")
    assert "'other'" in answer["error"]


# --- whose outcome it is


@promise
async def test_a_start_that_another_one_replaced_says_so_and_the_other_has_its_own(test, tmp_path):
    """`switch b &` and then `switch a`: the first must not say that a is ready."""
    control = control_of(test)
    gate = tmp_path / "loaded"
    first = to_json(plan(tmp_path, name="b", load_gate=gate))
    replaced = asyncio.create_task(answer_to(control, "start", plan=first))
    await test.until(lambda: test.server.state is State.STARTING)
    second = await answer_to(control, "start", plan=to_json(plan(tmp_path, name="a")))
    outcome = (await replaced)["outcome"]
    assert (outcome["result"], outcome["profile"], outcome["digest"]) == ("superseded", "b", "b")
    assert outcome["by"] == second["outcome"]["id"] != outcome["id"]
    assert "a start of a" in outcome["why"]
    assert (second["outcome"]["result"], second["outcome"]["digest"]) == ("ready", "a")
    with pytest.raises(Superseded, match="b was not started: superseded by a start of a") as error:
        show_outcome(await replaced, as_json=False)
    assert error.value.exit_code == 12


@promise
async def test_two_who_ask_for_the_same_share_its_outcome(test, tmp_path):
    control = control_of(test)
    await test.server.start(behind(plan(tmp_path)))
    both = await asyncio.gather(answer_to(control, "unload"), answer_to(control, "unload"))
    assert [each["outcome"]["result"] for each in both] == ["asleep", "asleep"]
    assert len({each["outcome"]["id"] for each in both}) == 2


# --- a server that somebody holds


@asynccontextmanager
async def held(control, **request):
    """Held by a client whose connection ends with the block; its id."""
    reader = asyncio.StreamReader()
    lines = answers(
        control, "hold", reader, owner="engine update (pid 7)", why="comparing a with b", **request
    )
    async with asyncio.timeout(BOUND_SECONDS):
        message = await anext(lines)
        yield message.get("held")
        reader.feed_eof()
        assert [line async for line in lines] == []


@promise
async def test_others_are_told_who_holds_a_server_and_its_owner_goes_on(test, tmp_path):
    control = control_of(test)
    sent = to_json(plan(tmp_path))
    async with held(control) as id_:
        for op in ("start", "reload", "load", "unload", "hold"):
            refusal = await answer_to(control, op, plan=sent)
            assert "engine update (pid 7) has held the server since" in refusal["error"]
            assert "comparing a with b" in refusal["error"]
        status = (await answer_to(control, "status"))["status"]
        assert status["servers"][0]["held_by"]["owner"] == "engine update (pid 7)"
        assert (await answer_to(control, "start", plan=sent, hold=id_))["outcome"]["result"] == "ready"
    assert (await answer_to(control, "unload"))["outcome"]["result"] == "asleep"


@promise
async def test_the_main_server_does_not_take_over_what_somebody_holds_beside_it(test, tmp_path):
    control = control_of(test)
    beside = SimpleNamespace(server=SimpleNamespace(hold=Hold(7, "engine update", "moving it to b2", 0.0)))
    control._fleet.having = lambda profile: beside if profile == "p" else None
    refused = await answer_to(control, "start", plan=to_json(plan(tmp_path, name="p")))
    assert "engine update has held the server" in refused["error"]


@promise
async def test_what_a_pinned_server_holds_is_there_for_its_own_next_plan(test, tmp_path):
    control = control_of(test)
    await test.server.start(replace(plan(tmp_path), memory={"RAM": 5}, needs={"RAM": 7}))
    async with held(control):  # nobody unloads it
        for replaces, shares in (("", ({}, {"RAM": 7})), (test.server.plan.profile, ({"RAM": 5}, {}))):
            answer = await answer_to(control, "running", replaces=replaces)
            assert (answer["held"], answer["stays"]) == shares


@promise
async def test_a_load_by_request_waits_until_nobody_holds_a_server(test, tmp_path):
    control = control_of(test)
    await test.server.rest(behind(plan(tmp_path)))
    async with held(control):
        loading = asyncio.create_task(answer_to(control, "load", by_request=True))
        await answer_to(control, "status")
        assert not loading.done()
        assert test.server.state is State.SLEEPING
    assert (await loading)["outcome"]["result"] == "ready"


@promise
async def test_loads_that_wait_for_memory_give_way_to_what_is_asked_for_later(test, tmp_path):
    control = control_of(test)
    await test.server.start(plan(tmp_path))
    given_up = control._loads.admission.give_up = Mock()
    server = control._fleet.get()
    async with held(control, polite=True):
        assert not given_up.called
    async with held(control):
        given_up.assert_called_with(ANY, by_person=False)
    await answer_to(control, "unload", server="default")
    given_up.assert_called_with("superseded by an unload", server, by_request=False)
    await answer_to(control, "stop", server="default")
    given_up.assert_called_with("superseded by a stop", server)


@promise
async def test_a_stop_is_never_refused(test, tmp_path):
    control = control_of(test)
    await test.server.start(plan(tmp_path))
    async with held(control):
        assert (await answer_to(control, "stop"))["outcome"]["result"] == "stopped"


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
    gateway = NoGateway()
    gateway.activity = Activity()
    note(gateway.activity, "a", "b", "c")
    control = control_of(test, gateway)
    for asked, seen in (({}, "abc"), ({"last": 2}, "bc"), ({"since": 2}, "c"), ({"since": 3}, "")):
        answer = await answer_to(control, "requests", **asked)
        assert ("".join(each["profile"] for each in answer["requests"]), answer["final"]) == (seen, True)


@promise
async def test_who_follows_from_now_on_is_told_nothing_of_before(test, tmp_path):
    gateway = NoGateway()
    gateway.activity = Activity()
    note(gateway.activity, "old")
    control = control_of(test, gateway)
    async with asyncio.timeout(BOUND_SECONDS):
        following = asyncio.ensure_future(anext(answers(control, "requests", last=0, follow=True)))
        await asyncio.sleep(0)
        note(gateway.activity, "new")
        assert [each["profile"] for each in (await following)["requests"]] == ["new"]


@promise
async def test_what_is_still_under_way_at_the_end_ends_without_an_error(test, tmp_path):
    """Else asyncio writes a traceback into the log."""
    began = asyncio.Event()

    async def lasts(_program, _connection):
        began.set()
        await asyncio.Event().wait()
        yield {}

    control, reader = control_of(test), asyncio.StreamReader()
    control.upgrade = lasts
    reader.feed_data(b'{"protocol": 1, "op": "upgrade", "program": ["x"]}\n')
    writer = Mock(wait_closed=AsyncMock())
    serving = asyncio.create_task(control.serve(reader, writer))
    async with asyncio.timeout(BOUND_SECONDS):
        await began.wait()
        await control.finish()
        assert await serving is None
    writer.close.assert_called_once()


@promise
async def test_who_follows_is_told_of_each_request_until_the_end(test, tmp_path):
    gateway = NoGateway()
    gateway.activity = Activity()
    note(gateway.activity, "old", "a")
    control = control_of(test, gateway)
    async with asyncio.timeout(BOUND_SECONDS):
        messages = answers(control, "requests", last=1, follow=True)
        said = [await anext(messages)]
        for profiles in ("b", "cd"):
            following = asyncio.ensure_future(anext(messages))
            await asyncio.sleep(0)
            control.changed()  # of the server: nothing to tell
            note(gateway.activity, *profiles)
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
            (answer,) = [message async for message in control._answer(line, asyncio.StreamReader())]
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
        good = replace(plan(tmp_path), secrets={"KEY": "k"}, model_files=(__file__,))
        document = json.loads(json.dumps(to_json(replace(good, adjusted=good))))
        everywhere = sorted(places(document), key=repr)
        control = control_of(test)
        await test.server.start(good)
        for place in data.draw(st.lists(st.sampled_from(everywhere), min_size=20, max_size=20)):
            sent = changed(document, place, data.draw(st.sampled_from((*WRONG, ...))))
            op = data.draw(st.sampled_from(["start", "reload"]))
            before = test.server.child
            async for answer in answers(control, op, plan=sent):
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
    monkeypatch.setattr("supervisor.daemon.control_server.REPEAT_SECONDS", 0.01)


@pytest.mark.usefixtures("talkative")
def test_a_daemon_at_work_says_so_again_and_again_and_promises_it(tmp_path):
    @promise
    async def story(test, tmp_path):
        gate, control = tmp_path / "gate", control_of(test)
        said = answers(control, "start", plan=to_json(plan(tmp_path, load_gate=gate)))
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
def test_a_load_that_waits_for_memory_says_for_what(tmp_path):
    class Full:
        """An admission that has no memory for anybody until it is told to."""

        awaited = (Awaited("p", ("q",), "waits for q, which answers 1 request", 12.0),)
        has_room = asyncio.Event()

        def is_pinned(self, instance):
            return False

        def held_plan(self, instance):
            return None

        async def launch(self, instance, plan, begin, **options):
            await self.has_room.wait()
            return begin()

    @promise
    async def story(test, tmp_path):
        control = control_of(test)
        control._loads.admission = full = Full()
        await test.server.rest(behind(plan(tmp_path, name="p")))
        said = answers(control, "load")
        async with asyncio.timeout(BOUND_SECONDS):
            message = await anext(said)
            assert message["awaits"] == asdict(full.awaited[0])
            assert message["again_seconds"] > 0
            now = (await answer_to(control, "status"))["status"]
            assert now["loads_waiting"] == [asdict(full.awaited[0])]
            full.awaited = ()
            assert "awaits" not in await anext(said)
            full.has_room.set()
            last = [message async for message in said][-1]
        assert last["outcome"]["result"] == "ready"

    story(tmp_path)


@promise
async def test_the_status_tells_of_a_context_that_slots_share(test, tmp_path):
    control = control_of(test)
    assert (await answer_to(control, "status"))["status"]["server"]["context"] is None
    await test.server.rest(replace(behind(plan(tmp_path)), context_slots=4))
    assert (await answer_to(control, "status"))["status"]["server"]["context"] == {
        "slots": 4,
        "tokens": 1024,
        "expected_tokens": 700,
        "waiting": 2,
        "longest_seconds": 3.5,
    }


@pytest.mark.usefixtures("talkative")
def test_who_follows_the_requests_hears_that_there_are_none(tmp_path):
    @promise
    async def story(test, tmp_path):
        gateway = NoGateway()
        gateway.activity = Activity()
        said = answers(control_of(test, gateway), "requests", follow=True)
        async with asyncio.timeout(BOUND_SECONDS):
            for _ in range(3):
                message = await anext(said)
                assert (message["requests"], message["final"]) == ([], False)
                assert message["again_seconds"] > 0

    story(tmp_path)


# --- jobs


@promise
async def test_a_command_is_run_for_a_client_and_listed_while_others_watch(test, tmp_path):
    control = control_of(test)
    control.jobs._program = (*PYTHON, "-c", "import sys, json; print(json.dumps({'words': sys.argv[1:]}))")
    last = await answer_to(control, "run", command="load", arguments={"profile": "mine"})
    assert (last["final"], last["result"]) == (True, {"words": ["load", "--json", "--", "mine"]})
    assert (await answer_to(control, "status"))["status"]["jobs"] == [{**last["job"], "result": None}]
    assert (await answer_to(control, "jobs"))["jobs"] == [last["job"]]
    assert (await answer_to(control, "cancel", job=1))["job"] == last["job"]


@promise
async def test_a_client_that_goes_away_ends_what_only_reads(test, tmp_path):
    control = control_of(test)
    control.jobs._program = program(
        "import os, sys, time; print(os.getpid(), file=sys.stderr); time.sleep(60)"
    )
    follows = answers(control, "run", command="detect")
    async with asyncio.timeout(BOUND_SECONDS):
        while not (line := (await anext(follows))["job"]["line"]):
            pass
    await follows.aclose()
    assert await asyncio.to_thread(wait_until_gone, int(line))


@promise
async def test_a_command_that_is_not_in_the_table_is_refused(test, tmp_path):
    control = control_of(test)
    answer = await answer_to(control, "run", command="rm", arguments={"profile": "mine"})
    assert ("There is no command 'rm'" in answer["error"], answer["exit_code"]) == (True, 2)
    answer = await answer_to(control, "cancel", job=3)
    assert (answer["error"], answer["exit_code"]) == ("There is no job 3.", 5)
