"""What a probe says about a server in each of its moods."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import subprocess
import sys

import pytest

from supervisor.errors import StartFailed
from supervisor.plan.launch import LaunchPlan
from supervisor.plan.listen import address_for_others, bind_addresses, connect_address
from supervisor.server.child import spawn
from supervisor.server.probe import probe, target_of

from ..fakes.launching import BOUND_SECONDS, Heard, fake_argv, free_port
from ..fakes.loops import run_story

pytestmark = pytest.mark.usefixtures("each_loop")
unix = pytest.mark.skipif(sys.platform == "win32", reason="there are no Unix sockets for Python")


def plan_for(port, host="127.0.0.1", **more):
    return LaunchPlan("p", ("llama-server",), {}, host, port, "b1", "cpu", "", "X", "d", **more)


@contextlib.asynccontextmanager
async def fake(port, *options, until=b"listening on", host="127.0.0.1", env=None, **faults):
    heard = Heard()
    argv = fake_argv(port, *options, host=host, **faults)
    child = await spawn(argv, {"PATH": os.environ["PATH"], **(env or {})}, on_output=heard)
    try:
        if until:
            await heard.until(until)
        yield child
    finally:
        child.kill()
        await child.exited


async def ask(plan, path="/health", seconds=BOUND_SECONDS):
    return await probe(target_of(plan), path, timeout_seconds=seconds)


def test_a_ready_server_is_ok():
    async def scenario():
        port = free_port()
        async with fake(port, "--metrics"):
            return await ask(plan_for(port)), await ask(plan_for(port), "/metrics")

    health, metrics = run_story(scenario())
    assert (health.outcome, health.status, health.body) == ("ok", 200, b'{"status": "ok"}')
    assert metrics.outcome == "ok"
    assert b"llamacpp:requests_processing 0" in metrics.body
    assert 0 < health.seconds < BOUND_SECONDS


def test_a_loading_server_is_loading_until_the_gate_opens(tmp_path):
    gate = tmp_path / "gate"

    async def scenario():
        port = free_port()
        async with fake(port, until=b"loading model", load_gate=gate):
            before = await ask(plan_for(port))
            gate.touch()
            async with asyncio.timeout(BOUND_SECONDS):
                while (after := await ask(plan_for(port))).outcome == "loading":
                    pass
            return before, after

    before, after = run_story(scenario())
    assert (before.outcome, before.status) == ("loading", 503)
    assert after.outcome == "ok"


def test_nobody_there_is_refused():
    assert run_story(ask(plan_for(free_port()))).outcome == "refused"


@unix
def test_nobody_at_a_socket_is_refused(tmp_path):
    port = free_port()
    assert run_story(ask(plan_for(port, host=str(tmp_path / "no.sock")))).outcome == "refused"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EACCES])
def test_what_we_could_not_ask_says_nothing_about_the_server(number, monkeypatch):
    async def cannot(_target):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("supervisor.server.probe._connect", cannot)
    result = run_story(ask(plan_for(1)))
    assert (result.outcome, result.why) == ("unknown", os.strerror(number))


def test_a_key_that_no_request_can_carry_is_named():
    with pytest.raises(StartFailed, match="The key of p"):
        target_of(plan_for(1, secrets={"LLAMA_API_KEY": "a\r\nX: y"}))


def test_silence_is_a_timeout_that_keeps_its_bound():
    async def scenario():
        port = free_port()
        async with fake(port, answer="never"):
            return await ask(plan_for(port), seconds=0.1)

    result = run_story(scenario())
    assert result.outcome == "timeout"
    assert 0.09 < result.seconds < 5  # uvloop counts in milliseconds


def test_health_can_answer_while_the_inference_queue_hangs():
    async def scenario():
        port = free_port()
        async with fake(port, "--metrics", metrics="hang"):
            return await ask(plan_for(port)), await ask(plan_for(port), "/metrics", seconds=0.1)

    health, metrics = run_story(scenario())
    assert (health.outcome, metrics.outcome) == ("ok", "timeout")


def test_an_endpoint_that_is_switched_off_is_an_error_with_its_status():
    async def scenario():
        port = free_port()
        async with fake(port):
            return await ask(plan_for(port), "/metrics")

    assert run_story(scenario()).status == 501


def test_key_and_prefix_are_used():
    key = {"LLAMA_API_KEY": "first,second"}

    async def scenario():
        port = free_port()
        async with fake(port, "--metrics", "--api-prefix", "/llm", env=key):
            with_key = await ask(plan_for(port, api_prefix="/llm", secrets=key), "/metrics")
            without = await ask(plan_for(port, api_prefix="/llm"), "/metrics")
        return with_key, without

    with_key, without = run_story(scenario())
    assert (with_key.outcome, without.status) == ("ok", 401)


@unix
def test_a_unix_socket_is_asked_as_well(tmp_path):
    async def scenario():
        host = str(tmp_path / "s.sock")
        async with fake(0, host=host):
            return await ask(plan_for(0, host=host))

    assert run_story(scenario()).outcome == "ok"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_our_own_server_is_believed_without_a_certificate_authority(tmp_path):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run(
        [*command, "-keyout", key, "-out", cert, "-subj", "/CN=x"], check=True, capture_output=True
    )

    async def scenario():
        port = free_port()
        options = ("--ssl-key-file", str(key), "--ssl-cert-file", str(cert))
        async with fake(port, *options):
            return await ask(plan_for(port, tls=True))

    assert run_story(scenario()).outcome == "ok"


def test_a_proxy_is_never_used(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def scenario():
        port = free_port()
        async with fake(port):
            return await ask(plan_for(port))

    assert run_story(scenario()).outcome == "ok"


@pytest.mark.parametrize(
    ("answer", "outcome", "body_length"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "error", 0),
        (b"HTTP/1.1 banana\r\n\r\n", "error", 0),
        (b"HTTP/1.1\r\n\r\n", "error", 0),
        (b"", "error", 0),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, "error", 0),
        (b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n", "error", 0),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"z" * 1_000_000, "ok", 64 * 1024),
        (b"HTTP/1.1 503 -\r\n\r\nout of order", "error", 12),
    ],
)
def test_strangers_on_the_port_are_survived(answer, outcome, body_length):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async def scenario():
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            return await ask(plan_for(server.sockets[0].getsockname()[1]))

    result = run_story(scenario())
    assert (result.outcome, len(result.body)) == (outcome, body_length)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("::", "::1"),
        ("", "127.0.0.1"),
        ("127.0.0.2", "127.0.0.2"),
        ("[::1]", "::1"),
        ("127.0.0.1,192.0.2.1", "127.0.0.1"),
    ],
)
def test_where_to_connect(host, address):
    assert connect_address(host) == address


def test_a_host_that_does_not_exist_is_named():
    with pytest.raises(StartFailed, match=r"nowhere\.invalid"):
        connect_address("nowhere.invalid")


def test_a_host_that_cannot_be_a_name_is_an_error_as_any_other():
    with pytest.raises(StartFailed, match=r"a\.\.b"):
        connect_address("a..b")
    with pytest.raises(OSError, match="no name"):
        bind_addresses(f"{'a' * 64}.lan")


def test_the_address_for_others_is_one_that_they_can_use_or_unknown(monkeypatch):
    address = address_for_others()
    assert address is None or (address.count(".") == 3 and not address.startswith("127."))

    def refused(*_):
        raise OSError("Address family not supported by protocol")

    monkeypatch.setattr("supervisor.plan.listen.socket.socket", refused)
    assert address_for_others() is None
