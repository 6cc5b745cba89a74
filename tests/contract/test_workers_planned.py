"""Workers before a launch: asked by TCP and by the engine, remembered, used only where needed, and told of."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from supervisor.cli.detect import detect as detect_command
from supervisor.cli.plan import plan as plan_command
from supervisor.engine import worker_probe
from supervisor.engine.adapters.rpc_server import HELLO, OLD_HELLO
from supervisor.engine.build import Build
from supervisor.engine.inspection import inspect
from supervisor.engine.worker_probe import WorkerDevice, WorkerFound, greet, probe, protocol_of
from supervisor.errors import NetworkError, NoSuitableEngine
from supervisor.memory.engine_figures import measured
from supervisor.model.demo import ensure_demo
from supervisor.options.meanings import pinned
from supervisor.paths import Paths
from supervisor.prepare import prepare as prepare_module
from supervisor.prepare.prepare import prepare, preview
from supervisor.prepare.workers import KnownWorker, known_workers
from supervisor.profile.worker_address import WorkerAddress
from supervisor.progress import Silent

from ..fakes import binaries
from ..fakes.launching import BOUND_SECONDS, free_port, wait_until

SERVER = os.environ.get("GOSS_TEST_LLAMA_SERVER", "")
RPC_SERVER = Path(SERVER).parent / "ggml-rpc-server"
LOOPBACK = "127.0.0.1"
GIB = 1024**3

scripts = pytest.mark.skipif(sys.platform == "win32", reason="the fakes are shell scripts")
real = pytest.mark.skipif(not RPC_SERVER.is_file(), reason=f"there is no {RPC_SERVER}: run bin/test")


@contextlib.contextmanager
def a_worker(*, greeting=HELLO, version=(7, 0, 0)):
    """A port that answers one greeting as a worker does, and closes on any other."""
    listener = socket.create_server((LOOPBACK, 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    if connection.recv(64) == greeting:
                        connection.sendall((28).to_bytes(8, "little") + bytes(version) + bytes(25))
                        connection.recv(64)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield WorkerAddress(LOOPBACK, listener.getsockname()[1])
    finally:
        with contextlib.suppress(OSError):  # on Windows closing it is what wakes the other thread
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(BOUND_SECONDS)


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """A slow machine is no worker that is away."""
    monkeypatch.setattr(worker_probe, "CONNECT_SECONDS", BOUND_SECONDS)
    monkeypatch.setattr(worker_probe, "GREETING_SECONDS", BOUND_SECONDS)


@pytest.fixture
def silent(monkeypatch):
    """A port whose connections nobody accepts: as of a worker that serves another, or hangs."""
    monkeypatch.setattr(worker_probe, "GREETING_SECONDS", 0.05)
    with socket.create_server((LOOPBACK, 0)) as listener:
        yield WorkerAddress(LOOPBACK, listener.getsockname()[1])


def nobody():
    return WorkerAddress(LOOPBACK, free_port())


def a_server(folder, listed="", *, fails=""):
    """An engine that lists these memories (GiB of each) for a worker, or writes ``fails`` and aborts."""
    lines = [
        f'echo "  RPC{number}: $2 ({size * 1024} MiB, {size * 1024 - 512} MiB free)"'
        for number, size in enumerate(listed)
    ]
    listing = "\n".join(lines or ["echo '  (none)'"])
    abort = f'echo "{fails}" >&2; exit 134' if fails else "exit 0"
    answer = f'echo "Available devices:"\n{listing}\n{abort}'
    first = f'if [ "$1" = --rpc ] && [ "$3" = --list-devices ]; then\n{answer}\nfi'
    return binaries.server(folder / "llama-server", 6100, first=first)


def build_at(server, tag="b6100"):
    return Build("path", "unknown", tag, "cpu", (str(server),), "abc", pinned())


# --- the probe


@pytest.mark.parametrize("greeting", [HELLO, OLD_HELLO])
@scripts
def test_a_worker_is_found_with_its_memories_and_its_protocol(tmp_path, greeting):
    with a_worker(greeting=greeting, version=(5, 1, 2)) as address:
        found = probe(address, build_at(a_server(tmp_path, (16, 8))))
    assert isinstance(found, WorkerFound)
    assert found.devices == (
        WorkerDevice(16 * GIB, 16 * GIB - 512 * 2**20),
        WorkerDevice(8 * GIB, 8 * GIB - 512 * 2**20),
    )
    assert found.protocol == "5.1.2"


def test_one_that_is_away_is_told_with_what_to_do(tmp_path):
    found = probe(nobody(), build_at(tmp_path / "never-run"))
    assert (found.kind, found.why) == (
        "away",
        "is not running: the machine answers, and nothing listens on that port",
    )
    assert "goss-supervisor worker" in found.hint


def test_a_name_that_does_not_resolve_is_no_broken_engine(tmp_path):
    found = probe(WorkerAddress("worker.invalid"), build_at(tmp_path / "never-run"))
    assert (found.kind, "IPv4" in found.hint) == ("away", True)


def test_one_that_takes_connections_and_says_nothing_is_in_use_and_the_engine_is_not_sent_to_wait(
    tmp_path, silent
):
    found = probe(silent, build_at(tmp_path / "never-run"))
    assert found.kind == "busy"
    assert "one llama-server at a time" in found.hint


def test_an_answer_that_drips_is_given_up_in_time(monkeypatch):
    now, wait = [0.0], [worker_probe.GREETING_SECONDS]
    answer = iter((28).to_bytes(8, "little") + bytes(28))

    def one_byte(_):
        if wait[0] < 1:
            raise TimeoutError
        now[0] += 1
        return bytes([next(answer)])

    drips = SimpleNamespace(sendall=len, recv=one_byte, settimeout=partial(wait.__setitem__, 0))
    monkeypatch.setattr(worker_probe, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(worker_probe, "GREETING_SECONDS", 5.0)
    with pytest.raises(TimeoutError):
        worker_probe._answer(drips, HELLO)
    assert now[0] == 5


def test_another_program_on_that_port_is_no_worker():
    with socket.create_server((LOOPBACK, 0)) as listener:

        def speak():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2 and then some\r\n")
                connection.recv(64)

        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        found = greet(WorkerAddress(LOOPBACK, listener.getsockname()[1]))
        thread.join(BOUND_SECONDS)
    assert (found.kind, found.why) == ("failed", "answers, and is no RPC server")


@pytest.mark.parametrize(
    ("says", "code"),
    [
        ("RPC server version mismatch: 5.0.0", 134),
        ("ggml-rpc.cpp:550: RPC handshake failed for 127.0.0.1:1", 134),  # the abort lost the line before it
        ("RPC server version mismatch: 5.0.0", 0),  # an older build goes on, and lists no device
    ],
)
@scripts
def test_another_protocol_is_told_with_both_versions(tmp_path, says, code):
    server = a_server(tmp_path, fails=says)
    server.write_text(server.read_text().replace("exit 134", f"exit {code}"))
    binaries.script(tmp_path / "ggml-rpc-server", 'echo "Starting RPC server v7.0.0"')
    with a_worker(version=(5, 0, 0)) as address:
        found = probe(address, build_at(server))
    assert (found.kind, found.why) == ("protocol", "speaks RPC 5.0.0, and this build (b6100) RPC 7.0.0")


@scripts
def test_a_build_without_rpc_says_so(tmp_path):
    server = a_server(
        tmp_path, fails='error while handling argument \\"--rpc\\": RPC not supported in this build'
    )
    with a_worker() as address:
        assert probe(address, build_at(server)).kind == "no-rpc"
        without = replace(pinned(), options=[each for each in pinned().options if "--rpc" not in each.names])
        assert probe(address, replace(build_at(server), capabilities=without)).kind == "no-rpc"


@scripts
def test_whatever_else_the_engine_says_is_passed_on(tmp_path):
    with a_worker() as address:
        found = probe(address, build_at(a_server(tmp_path, fails="something new")))
    assert (found.kind, found.why) == ("failed", "lists no device that b6100 can use: something new")


# --- a profile with workers


@pytest.fixture
def paths(tmp_path, monkeypatch):
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path / "home"))
    found = Paths.from_environment()
    found.profiles.mkdir(parents=True)
    ensure_demo(found.models)
    return found


@pytest.fixture
def profile(paths, tmp_path):
    """Writes a profile of the demo model for an engine of ours."""

    def write(text, server, settings=""):
        engine = f"engine: {{source: path, path: {server}}}\n"
        (paths.profiles / "p.yaml").write_text(f"model: demo\n{engine}{text}\n", encoding="utf-8")
        (paths.profiles.parent / "config.yaml").write_text(settings, encoding="utf-8")
        return paths

    return write


@scripts
def test_the_plan_has_its_workers_and_says_what_the_network_costs(profile, tmp_path):
    with a_worker() as address:
        paths = profile(f"workers: [{address}]", a_server(tmp_path, (16,)))
        found = preview("p", {}, paths)
    plan = found.plan
    assert plan.workers == (str(address),)
    assert plan.argv[plan.argv.index("--rpc") + 1] == str(address)
    assert set(plan.needs) == {str(address), "RAM"}
    assert plan.devices == (f"RPC0: {address} (16384 MiB, 15872 MiB free)",)
    said = next(note for note in found.notes if "network" in note)
    assert said.startswith(f"each token crosses the network to {address} (connecting took ")
    assert said.endswith("workers add memory, not speed")
    assert plan.without_workers is None


@scripts
def test_one_error_names_each_worker_that_cannot_be_used_and_what_to_do(profile, tmp_path, silent):
    away = nobody()
    paths = profile(f"workers: [{away}, {silent}]", a_server(tmp_path, (16,)))
    with pytest.raises(NetworkError) as raised:
        prepare("p", {}, paths, Silent())
    assert (
        f"The worker {away} is not running: the machine answers, and nothing listens on that port; the worker {silent} "
        in str(raised.value)
    )
    with pytest.raises(NetworkError, match="is not running"):
        preview("p", {}, paths)
    assert "goss-supervisor worker" in raised.value.hint
    assert "--set 'workers=[]'" in raised.value.hint
    assert prepare("p", {"workers": "[]"}, paths, Silent()).plan.workers == ()


@scripts
def test_another_protocol_stops_a_start_even_of_a_worker_that_is_known(profile, tmp_path):
    with a_worker() as address:
        paths = profile(f"workers: [{address}]", a_server(tmp_path, (16,)))
        prepare("p", {}, paths, Silent())
        a_server(tmp_path, fails="RPC server version mismatch: 5.0.0")
        with pytest.raises(NoSuitableEngine, match=r"speaks RPC 5\.0\.0"):
            prepare("p", {}, paths, Silent())


@scripts
def test_a_worker_that_is_away_is_planned_with_what_it_had_and_a_warning(profile, tmp_path):
    with a_worker() as address:
        paths = profile(f"workers: [{address}]", a_server(tmp_path, (16,)))
        there = prepare("p", {}, paths, Silent())
    assert known_workers(paths)[str(address)].devices == (WorkerDevice(16 * GIB, 16 * GIB - 512 * 2**20),)
    away = prepare("p", {}, paths, Silent())
    assert away.plan.digest == there.plan.digest
    assert (
        f"the worker {address} is not running: the machine answers, and nothing listens on that port. The plan uses"
        in " ".join(away.warnings)
    )


@scripts
def test_a_worker_that_our_own_server_uses_is_not_asked(profile, tmp_path, silent, monkeypatch):
    """It serves one at a time: who asks would wait for ever, and its end could end the worker."""
    paths = profile(f"workers: [{silent}]", a_server(tmp_path, (16,)))
    monkeypatch.setattr(prepare_module, "held_by_servers", lambda *_, **__: ({str(silent): GIB}, {}))
    known = KnownWorker((WorkerDevice(16 * GIB, 15 * GIB),), "7.0.0", "2026-11-30")
    monkeypatch.setattr("supervisor.prepare.workers.known_workers", lambda _: {str(silent): known})
    monkeypatch.setattr("supervisor.prepare.workers.probe", lambda *_, **__: pytest.fail("it was asked"))
    found = prepare("p", {}, paths, Silent())
    assert (found.plan.workers, found.warnings) == ((str(silent),), ())


@scripts
def test_without_worker_smaller_also_plans_the_launch_on_this_computer_alone(profile, tmp_path):
    with a_worker() as address:
        text = f"workers: [{address}]\nwithout-worker: smaller\nserver: {{gpu-layers: 99}}"
        plan = preview("p", {}, profile(text, a_server(tmp_path, (16,)))).plan
    smaller = plan.without_workers
    assert smaller.adjustment.startswith("only the memory of this computer")
    assert (smaller.workers, smaller.adjusted, smaller.adjusts) == ((), None, "")
    assert not {"--rpc", "--fit-ctx", "--gpu-layers"} & set(smaller.argv)
    assert set(smaller.needs) == {"RAM"}
    assert smaller.digest != plan.digest


@scripts
def test_workers_of_config_yaml_are_not_even_asked_for_a_model_that_fits_here(profile, tmp_path):
    paths = profile("", a_server(tmp_path, (16,)), f"workers: [{nobody()}]")
    assert prepare("p", {}, paths, Silent()).plan.workers == ()


@scripts
def test_nor_for_the_account_of_another_machine(profile, tmp_path):
    box = tmp_path / "box.json"
    box.write_text(
        json.dumps({"os": "linux", "arch": "x86_64", "ram_bytes": 64 * GIB, "available_bytes": 60 * GIB})
    )
    paths = profile(f"workers: [{nobody()}]", a_server(tmp_path, (16,)))
    found = preview("p", {}, paths, box)
    assert found.plan.workers == ()
    assert "its workers are not counted: they are asked from this computer only" in found.notes


@scripts
def test_plan_shows_the_memory_of_a_worker_with_its_address(profile, tmp_path):
    with a_worker() as address:
        profile(f"workers: [{address}]", a_server(tmp_path, (16,)))
        shown = CliRunner().invoke(plan_command, ["p", "-v"], catch_exceptions=False).output
        document = json.loads(CliRunner().invoke(plan_command, ["p", "--json"]).output)
    assert f"on RPC0 ({address})" in shown.splitlines()[0]
    assert [(each["name"], each["worker"]) for each in document["ledger"]["devices"]] == [
        ("RPC0", str(address)),
        ("RAM", None),
    ]


@scripts
def test_detect_lists_the_workers_of_config_yaml(profile, tmp_path):
    server, away = a_server(tmp_path, (16,)), nobody()
    with a_worker() as address:
        settings = f"workers: [{address}, {away}]\nengine: {{source: path, path: {server}}}\n"
        profile("", server, settings)
        shown = CliRunner().invoke(detect_command, [], catch_exceptions=False).output
        listed = json.loads(CliRunner().invoke(detect_command, ["--json"]).output)["workers"]
    assert [(each["address"], each["problem"], each["protocol"]) for each in listed] == [
        (str(address), None, "7.0.0"),
        (str(away), "is not running: the machine answers, and nothing listens on that port", None),
    ]
    assert listed[0]["devices"] == [{"total_bytes": 16 * GIB, "free_bytes": 16 * GIB - 512 * 2**20}]
    lines = [line for line in shown.splitlines() if LOOPBACK in line]
    assert "16.0 GiB (15.5 GiB)" in lines[0]
    assert "nothing listens" in lines[1]


# --- the real programs


@contextlib.contextmanager
def real_workers(count):
    """Their addresses, once each listens; they end with the block."""
    ports = [free_port() for _ in range(count)]
    children = [
        subprocess.Popen([str(RPC_SERVER), "-H", LOOPBACK, "-p", str(port)], stdout=subprocess.DEVNULL)
        for port in ports
    ]
    try:
        addresses = [WorkerAddress(LOOPBACK, port) for port in ports]
        wait_until(lambda: all(getattr(greet(each), "kind", "") != "away" for each in addresses))
        yield addresses
    finally:
        for child in children:
            child.kill()
            child.wait()


@real
def test_the_real_programs_tell_protocol_and_memory(tmp_path):
    found = inspect((SERVER,), tmp_path)
    build = Build("path", "unknown", "b1", "cpu", (SERVER,), found.digest, found.capabilities)
    with real_workers(1) as [address]:
        worker = probe(address, build)
    assert isinstance(worker, WorkerFound)
    assert worker.protocol == protocol_of(build)
    assert worker.devices[0].total_bytes >= GIB


@real
def test_the_account_of_two_workers_is_what_the_engine_takes(paths, tmp_path):
    """The log of a real load, by the address of each worker; the engine's own tool has been asked before."""
    engine = f"engine: {{source: path, path: {SERVER}}}"
    options = "server: {gpu-layers: 99, ctx-size: 2048, tensor-split: '1,1', log-verbosity: 4, fit: 'off'}"
    with real_workers(2) as workers:
        text = f"model: demo\n{engine}\nworkers: [{workers[0]}, {workers[1]}]\n{options}\ngateway: off\n"
        text += f"listen: {{port: {free_port()}}}\n"
        (paths.profiles / "p.yaml").write_text(text, encoding="utf-8")
        found = prepare("p", {}, paths, Silent())
        log = log_of_a_load(found.plan.argv, {**os.environ, "GGML_NO_BACKTRACE": "1"})
    real_figures = measured(log)
    accounts = {each.pool.worker: each for each in found.fitted.ledger.accounts}
    for address in map(str, workers):
        taken = real_figures.buffers[f"RPC0[{address}]"]
        ours = accounts[address]
        assert {ours.weights.source, ours.context.source} <= {"engine", "formula"}
        assert ours.weights.bytes == pytest.approx(taken.weights_bytes, abs=2**20)
        assert ours.context.bytes == pytest.approx(taken.context_bytes, abs=2**20)
        assert ours.compute.bytes >= taken.compute_bytes - 2**20


def log_of_a_load(argv, environ):
    child = subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    try:
        for line in child.stdout:
            lines.append(line)
            if "compute buffer size" in line and " CPU " in line:
                break
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    return [*lines, ""]
