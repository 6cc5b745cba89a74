"""A server with the timings of a script: the part of llama-server's HTTP that a measurement asks."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle


class Rates:
    """``generated`` are tokens per second, the next one for each request; a prompt is read ten times as fast."""

    def __init__(self, generated=(100.0,), context=4096):
        self.generated, self.context = cycle(generated), context
        self.requests = 0


@contextmanager
def serving(rates: Rates):
    """The URL of one."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer(
                json.dumps({"data": [{"id": "any", "meta": {"n_vocab": 128, "n_ctx": rates.context}}]})
            )

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                rates.requests += 1
                rate = next(rates.generated)
            read, tokens = len(body.get("prompt", "12345")), body.get("n_predict", body.get("max_tokens"))
            timings = {
                "prompt_n": read,
                "prompt_ms": read / rate * 100,
                "predicted_n": tokens,
                "predicted_ms": (tokens - 1) / rate * 1000,
                "cache_n": 0,
            }
            if "messages" in body:
                event = {"choices": [{"delta": {"content": "x"}, "finish_reason": None}]}
            else:
                event = {"content": "x", "tokens": [1], "stop": False}
            events = [event, event, {"content": "", "choices": [], "stop": True, "timings": timings}]
            self.answer("".join(f"data: {json.dumps(each)}\n\n" for each in events), "text/event-stream")

        def answer(self, text, kind="application/json"):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
