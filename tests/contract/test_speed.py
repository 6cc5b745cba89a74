"""The measurement against the real llama-server, and against servers that do not play along."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from supervisor.engine.proof.smoke_test import free_port, running
from supervisor.errors import NetworkError
from supervisor.measure.measurement import Target, Workload
from supervisor.measure.speed import measure
from supervisor.model.demo import ensure_demo

BUILT = os.environ.get("GOSS_TEST_LLAMA_SERVER")
SMALL = Workload(64, 16)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A real server with the demo model."""
    if not BUILT:
        pytest.skip("GOSS_TEST_LLAMA_SERVER is not set: run bin/test")
    port, model = free_port(), ensure_demo(tmp_path_factory.mktemp("models"))
    words = [BUILT, "-m", str(model), "--host", "127.0.0.1", "--port", str(port), "-c", "4096", "-t", "1"]
    with running(words, port) as server:
        server.answer(60.0)
        yield Target(f"http://127.0.0.1:{port}", server.key, "")


@pytest.mark.engine
def test_the_demo_model_is_measured_although_its_answer_ends_early(real):
    found = measure(real)
    assert found.load in {Workload(256, 128), Workload(256, 64), Workload(128, 32), Workload(64, 16)}
    assert found.generated_per_second > 1
    assert found.prompt_per_second > 1


@pytest.mark.engine
def test_the_load_of_another_measurement_is_kept(real):
    assert measure(real, SMALL).load == SMALL


@pytest.mark.engine
def test_a_wrong_key_is_the_servers_own_word(real):
    with pytest.raises(NetworkError, match=r"answered 401.*Invalid API Key"):
        measure(replace(real, key="wrong"))


@pytest.mark.engine
def test_a_load_that_is_too_large_for_the_context_is_the_servers_own_word(real):
    with pytest.raises(NetworkError, match=r"answered 400.*context"):
        measure(real, Workload(5000, 8))


class Says:
    """A llama-server by its list of models; it answers each POST with the same, None is no answer at all."""

    def __init__(self, body):
        over = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                listed = b'{"data": [{"id": "m", "meta": {"n_vocab": 100}}]}'
                self.send_response(200)
                self.end_headers()
                self.wfile.write(listed)

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                if body is None:
                    over.wait(30)
                    return
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.over, self.server = over, ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def __enter__(self):
        self.thread.start()
        return Target(f"http://127.0.0.1:{self.server.server_port}", "", "")

    def __exit__(self, *_):
        self.over.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.mark.parametrize(
    "body", [b"{}", b'data: {"timings": null}', b'data: {"timings": {"predicted_n": 8}}']
)
def test_an_answer_without_timings_is_no_speed(body):
    with Says(body) as target, pytest.raises(NetworkError, match="tells no timings"):
        measure(target)


@pytest.mark.parametrize("body", [b"", b"<html>", b"data: [1]", b'data: {"timings": {"prompt_n": "x"}}'])
def test_an_answer_that_is_not_llama_servers_is_a_network_error(body):
    with Says(body) as target, pytest.raises(NetworkError):
        measure(target)


def test_a_server_that_hangs_costs_the_limit_and_no_more():
    with Says(None) as target, pytest.raises(NetworkError, match=r"did not end within 0\.2 s"):
        measure(target, limit_seconds=0.2)


def test_nobody_there_is_a_network_error():
    with pytest.raises(NetworkError, match=r"broke off the measurement: .*refused"):
        measure(Target(f"http://127.0.0.1:{free_port()}", "", ""))
