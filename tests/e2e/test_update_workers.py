"""
An update of a machine whose model is partly on a worker: both move, or none does.

Builds as in `test_update`.  The worker and its supervisor are scripted; its end, as it restarts, is real for the
daemon, which watches the connection.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from supervisor.errors import SupervisorError
from supervisor.profile.worker_address import Worker, parse_worker
from supervisor.update.worker_machine import WorkerMachine

from ..fakes.binaries import fake_server
from ..fakes.worker_supervisor import KEY, WorkerSupervisor
from .conftest import BUILT, PATIENCE, free_port
from .offered import OfferedHome, launched, offer

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the builds are shell scripts in Linux archives"
)

PROFILE = """extends: demo
restart: {{max: 2, backoff: 100ms}}
workers: [{{address: "{0.address}"{1}}}]
server: {{device: RPC0, gpu-layers: 99}}
"""
SUPERVISED = ', supervisor: "{0.url}", api-key-env: MINI_KEY'
SPEEDS = {"prompt": 400.0, "answer": 40.0}
LISTS_IT = """case "$*" in *--rpc*--list-devices*)
    printf 'Available devices:\\n  RPC0: worker (8000 MiB, 8000 MiB free)\\n'; exit 0;; esac\n"""
CRASHES = """case "$*" in *--metrics*) echo 'ggml_abort: no kernel' >&2; exit 3;; esac\n"""
SPEAKS_7 = 'echo "Starting RPC server v7.0.0"\n'
SPEAKS_8 = SPEAKS_7.replace("7", "8")
DIES_BESIDE_8 = """case "$*" in *--metrics*) [ -e "{}" ] && {{
    echo 'RPC handshake failed for 127.0.0.1' >&2; exit 134; }};; esac\n"""
RPC_SERVER = Path(os.environ.get(BUILT, "")).parent / "ggml-rpc-server"
THERE, BACK = ["engine-use b12002", "restart"], ["engine-use b12001", "restart"]


def release(home, number, twist="", rpc=SPEAKS_7):
    real = home.root / "engine" / "llama-server"
    offer(home, f"b{number}", f"{LISTS_IT}{twist}", becomes=real, rpc=rpc)


@pytest.fixture
def worker():
    with WorkerSupervisor() as made:
        yield made


@pytest.fixture
def offering(tmp_path):
    """b12001 is released, and nothing runs."""
    home = OfferedHome(tmp_path, (), free_port())
    fake_server(tmp_path / "engine" / "llama-server", speeds=SPEEDS)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("engine: {channel: nightly}\n")
    release(home, 12001, DIES_BESIDE_8.format(tmp_path / "speaks-8"))
    yield home
    home.close()


@pytest.fixture
def home(offering, worker):
    """There, b12001 serves a model that the worker has a part of."""
    offering.environ["MINI_KEY"] = KEY
    offering.profile("pooled", PROFILE.format(worker, SUPERVISED.format(worker)))
    offering.start("pooled")
    return offering


def build(home):
    now = home.watch_for(lambda now: now["server"]["state"] in {"ready", "failed"})
    return f"{now['server']['build']} {now['server']['state']}"


def test_both_move_and_roll_back_and_without_its_supervisor_the_worker_holds_the_update_up(home, worker):
    release(home, 12002)
    assert "pooled runs on b12002 (cpu) now" in home.run("engine", "update").stdout
    assert (worker.did, worker.build, build(home)) == (THERE, "b12002", "b12002 ready")
    worker.did.clear()
    assert "back to b12001" in home.run("engine", "rollback").stdout
    assert (worker.did, worker.build, build(home)) == (BACK, "b12001", "b12001 ready")

    worker.did.clear()
    home.profile("pooled", PROFILE.format(worker, ""))
    release(home, 12003, rpc=SPEAKS_8)
    assert (
        f"the entry of {worker.address} has no supervisor:" in home.run("engine", "update", "--check").stdout
    )
    refused = home.run("engine", "update", code=1).stderr
    assert f"b12003 is not taken: nothing can move the worker {worker.address}" in refused
    assert (worker.did, build(home)) == ([], "b12001 ready")


def test_one_that_was_killed_goes_back_first_and_a_build_that_is_worse_here_takes_the_worker_back(
    home, worker
):
    worker.protocols["b12002"] = "8.0.0"  # neither build runs here with the worker of the other
    worker.mark = home.root / "speaks-8"
    release(home, 12002, CRASHES, SPEAKS_8)
    worker.stalls_at = "restart"
    with launched(home, "engine", "update") as update:
        assert worker.stalled.wait(PATIENCE)
        update.killed()
    assert worker.build == "b12002"
    worker.stalls_at = ""
    worker.did.clear()
    failed = home.run("engine", "update", code=10).stderr
    assert f"an update was broken off: first {worker.address} back" in failed
    assert "ended before it was ready (exit code 3)" in failed
    assert "Then: The worker 127.0.0.1 speaks another version" in failed
    assert f"The workers run what they ran before: {worker.address}" in failed
    assert worker.did == [*BACK, *THERE, *BACK]
    assert (worker.build, build(home)) == ("b12001", "b12001 ready")


@pytest.mark.skipif(not RPC_SERVER.is_file(), reason=f"there is no {RPC_SERVER}: run bin/test")
def test_the_real_supervisor_of_a_worker_takes_a_build_and_the_one_before(offering, monkeypatch):
    lends = f"127.0.0.1:{free_port()}"
    real = f'LD_LIBRARY_PATH="{RPC_SERVER.parent}" exec "{RPC_SERVER}" "$@"\n'
    release(offering, 12001, rpc=real)
    offering.run("worker", "--detach", "--listen", lends, *offering.settings)
    release(offering, 12002, rpc=real)
    monkeypatch.setenv("KEY", offering.run("key", "add", "box", "--scope", "admin").stdout.split()[-1])
    machine = WorkerMachine(Worker(parse_worker(lends), f"http://127.0.0.1:{offering.port}", "KEY"))
    assert machine.build() == "b12001"
    machine.take("b12002")
    assert machine.build() == "b12001", "it is only chosen"
    machine.restart()
    machine.prove("b12002", "")
    with pytest.raises(SupervisorError, match=r"this computer RPC 1\.0\.0"):
        machine.prove("b12002", "1.0.0")
    machine.take("b12001")
    machine.restart()
    machine.prove("b12001", "")
    with pytest.raises(SupervisorError, match=r"engine use b9: .* has no release b9"):
        machine.take("b9")
