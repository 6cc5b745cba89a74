"""Workers of a server: how they are asked and watched, and what a server does when one goes, hangs and returns."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import pytest

from supervisor.plan.launch import LaunchPlan
from supervisor.server.diagnosis import WORKER_LOST, Diagnosis
from supervisor.server.lifecycle_table import State
from supervisor.server.worker_watch import WorkerWatch, blamed, look, missing

from ..fakes.launching import free_port
from ..fakes.loops import promise
from ..fakes.rpc_server import FakeWorker
from ..fakes.wine import ON_WINE
from .test_server import hurried, plan
from .test_server import promise as of_server

pytestmark = pytest.mark.usefixtures("each_loop")
QUICK = {
    "launching.PATIENCE_SECONDS": 0.0,
    "launching.WORKER_PAUSE_SECONDS": 0.02,
    "worker_watch.ANSWER_SECONDS": 0.2,
    "worker_watch.RETURN_SECONDS": 0.02,
    "worker_watch.AGAIN_SECONDS": 0.02,
}


@pytest.fixture(autouse=True)
def impatient():
    """What takes seconds in life."""
    patches = [patch(f"supervisor.server.{name}", seconds) for name, seconds in QUICK.items()]
    for each in patches:
        each.start()
    yield
    for each in patches:
        each.stop()


@promise
async def test_a_worker_that_answers_tells_its_protocol():
    worker = await FakeWorker((5, 1, 2)).start()
    assert (await look(worker.address)).protocol == "5.1.2"
    worker.end()


@promise
async def test_where_nobody_listens_there_is_no_worker_and_it_is_named():
    address = f"127.0.0.1:{free_port()}"
    found = await missing([address])
    assert (found.kind, found.retryable) == (WORKER_LOST, True)
    assert found.message == f"The worker {address} is gone: nobody listens there."


@promise
async def test_the_version_of_a_worker_that_was_not_understood_is_asked_of_it():
    """The engine's own line about it may be lost as it aborts."""
    worker = await FakeWorker((5, 0, 0)).start()
    message = f"The worker {worker.address} speaks another version of llama.cpp's RPC than this engine."
    found = await blamed([worker.address], Diagnosis("worker-protocol", message, "update"))
    assert found.message == message.replace("engine.", "engine: 5.0.0.")
    worker.end()


@promise
async def test_a_name_that_does_not_resolve_is_said():
    assert "does not resolve" in (await look("no-such-host.invalid:50052")).trouble


@promise
async def test_who_gives_up_on_a_worker_leaves_by_a_reset():
    """After an ordinary close, a real one would answer later, and die of SIGPIPE."""
    worker = await FakeWorker().start()
    worker.answers.clear()
    assert "does not answer" in (await look(worker.address)).trouble
    await worker.left_by_reset.wait()
    worker.end()


@pytest.mark.parametrize("body", [b"", b"x" * 100])
@promise
async def test_what_speaks_something_else_is_no_worker(body):
    async def hang_up(reader, writer):
        await reader.readexactly(9)
        writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n" + body)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    assert "no RPC server" in (await look(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")).trouble
    server.close()


@contextmanager
def watching(worker: FakeWorker, asked: LaunchPlan):
    """What the watch says of a server that this worker serves: the failures, as they come."""
    failures: asyncio.Queue = asyncio.Queue()
    watch = WorkerWatch(failures.put_nowait, lambda: None)
    watch.begin(replace(asked, workers=(worker.address,)))
    yield failures
    watch.stop()


@promise
async def test_the_end_of_a_worker_in_use_is_seen_at_once(tmp_path):
    worker = await FakeWorker().start()
    worker.answers.clear()
    with watching(worker, plan(tmp_path)) as failures:
        await worker.greeted.wait()
        assert failures.empty(), "it only does not answer, since it serves its server"
        worker.end()
        assert (await failures.get()).message == (
            f"The worker {worker.address} is gone: it ended or restarted."
        )


@promise
async def test_a_worker_that_answers_the_watch_is_left_alone_and_asked_again(tmp_path):
    """It serves several at once, or its server has closed its connections for a while."""
    worker = await FakeWorker().start()
    with watching(worker, plan(tmp_path)) as failures:
        for _ in range(3):
            await worker.left_by_reset.wait()
            worker.left_by_reset.clear()
        assert failures.empty()
        worker.end()
        assert (await failures.get()).kind == WORKER_LOST


def with_worker(tmp_path, worker: FakeWorker, **more) -> LaunchPlan:
    asked = plan(tmp_path, **more)
    return replace(asked, workers=(worker.address,), argv=(*asked.argv, "--rpc", worker.address))


def waits_for(test, worker):
    return test.server.state is State.PREPARING and worker.address in test.server.why


@of_server
async def test_a_launch_waits_for_its_worker_and_says_for_which(test, tmp_path):
    worker = await FakeWorker().start()
    worker.end()
    started = test.server.start(with_worker(tmp_path, worker))
    await test.until(lambda: waits_for(test, worker))
    await worker.start()
    assert (await started).result == "ready"
    assert (test.starts, test.server.restarts) == (1, 0)
    worker.end()


@of_server
async def test_a_stop_does_not_wait_for_a_worker(test, tmp_path):
    worker = await FakeWorker().start()
    worker.end()
    started = test.server.start(with_worker(tmp_path, worker))
    await test.until(lambda: waits_for(test, worker))
    assert (await test.server.stop()).result == "stopped"
    assert (await started).result == "superseded"


@of_server
async def test_a_worker_that_ends_while_nobody_asks_has_its_server_started_anew(test, tmp_path):
    worker = await FakeWorker().start()
    assert (await test.server.start(with_worker(tmp_path, worker))).result == "ready"
    worker.answers.clear()  # it serves the server
    worker.greeted.clear()
    await worker.greeted.wait()  # and the watch waits in its queue
    worker.end()
    await test.until(lambda: waits_for(test, worker))
    assert (test.server.failure.kind, test.server.restarts) == (WORKER_LOST, 0)
    worker.answers.set()
    await worker.start()
    await test.until(lambda: test.server.state is State.READY)
    assert test.starts == 2
    worker.end()


@pytest.mark.skipif(
    ON_WINE, reason="it gives a program's own processor times for those of any other, so no server is idle"
)
@of_server
async def test_a_server_that_hangs_with_a_silent_worker_is_not_to_blame(test, tmp_path):
    worker = await FakeWorker().start()
    hang = tmp_path / "hang"
    asked = with_worker(tmp_path, worker, metrics=f"hang:{hang}")
    asked = hurried(asked, hang_timeout_seconds=2.5, busy_timeout_seconds=60)
    assert (await test.server.start(asked)).result == "ready"
    worker.answers.clear()
    hang.touch()
    await test.until(lambda: waits_for(test, worker))
    assert "does not answer" in test.server.failure.message
    assert (test.server.failure.kind, test.server.restarts) == (WORKER_LOST, 0)
    worker.end()


@of_server
async def test_without_its_worker_the_smaller_plan_serves_until_it_is_back_and_nobody_asks(test, tmp_path):
    worker = await FakeWorker().start()
    worker.end()
    small = plan(tmp_path, name="smaller")
    whole = replace(with_worker(tmp_path, worker), without_workers=small)
    outcome = await test.server.start(whole)
    assert (outcome.result, test.server.plan) == ("degraded", small)
    assert outcome.why == f"without its workers: The worker {worker.address} is gone: nobody listens there."
    test.under_way = 1
    await worker.start()
    await worker.greeted.wait()
    assert test.server.state is State.DEGRADED, "somebody is being answered"
    test.under_way = 0
    await test.until(lambda: test.server.state is State.READY)
    assert (test.server.plan, test.server.restarts) == (whole, 0)
    worker.end()
