"""One run of a workload: what is sent, and what is made of what comes back, of scripted servers and the real one."""

from __future__ import annotations

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from supervisor.engine.proof.smoke_test import free_port, running
from supervisor.errors import NetworkError
from supervisor.measure.measurement import Target, Workload
from supervisor.measure.measuring_client import (
    ServedModel,
    TimedAnswer,
    model_in,
    run,
    sample_of,
    served_model,
)
from supervisor.model.demo import ensure_demo

BUILT = os.environ.get("GOSS_TEST_LLAMA_SERVER")
LIMIT = 30.0


class Scripted:
    """
    A server that streams; with ``vocabulary`` it is a llama-server with a prompt cache, else another engine.

    ``gate`` holds each answer back behind its first token.  ``says`` is sent in place of an answer.
    """

    def __init__(self, *, vocabulary=1000, says=None, cached=None, gate=None, usage=True):
        self.asked, self.lock = [], threading.Lock()
        self.cache, self.both = [], threading.Barrier(2)
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                meta = {"n_vocab": vocabulary, "n_ctx": 4096} if vocabulary else None
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps({"data": [{"id": "m", "aliases": ["n"], "meta": meta}]}).encode())

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with script.lock:
                    script.asked.append((self.path, body, self.headers))
                self.send_response(200)
                self.end_headers()
                for event in says if says is not None else script.answer(body):
                    self.wfile.write(
                        event if isinstance(event, bytes) else b"data: %s\n\n" % json.dumps(event).encode()
                    )
                    self.wfile.flush()
                    if gate is not None:
                        gate(self)

            def log_message(self, *_):
                pass

        self.cached, self.usage, self.vocabulary = cached, usage, vocabulary
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def answer(self, body):
        if "prompt" not in body:
            yield {"choices": [{"delta": {"role": "assistant", "content": None}}]}
            yield from ({"choices": [{"delta": {"content": "x"}}]} for _ in range(body["max_tokens"]))
            if self.usage:
                timings = {"prompt_n": 70, "prompt_ms": 140.0, "predicted_n": 8, "predicted_ms": 70.0}
                yield {"choices": [], "timings": timings | {"cache_n": 0}} if self.vocabulary else {}
                yield {"choices": [], "usage": {"prompt_tokens": 70, "completion_tokens": body["max_tokens"]}}
            yield b"data: [DONE]\n\n"
            return
        with self.lock:
            held = common(self.cache, body["prompt"]) if body["cache_prompt"] else 0
            self.cache = body["prompt"]
        held = held if self.cached is None else self.cached
        yield from ({"content": "x", "stop": False} for _ in range(body["n_predict"]))
        read = len(body["prompt"]) - held
        timings = {"cache_n": held, "prompt_n": read, "prompt_ms": read * 2.0}
        timings |= {"predicted_n": body["n_predict"], "predicted_ms": (body["n_predict"] - 1) * 10.0}
        yield {"content": "", "stop": True, "timings": timings}

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def run(self, workload, *, seed=1, limit=LIMIT, key="k", hold=0):
        target = Target(f"http://127.0.0.1:{self.server.server_port}", key, "m", hold)
        return run(target, workload, seed=seed, deadline_seconds=limit)

    def prompts(self):
        return [body["prompt"] for _, body, _ in self.asked]


def common(one, other):
    return next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
        min(len(one), len(other)),
    )


# What is sent


def test_a_cold_prompt_is_new_tokens_of_the_whole_vocabulary():
    with Scripted(vocabulary=50_000) as server:
        server.run(Workload(2000, 8), seed=1)
        server.run(Workload(2000, 8), seed=2)
        server.run(Workload(2000, 8), seed=1)
    first, second, again = server.prompts()
    assert first == again
    assert common(first, second) < 3
    assert len(first) == 2000
    assert min(first) < 500
    assert max(first) >= 49_500


def test_the_answer_has_its_length_whatever_the_model_would_say():
    with Scripted() as server:
        server.run(Workload(16, 8), hold=7)
    ((path, body, headers),) = server.asked
    assert path == "/completion"
    assert body == {"prompt": body["prompt"], "n_predict": 8, "ignore_eos": True, "cache_prompt": False} | {
        "stream": True,
        "temperature": 0,
        "model": "m",
    }
    assert (headers["Authorization"], headers["X-Goss-Hold"]) == ("Bearer k", "7")


def test_no_hold_and_no_key_are_no_headers():
    with Scripted() as server:
        server.run(Workload(16, 8), key="")
    headers = server.asked[0][2]
    assert headers["Authorization"] is headers["X-Goss-Hold"] is None


def test_a_depth_is_read_once_and_only_what_is_new_counts():
    with Scripted() as server:
        first = server.run(Workload(100, 8, depth_tokens=500), seed=1)
        second = server.run(Workload(100, 8, depth_tokens=500), seed=2)
    fill, measured, refill, remeasured = server.prompts()
    assert fill == refill == measured[:500] == remeasured[:500]
    assert common(measured, remeasured) < 505
    for each in (first, second):
        assert each.prompt_tokens == pytest.approx(100, abs=5)
        assert each.disturbed == ()


def test_a_warm_prompt_is_repeated_word_by_word():
    with Scripted() as server:
        found = server.run(Workload(100, 8, warm=True), seed=1)
        server.run(Workload(100, 8, warm=True), seed=2)
    assert len({tuple(each) for each in server.prompts()}) == 1
    assert found.prompt_per_second is None
    assert found.disturbed == ()


@pytest.mark.parametrize(
    ("workload", "cached", "said"),
    [
        (Workload(100, 8, depth_tokens=500), 0, "the server had only 0 of 500 tokens in its cache"),
        (Workload(100, 8), 90, "the server had 90 tokens in its cache, not 0"),
        (Workload(100, 8, warm=True), 10, "the server had only 10 of 100 tokens in its cache"),
    ],
)
def test_a_cache_that_holds_something_else_is_said(workload, cached, said):
    with Scripted(cached=cached) as server:
        assert server.run(workload).disturbed == (said,)


def test_a_text_is_asked_as_a_chat():
    with Scripted() as server:
        found = server.run(Workload(0, 8, text="How many fall ill?"), seed=1)
    assert [found.prompt_per_second, found.generated_per_second] == pytest.approx([500.0, 100.0])
    ((path, body, _),) = server.asked
    assert path == "/v1/chat/completions"
    assert body["messages"] == [{"role": "user", "content": "How many fall ill?"}]
    assert (body["max_tokens"], body["cache_prompt"]) == (8, False)


# What comes back


def test_the_rates_of_one_client_are_llama_servers_own():
    with Scripted() as server:
        found = server.run(Workload(100, 11))
    assert (found.prompt_per_second, found.generated_per_second) == (500.0, 100.0)
    assert (found.prompt_tokens, found.generated_tokens) == (100, 11)
    assert 0 < found.first_token_seconds <= found.seconds < LIMIT


def test_clients_ask_at_the_same_time():
    with Scripted() as server:
        server.answer = lambda body, answer=server.answer: (server.both.wait(LIMIT), *answer(body))[1:]
        found = server.run(Workload(100, 11, clients=2))
    assert (found.prompt_tokens, found.generated_tokens) == (200, 22)
    assert len({tuple(each) for each in server.prompts()}) == 2


def test_the_rates_of_several_clients_are_by_the_wall_clock():
    """One starts to answer after 1 s, the other after 2 s; both end after 5 s."""
    answers = [TimedAnswer(10.0, 10.0 + first, 15.0, 100, 0, 21, 0.001, 0.001) for first in (1.0, 2.0)]
    found = sample_of(Workload(100, 21, clients=2), answers)
    assert found.prompt_per_second == 200 / 2.0
    assert found.generated_per_second == 40 / 4.0
    assert (found.first_token_seconds, found.seconds) == (1.5, 5.0)


def test_another_engine_is_counted_by_its_usage():
    with Scripted(vocabulary=None) as server:
        found = server.run(Workload(64, 8))
    ((path, body, _),) = server.asked
    assert path == "/v1/chat/completions"
    assert len(body["messages"][0]["content"].split()) == 64
    assert body["stream_options"] == {"include_usage": True}
    assert "cache_prompt" not in body
    assert (found.prompt_tokens, found.generated_tokens) == (70, 8)
    assert found.prompt_per_second == pytest.approx(70 / found.first_token_seconds)
    assert found.generated_per_second > 0


def test_what_another_engine_does_not_tell_is_not_known():
    with Scripted(vocabulary=None, usage=False) as server:
        found = server.run(Workload(64, 8))
    assert (found.prompt_per_second, found.generated_per_second) == (None, None)
    assert found.first_token_seconds > 0


@pytest.mark.parametrize("workload", [Workload(0, 8, text="Hi"), Workload(64, 8, depth_tokens=64)])
def test_a_prompt_that_may_be_cached_has_no_rate_where_the_engine_does_not_say(workload):
    with Scripted(vocabulary=None) as server:
        found = server.run(workload)
    assert found.prompt_per_second is None
    assert found.generated_per_second > 0


def test_an_answer_of_one_token_has_no_rate_of_generation():
    with Scripted() as server:
        assert server.run(Workload(64, 1)).generated_per_second is None


# What goes wrong


def test_an_error_in_the_stream_is_the_servers_own_word():
    said = [{"content": "x"}, b'data: {"error": {"message": "Context size has been exceeded."}}\n\n']
    with Scripted(says=said) as server, pytest.raises(NetworkError, match="Context size has been exceeded"):
        server.run(Workload(16, 8))


@pytest.mark.parametrize("says", [[], [b'{"choices": []}'], [b"data: 3\n\n"], [b"data: {\n\n"]])
def test_an_answer_without_a_token_is_no_measurement(says):
    with Scripted(vocabulary=None, says=says) as server, pytest.raises(NetworkError, match="no stream"):
        server.run(Workload(16, 8))


def test_one_client_that_fails_ends_the_others():
    """They hang: without that this would take its limit."""
    over, number = threading.Event(), iter(range(10))

    def gate(handler):
        if next(number):
            over.wait(LIMIT)
            return
        handler.wfile.write(b'data: {"error": {"message": "no room"}}\n\n')
        handler.wfile.flush()

    with Scripted(gate=gate) as server:
        try:
            with pytest.raises(NetworkError, match="no room"):
                server.run(Workload(16, 8, clients=3), limit=2 * LIMIT)
        finally:
            over.set()


def test_a_stream_that_goes_on_for_ever_ends_at_the_limit():
    def endless():
        while True:
            yield {"content": "x", "stop": False}

    with Scripted(says=endless()) as server, pytest.raises(NetworkError, match=r"did not end within 0\.3 s"):
        server.run(Workload(16, 8), limit=0.3)


# Which model


def test_the_model_is_found_by_its_name_or_alias_in_any_case():
    entry = {"id": "Big", "aliases": ["gpt-oss"], "meta": {"n_vocab": 200_000, "n_ctx": 8192}}
    listed = json.dumps({"data": [{"id": "small", "meta": {"n_vocab": 10, "n_ctx": 1}}, entry]}).encode()
    assert model_in(listed, "GPT-OSS") == model_in(listed, "big") == ServedModel(200_000, 8192)
    assert model_in(listed, "") == ServedModel(10, 1)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"data": []}', b'{"data": [{"id": "m"}]}', b'{"data": 3}']
)
def test_a_list_that_tells_nothing_is_no_error(body):
    assert model_in(body, "m") == ServedModel()


@pytest.mark.engine
def test_the_real_server_reads_and_generates_exactly_what_was_asked_for(tmp_path):
    if not BUILT:
        pytest.skip("GOSS_TEST_LLAMA_SERVER is not set: run bin/test")
    port, model = free_port(), ensure_demo(tmp_path)
    words = [BUILT, "-m", str(model), "--host", "127.0.0.1", "--port", str(port), "-c", "8192", "-np", "4"]
    with running([*words, "--threads", "1"], port) as server:
        server.answer(60.0)
        target = Target(f"http://127.0.0.1:{port}", server.key, "")
        assert served_model(target).context_tokens in {2048, 8192}

        def once(workload):
            return run(target, workload, seed=3, deadline_seconds=60.0)

        cold, behind, warm = (
            once(Workload(100, 16)),
            once(Workload(64, 8, depth_tokens=700)),
            once(Workload(100, 8, warm=True)),
        )
        several = once(Workload(50, 8, clients=4))
    assert [cold.prompt_tokens, cold.generated_tokens] == [100, 16]
    assert [several.prompt_tokens, several.generated_tokens] == [200, 32]
    assert 64 <= behind.prompt_tokens <= 96  # a window: it goes back to a checkpoint
    assert warm.prompt_tokens <= 32
    assert [each.disturbed for each in (cold, behind, warm, several)] == [()] * 4
    for each in (cold, behind, several):
        assert each.prompt_per_second > 1
        assert each.generated_per_second > 1
