"""Where the daemon's gateway listens: opened before a launch, kept over a switch, given back where a start fails."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import shutil
import ssl
import stat
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from supervisor.daemon.gateway_listener import GatewayListener
from supervisor.daemon.loads import Loads
from supervisor.errors import ConfigError, NotFound, NotRunning, StartFailed
from supervisor.gateway.auth.keys import KeyFile
from supervisor.gateway.telemetry.usage_file import UsageFile
from supervisor.gateway.telemetry.usage_tally import UsagePlace, UsageSums, day_of
from supervisor.home.places import keys_file, private_folder, usage_file
from supervisor.paths import Paths
from supervisor.plan.launch import LaunchPlan
from supervisor.plan.listen import Listen, Offer
from supervisor.profile.definition import GatewaySettings
from supervisor.server.lifecycle_table import State
from supervisor.server.survivors import Survivors

from ..fakes.fleet_of_one import FleetOfOne
from ..fakes.launching import BOUND_SECONDS, free_port, until
from ..fakes.loops import run_story
from ..fakes.relay import HOST, Owner, RawClient, post
from .test_server import Watched, behind, plan

pytestmark = pytest.mark.usefixtures("each_loop")
unix = pytest.mark.skipif(sys.platform == "win32", reason="there are no Unix sockets for Python")

HEALTH = b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"
CHAT = post(b"{}")
BROKEN = {"exit": 1, "stderr": "error: invalid argument: --broken"}


@dataclass(frozen=True)
class Asked:
    """A launch, and where its clients come in; None leaves that as it is."""

    plan: LaunchPlan
    listen: Listen | None = None

    @property
    def port(self) -> int:
        return self.listen.port


class OneServer(FleetOfOne, Watched):
    """A server as the one of a fleet, with the gateway before it, as the daemon ties them together."""

    hold = None

    def __init__(self, tmp_path):
        super().__init__(tmp_path)
        self.tasks: set[asyncio.Task] = set()
        self.loads = Loads(
            lambda: self,
            lambda: self.gateway.gateway,
            self.begin,
            self.load,
            survivors=Survivors(Paths.under(tmp_path)),
        )
        self.gateway = GatewayListener(Paths.under(tmp_path), lambda: self, self.begin, self.loads, Owner)
        self.server.under_way = lambda: self.gateway.under_way(self.name)
        self.loaded: list[str] = []

    async def load(self, *words):
        self.loaded.append(words[-1])
        return {"error": "nobody loads here", "hint": ""}

    def begin(self, work):
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def idle(self):
        """Nothing is done beside the server any more."""
        await until(lambda: not self.tasks)

    def make_ready_for(self, plan):
        private_folder(self.tmp_path / "run")

    def note(self):
        super().note()
        self.gateway.changed(self)

    async def run(self, asked, **more):
        """As the control socket does it; the outcome."""
        return await (await self.gateway.launch(asked.plan, asked.listen, **more))

    async def switch_to(self, asked, **more):
        """The launch alone, as ``switch`` sends it."""
        return await self.run(Asked(asked.plan), **more)

    @property
    def launches(self) -> int:
        return self.starts if (self.tmp_path / "starts").exists() else 0

    def through(self, asked, *, host="127.0.0.1", port=None, listen=None, **faults):
        """A plan of that name behind the gateway, at an address of its own; llama-server's is a socket."""
        inner = "127.0.0.1" if sys.platform == "win32" else str(self.tmp_path / "run" / "inner.sock")
        made = behind(plan(self.tmp_path, name=asked, **faults), host=inner)
        listen = listen or Listen(
            asked, host, port or free_port(), GatewaySettings(), (Offer(asked, (asked,)),)
        )
        return Asked(replace(made, drain_seconds=listen.settings.drain_timeout_seconds), listen)


def promise(story):
    """Run one async story with a server of its own, within a bound."""

    @functools.wraps(story)
    def run(tmp_path):
        async def bounded():
            async with asyncio.timeout(BOUND_SECONDS * 2), one_server(tmp_path) as it:
                await story(it)

        run_story(bounded())

    del run.__wrapped__  # pytest would look for the story's own argument
    return run


@asynccontextmanager
async def one_server(tmp_path):
    it = OneServer(tmp_path)
    working = asyncio.create_task(it.server.run())
    try:
        yield it
    finally:
        it.gateway.begin_to_end()
        async with asyncio.timeout(BOUND_SECONDS):
            await it.server.stop(now=True)
            await it.gateway.finish()
        it.server.close()
        working.cancel()


@asynccontextmanager
async def client(where, **more):
    """At a port of this computer, at an address, or at a socket."""
    if isinstance(where, int):
        where = ("127.0.0.1", where)
    opened = (
        asyncio.open_connection(*where, **more)
        if isinstance(where, tuple)
        else asyncio.open_unix_connection(where)
    )
    reader, writer = await opened
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()


async def status_at(where, request=CHAT, **more) -> int:
    async with client(where, **more) as someone:
        return (await someone.ask(request))[0]


async def is_closed(where) -> bool:
    try:
        async with client(where):
            return False
    except OSError:
        return True


@asynccontextmanager
async def somebody_at(host, port):
    taken = await asyncio.start_server(lambda *_: None, host, port)
    try:
        yield
    finally:
        taken.close()


# --- an address that is taken


@promise
async def test_an_address_that_is_taken_is_said_before_anything_is_launched(it):
    asked = it.through("p")
    async with somebody_at("127.0.0.1", asked.port):
        with pytest.raises(StartFailed, match=rf"Port {asked.port} is taken by .*{os.getpid()}") as error:
            await it.run(asked)
    assert "listen.port" in error.value.hint
    assert (it.launches, it.server.state) == (0, State.STOPPED)
    assert (await it.run(asked)).result == "ready"
    assert await status_at(asked.port) == 200


@promise
async def test_a_start_at_an_address_that_is_taken_leaves_what_runs_untouched(it):
    first, second = it.through("first"), it.through("second")
    await it.run(first)
    async with somebody_at("127.0.0.1", second.port), client(first.port) as someone:
        await someone.ask(CHAT)
        with pytest.raises(StartFailed):
            await it.run(second)
        assert (await someone.ask(CHAT))[0] == 200
        assert await status_at(first.port) == 200
    assert (it.launches, it.server.plan.profile) == (1, "first")


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_that_is_not_ours_is_named(tmp_path, host):
    @promise
    async def story(it):
        with pytest.raises(StartFailed, match=host):
            await it.run(it.through("p", host=host))
        assert it.launches == 0

    story(tmp_path)


@unix
def test_a_socket_whose_path_is_too_long_is_named(tmp_path):
    @promise
    async def story(it):
        with pytest.raises(StartFailed, match="too long"):
            await it.run(it.through("p", host=str(tmp_path / ("x" * 120 + ".sock"))))
        assert it.launches == 0

    story(tmp_path)


# --- an address that changes


@promise
async def test_the_address_changes_with_a_start_and_who_is_being_answered_is_answered(it):
    gate = it.tmp_path / "gate"
    first, second = it.through("first", chat_gate=gate), it.through("second")
    await it.run(first)
    async with client(first.port) as someone:
        await someone.send(CHAT)
        await until(lambda: it.gateway.under_way("default") == 1)
        switching = asyncio.create_task(it.run(second))
        await it.until(lambda: it.server.state is State.DRAINING)
        assert await is_closed(first.port)
        async with client(second.port) as early:
            await early.send(CHAT)
            gate.touch()
            assert (await someone.answer())[0] == 200
            assert (await switching).result == "ready"
            assert (await early.answer())[0] == 200
            assert (await someone.ask(CHAT))[0] == 200  # the connection goes on, behind it the new server


@promise
async def test_the_address_before_a_start_that_failed_comes_back(it):
    first, second = it.through("first"), it.through("second", **BROKEN)
    await it.run(first)
    outcome = await it.run(second)
    assert (outcome.result, outcome.profile) == ("rolled back", "first")
    await it.idle()
    assert await status_at(first.port) == 200
    assert await is_closed(second.port)


@promise
async def test_while_the_old_plan_still_goes_its_address_does_not_come_back(it):
    """Whatever is noted of the old server between the new address and the start."""
    first, second = it.through("first"), it.through("second")
    await it.run(first)
    decided = await it.gateway.launch(second.plan, second.listen)
    it.gateway.changed(it)
    await it.until(lambda: it.server.state is State.STARTING)
    assert not it.tasks
    assert await is_closed(first.port)
    assert (await decided).result == "ready"


@pytest.mark.parametrize(
    ("before", "after"), [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1,::1")]
)
def test_other_hosts_at_the_same_port_are_no_conflict_with_ourselves(tmp_path, before, after):
    @promise
    async def story(it):
        first = it.through("first", host=before)
        open_to_all = replace(
            first.listen, host=after, settings=replace(first.listen.settings, allow_unauthenticated=True)
        )
        second = it.through("second", listen=open_to_all)
        await it.run(first)
        assert (await it.run(second)).result == "ready"
        assert await status_at(second.port) == 200

    story(tmp_path)


@promise
async def test_other_hosts_that_cannot_be_had_leave_the_address_as_it_was(it):
    first = it.through("first")
    await it.run(first)
    with pytest.raises(StartFailed):
        await it.run(it.through("second", listen=replace(first.listen, host="192.0.2.1")))
    assert await status_at(first.port) == 200
    assert it.server.plan.profile == "first"


# --- with and without a gateway


def without_gateway(it, name, port, **faults):
    made = plan(it.tmp_path, name=name, **faults)
    argv = list(made.argv)
    argv[argv.index("--port") + 1] = str(port)
    return Asked(replace(made, argv=tuple(argv), port=port))


@promise
async def test_without_a_gateway_llama_server_has_the_address_itself_and_gives_it_back(it):
    first = it.through("first")
    alone = without_gateway(it, "alone", first.port)
    assert it.gateway.about() is None
    for asked in (alone, first, alone, first):
        assert (await it.run(asked)).result == "ready"
        await it.idle()
        assert await status_at(first.port) == 200
        assert it.server.plan.behind_gateway == (asked is first)
    assert it.gateway.about()["requests_under_way"] == 0


@promise
async def test_a_gateway_that_failed_to_go_comes_back(it):
    first = it.through("first")
    await it.run(first)
    assert (await it.run(without_gateway(it, "alone", first.port, **BROKEN))).result == "rolled back"
    await it.idle()
    assert await status_at(first.port, HEALTH) == 200
    assert await status_at(first.port) == 200


@promise
async def test_llama_server_without_a_gateway_comes_back_where_the_one_with_it_failed(it):
    port = free_port()
    await it.run(without_gateway(it, "alone", port))
    outcome = await it.run(it.through("second", port=port, **BROKEN))
    assert (outcome.result, outcome.profile) == ("rolled back", "alone")
    assert await status_at(port) == 200


# --- a switch leaves the address alone


@promise
async def test_a_switch_keeps_the_address_and_its_connections(it):
    first, second = it.through("first"), it.through("second")
    await it.run(first)
    async with client(first.port) as someone:
        assert (await it.switch_to(second)).result == "ready"
        assert (await someone.ask(CHAT))[0] == 200
    assert it.server.plan.profile == "second"
    assert await is_closed(second.port)
    await it.switch_to(second)  # as `restart` does for a profile that another one's address leads to
    assert await status_at(first.port) == 200


@promise
async def test_a_model_is_pinned_while_it_serves_and_its_clients_notice_nothing(it):
    first, second = it.through("first"), it.through("second")
    with pytest.raises(NotFound, match="does not serve first"):
        await it.gateway.pin("first", pinned=True)
    await it.run(first)
    async with client(first.port) as someone:
        await it.gateway.pin("first", pinned=True)
        assert it.loads.admission.is_pinned(it)
        await it.switch_to(second)
        assert not it.loads.admission.is_pinned(it)
        await it.gateway.pin("second", pinned=True)  # clients may ask for it, though no start offered it
        assert it.loads.admission.is_pinned(it)
        await it.gateway.pin("second", pinned=False)
        assert not it.loads.admission.is_pinned(it)
        assert (await someone.ask(CHAT))[0] == 200
    await it.run(first)  # a start says it anew
    assert not it.loads.admission.is_pinned(it)


@promise
async def test_a_link_to_the_page_begins_a_session_once_and_there_is_none_without_a_gateway(it):
    with pytest.raises(NotRunning, match="no gateway"):
        it.gateway.page_link()
    first = it.through("first")
    await it.run(first)
    link = it.gateway.page_link()
    assert link["url"] == f"http://127.0.0.1:{first.port}/supervisor/"
    sessions = it.gateway.gateway.sessions
    assert sessions.takes(link["code"].encode())
    assert not sessions.takes(link["code"].encode())
    await it.run(without_gateway(it, "alone", free_port()))
    with pytest.raises(NotRunning, match="no gateway"):
        it.gateway.page_link()


@promise
async def test_a_profile_without_a_gateway_cannot_be_loaded_beside_another(it):
    first = it.through("first")
    await it.run(first)
    with pytest.raises(StartFailed, match="gateway: off"):
        await it.loads.run_beside(without_gateway(it, "alone", free_port()).plan, by_request=True)
    assert await status_at(first.port) == 200


@promise
async def test_a_start_that_failed_gives_the_address_back_to_whoever_ran_at_it(it):
    first, second = it.through("first"), it.through("second")
    await it.run(first)
    await it.switch_to(second)
    assert (await it.run(it.through("third", **BROKEN))).result == "rolled back"
    await it.idle()
    await it.switch_to(second)
    assert it.server.plan.profile == "second"
    assert await status_at(first.port) == 200


# --- the end


@promise
async def test_when_it_ends_nobody_is_let_in_and_who_is_being_answered_is(it):
    gate = it.tmp_path / "gate"
    asked = it.through("p", chat_gate=gate)
    asked = replace(
        asked, plan=replace(asked.plan, stop=replace(asked.plan.stop, grace_seconds=BOUND_SECONDS))
    )
    await it.run(asked)
    async with client(asked.port) as someone:
        await someone.send(CHAT)
        await until(lambda: it.gateway.under_way("default") == 1)
        it.gateway.begin_to_end()
        it.gateway.changed(it)  # whatever is noted now opens nothing again
        stopping = it.server.stop()
        assert await is_closed(asked.port)
        gate.touch()
        assert (await someone.answer())[0] == 200
        assert (await stopping).result == "stopped"
        await it.gateway.finish()
        assert await someone.rest() == b""


def with_notice() -> Listen:
    return Listen(
        "p", "127.0.0.1", free_port(), GatewaySettings(stop_notice_seconds=5.0), (Offer("p", ("p",)),)
    )


@promise
async def test_before_it_ends_load_balancers_hear_of_it_and_all_are_answered(it):
    asked = it.through("p", listen=with_notice())
    await it.run(asked)
    ready = b"GET /supervisor/ready HTTP/1.1\r\n" + HOST + b"\r\n"
    async with client(asked.port) as idle:
        assert (await idle.ask(ready))[0] == 200
        assert it.gateway.announce_end() == 5.0
        status, head, body = await idle.ask(ready)
        assert (status, json.loads(body)["state"]) == (503, "stopping")
        assert b"connection: close\r\n" in head  # so that the next request goes elsewhere
        assert await idle.rest() == b""
    async with client(asked.port) as late:
        status, head, _ = await late.ask(CHAT)
        assert status == 200
        assert b"connection: close\r\n" in head
        assert await late.rest() == b""
    with pytest.raises(StartFailed, match="being stopped"):
        await it.run(it.through("second"))


@promise
async def test_who_serves_nothing_has_nobody_to_give_notice_to(it):
    asked = it.through("p", listen=with_notice())
    await it.run(asked)
    await it.server.sleep()
    assert it.gateway.announce_end() == 0.0


@promise
async def test_when_it_ends_nothing_is_started_any_more(it):
    first = it.through("first")
    await it.run(first)
    it.gateway.begin_to_end()
    with pytest.raises(StartFailed, match="being stopped") as error:
        await it.run(it.through("second"))
    assert "start -p second" in error.value.hint
    assert await is_closed(first.port)


# --- addresses


@promise
async def test_several_hosts_are_all_listened_on(it):
    asked = it.through("p", host="127.0.0.1,127.0.0.2")
    await it.run(asked)
    for host in ("127.0.0.1", "127.0.0.2"):
        assert await status_at((host, asked.port)) == 200


@promise
async def test_of_several_hosts_one_that_is_taken_leaves_none_open(it):
    asked = it.through("p", host="127.0.0.1,127.0.0.2")
    async with somebody_at("127.0.0.2", asked.port):
        with pytest.raises(StartFailed):
            await it.run(asked)
        assert await is_closed(asked.port)


@promise
async def test_ipv6_is_an_address_as_any(it):
    asked = it.through("p", host="[::1]")
    await it.run(asked)
    assert await status_at(("::1", asked.port)) == 200


@promise
async def test_all_of_ipv6_means_ipv4_too(it):
    asked = it.through("p", host="::")
    listen = replace(asked.listen, settings=replace(asked.listen.settings, allow_unauthenticated=True))
    await it.run(replace(asked, listen=listen))
    for host in ("::1", "127.0.0.1"):
        assert await status_at((host, asked.port)) == 200


@unix
@promise
async def test_a_unix_socket_is_for_its_user_and_group_and_leaves_no_file(it):
    path = it.tmp_path / "gateway.sock"
    path.write_bytes(b"")
    path.unlink()
    await it.run(it.through("p", host=str(path)))
    assert await status_at(path) == 200
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    other = it.tmp_path / "other.sock"
    await it.run(it.through("q", host=str(other)))
    assert await status_at(other) == 200
    assert not path.exists()


@unix
@promise
async def test_a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not(it):
    path = it.tmp_path / "gateway.sock"
    asked = it.through("p", host=str(path))
    other = await asyncio.start_unix_server(lambda *_: None, path)
    with pytest.raises(StartFailed, match="Another program listens"):
        await it.run(asked)
    left = path.with_suffix(".left")
    path.rename(left)  # else some loops take it away with the server
    other.close()
    left.rename(path)
    assert (await it.run(asked)).result == "ready"
    assert await status_at(path) == 200


# --- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Paths of a certificate for localhost and its key."""
    return made_certificate(tmp_path_factory.mktemp("tls"))


def made_certificate(folder):
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl makes the certificate")
    made = folder / "cert.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-x509"]
    files = ["-out", str(made[0]), "-keyout", str(made[1])]
    subprocess.run([program, "req", *kind, *subject, *files], check=True, capture_output=True)
    return made


def with_tls(asked, certificate):
    return replace(
        asked, listen=replace(asked.listen, tls_certificate=str(certificate[0]), tls_key=str(certificate[1]))
    )


def test_the_gateway_speaks_tls_with_the_certificate_that_it_is_given(tmp_path, certificate):
    @promise
    async def story(it):
        asked = with_tls(it.through("p"), certificate)
        await it.run(asked)
        trusted = ssl.create_default_context(cafile=certificate[0])
        async with client(asked.port, ssl=trusted, server_hostname="localhost") as someone:
            for _ in range(2):
                assert (await someone.ask(CHAT))[0] == 200
        async with client(asked.port) as plain:
            await plain.send(CHAT)
            assert b"HTTP/1.1 200" not in await plain.rest()

    story(tmp_path)


def test_tls_comes_to_the_port_that_was_plain(tmp_path, certificate):
    @promise
    async def story(it):
        plain = it.through("p")
        await it.run(plain)
        asked = with_tls(it.through("p", listen=plain.listen), certificate)
        await it.run(asked)
        trusted = ssl.create_default_context(cafile=certificate[0])
        assert await status_at(asked.port, ssl=trusted, server_hostname="localhost") == 200

    story(tmp_path)


@pytest.mark.parametrize("fault", ["missing", "not PEM", "another's key"])
def test_a_certificate_that_cannot_be_used_is_named_and_changes_nothing(tmp_path, certificate, fault):
    bad = tmp_path / "bad.pem"
    if fault != "missing":
        bad.write_text("no certificate")
    pair = (certificate[0], bad) if fault == "another's key" else (bad, certificate[1])

    @promise
    async def story(it):
        plain = it.through("p")
        await it.run(plain)
        for listen in (plain.listen, replace(plain.listen, port=free_port())):
            with pytest.raises(ConfigError, match=str(pair[0])) as error:
                await it.run(with_tls(it.through("q", listen=listen), pair))
            assert "PEM" in error.value.hint
        assert await status_at(plain.port) == 200
        assert it.launches == 1

    story(tmp_path)


@promise
async def test_a_certificate_that_was_renewed_is_taken_at_the_next_restart(it):
    certificate = made_certificate(it.tmp_path)
    asked = with_tls(it.through("p"), certificate)

    async def shown():
        trusted = ssl.create_default_context(cafile=certificate[0])
        async with client(asked.port, ssl=trusted, server_hostname="localhost") as someone:
            return someone.writer.get_extra_info("peercert")["serialNumber"]

    await it.run(asked)
    first = await shown()
    made_certificate(it.tmp_path)
    await it.run(asked)
    second = await shown()
    assert second != first
    whole = certificate[0].read_bytes()
    certificate[0].write_text("half a cert")
    with pytest.raises(ConfigError):
        await it.run(asked)
    certificate[0].write_bytes(whole)
    assert await shown() == second


# --- usage


@promise
async def test_what_clients_used_is_in_the_file_once_the_daemon_has_ended_and_counts_after_a_restart(it):
    asked = it.through("p")
    await it.run(asked)
    assert await status_at(asked.port) == 200
    await it.gateway.finish()
    file = UsageFile(usage_file(Paths.under(it.tmp_path)))
    (used,) = file.read("0000", "9999", ("model",)).items()
    assert (used[0].model, used[1].requests, used[1].failed) == ("p", 1, 0)


@promise
async def test_what_clients_used_is_in_the_file_at_once_for_who_asks(it):
    await it.gateway.write_usage()  # before there is any
    asked = it.through("p")
    await it.run(asked)
    assert await status_at(asked.port) == 200
    await it.gateway.write_usage()
    (used,) = UsageFile(usage_file(Paths.under(it.tmp_path))).read("0000", "9999", ("model",)).values()
    assert used.requests == 1


@promise
async def test_a_key_that_has_used_up_its_tokens_before_a_restart_is_refused_by_the_first_request(it):
    paths, today = Paths.under(it.tmp_path), day_of(time.time())
    key = KeyFile(keys_file(paths)).add("laptop", "inference", {"tokens_per_day": 100})
    UsageFile(usage_file(paths)).add({UsagePlace(today, "laptop", "p"): UsageSums(1, 0, 0, 90, 0, 10)}, today)
    asked = it.through("p")
    await it.run(asked)
    assert await status_at(asked.port, post(b"{}", more=f"X-Api-Key: {key}\r\n".encode())) == 429
