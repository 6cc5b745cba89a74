"""
An update of a machine whose model is partly on a worker: both move, or none does.

Builds as in `test_update`.  The worker and its supervisor are scripted; its end, as it restarts, is real for the
daemon, which watches the connection.
"""

from __future__ import annotations

import sys

import pytest

from ..fakes.binaries import fake_server
from ..fakes.worker_supervisor import KEY, WorkerSupervisor
from .conftest import free_port
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
THERE, BACK = ["engine-use b12002", "restart"], ["engine-use b12001", "restart"]


def release(home, number, twist="", rpc="7.0.0"):
    real = home.root / "engine" / "llama-server"
    offer(home, f"b{number}", f"{LISTS_IT}{twist}", becomes=real, rpc=rpc)


@pytest.fixture
def worker():
    with WorkerSupervisor() as made:
        yield made


@pytest.fixture
def home(tmp_path, worker):
    """There, b12001 serves a model that the worker has a part of."""
    home = OfferedHome(tmp_path, (), free_port())
    home.environ["MINI_KEY"] = KEY
    fake_server(tmp_path / "engine" / "llama-server", speeds=SPEEDS)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("engine: {channel: nightly}\n")
    home.profile("pooled", PROFILE.format(worker, SUPERVISED.format(worker)))
    try:
        release(home, 12001)
        home.start("pooled")
        yield home
    finally:
        home.close()


def build(home):
    now = home.watch_for(lambda now: now["server"]["state"] in {"ready", "failed"})
    return f"{now['server']['build']} {now['server']['state']}"


def test_both_move_and_both_roll_back(home, worker):
    release(home, 12002)
    assert "pooled runs on b12002 (cpu) now" in home.run("engine", "update").stdout
    assert (worker.did, worker.build, build(home)) == (THERE, "b12002", "b12002 ready")
    worker.did.clear()
    assert "back to b12001" in home.run("engine", "rollback").stdout
    assert (worker.did, worker.build, build(home)) == (BACK, "b12001", "b12001 ready")


def test_a_build_that_is_worse_here_takes_the_worker_back(home, worker):
    release(home, 12002, CRASHES)
    failed = home.run("engine", "update", code=10).stderr
    assert "ended before it was ready (exit code 3)" in failed
    assert f"The workers run what they ran before: {worker.address}" in failed
    assert (worker.did, worker.build, build(home)) == ([*THERE, *BACK], "b12001", "b12001 ready")


def test_a_worker_of_another_protocol_changes_nothing_here(home, worker):
    release(home, 12002, rpc="8.0.0")
    failed = home.run("engine", "update", code=10).stderr
    assert f"The worker {worker.address} speaks RPC 7.0.0 with b12002, and this computer RPC 8.0.0" in failed
    assert (worker.build, build(home)) == ("b12001", "b12001 ready")


def test_one_that_was_killed_in_the_middle_goes_back_first(home, worker):
    release(home, 12002)
    worker.waits.clear()
    with launched(home, "engine", "update") as update:
        worker.asked.wait()
        update.killed()
    worker.waits.set()
    told = home.run("engine", "update")
    assert f"an update was broken off: first {worker.address} back" in told.stderr
    assert (worker.build, build(home)) == ("b12002", "b12002 ready")


def test_a_worker_without_a_supervisor_is_told_of_and_refused_where_it_would_not_fit(home, worker):
    home.profile("pooled", PROFILE.format(worker, ""))
    release(home, 12002, rpc="8.0.0")
    assert f"the entry of {worker.address} has no supervisor:" in home.run("engine", "update", "--check").stdout
    refused = home.run("engine", "update", code=1).stderr
    assert "b12002 is not taken" in refused
    assert f"the worker {worker.address}, whose entry has no supervisor:" in refused
    assert (worker.did, build(home)) == ([], "b12001 ready")
    release(home, 12003)
    taken = home.run("engine", "update")
    assert "stays on its build" in taken.stderr
    assert (worker.did, build(home)) == ([], "b12003 ready")
