"""What the real engine sends where the context of its slots is full, and what becomes of it on the way."""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import contextmanager

import pytest

from supervisor.model.demo import ensure_demo
from supervisor.server.probe import probe
from supervisor.server.probe_target import ProbeTarget

from ..fakes.launching import BOUND_SECONDS, free_port
from ..fakes.relay import post, relay, says
from .test_gateway_stream_errors import ANTHROPIC, MENDED, MESSAGE, OTHERS

ENGINE = os.environ.get("GOSS_TEST_LLAMA_SERVER", "")

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not ENGINE, reason="GOSS_TEST_LLAMA_SERVER names no llama-server"),
]


@contextmanager
def engine(folder):
    """With four slots in a context that not three of the requests below fit into."""
    port = free_port()
    words = ["-m", str(ensure_demo(folder)), "--port", str(port), "-c", "512", "-t", "1"]
    process = subprocess.Popen([ENGINE, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield ProbeTarget("127.0.0.1", port)
    finally:
        process.kill()
        process.communicate()


async def loaded(target):
    while (await probe(target, "/health", timeout_seconds=1)).outcome != "ok":  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.05)


def test_the_real_engines_errors_are_these(tmp_path):
    words = b"What are you? " * 10
    bodies = {
        "/v1/messages": b'{"stream":true,"max_tokens":400,"messages":[{"role":"user","content":"%d %s"}]}',
        "/v1/chat/completions": b'{"stream":true,"messages":[{"role":"user","content":"%d %s"}]}',
        "/v1/responses": b'{"stream":true,"input":"%d %s"}',
    }
    got = {}

    async def story(target):
        async with asyncio.timeout(BOUND_SECONDS * 2), relay(says(b"")) as it:
            await loaded(target)
            it.server.target = target
            it.gateway.changed(it.server)
            for path, body in bodies.items():
                requests = (post(body % (number, words), path.encode()) for number in range(8))
                answers = await asyncio.gather(*(it.ask(request) for request in requests))
                got[path] = [body for status, _, body in answers if status == 200]
            failed = [each for each in it.gateway.activity.since(0) if each.note == MESSAGE]
            assert {each.endpoint for each in failed} == set(bodies)
            assert {(each.result, each.status, each.stream) for each in failed} == {("failed", 200, True)}

    with engine(tmp_path) as target:
        asyncio.run(story(target))
    for path, streams in got.items():
        ending = b"event: error\ndata: " + MENDED + b"\n\n" if path == "/v1/messages" else OTHERS
        assert any(stream.endswith(ending) for stream in streams), (path, streams)
        assert not any(ANTHROPIC in stream for stream in streams)
