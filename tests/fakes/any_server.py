"""
A model server that is no llama-server, with the manners and faults of a script.  Standard library only.

    python -S -E any_server.py --port N [--name MODEL] [KEY=VALUE ...]

It answers /health, /v1/models and /v1/chat/completions, and refuses any model but its own with 400, as
``transformers serve`` does.

    record=FILE        append one JSON line per start: pid, argv, env; and one for each chat: model, key
    http=1.0           speak HTTP/1.0: no chunks, and each connection closes behind its answer
    length=false       say no content-length: the connection's end is the answer's
    questions=404      be up, and answer every question with that status (an mlx-lm whose generation died)
    questions=GATE     the same with 404 until the file GATE exists
    health=GATE        answer /health with 503 until the file GATE exists; health=503: for ever
    ill=GATE           answer /health with 503 once the file GATE exists
    exit=CODE          say ``stderr`` and end at once
    stderr=TEXT
    die=requests:N     die with SIGKILL once N chats were answered
    cut=N              break off each chat after N bytes of its body: close, as if nothing were wrong
    reset=N            the same by a reset
    hang=GATE          once the file exists, answer nothing any more
    stop=NAME          end on this signal only (INT, QUIT), and write it to the record
    key_variable=NAME  ask for the key in this variable
    hold=MIB           take so much memory
    pieces=N           pieces of a streamed answer
"""

import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def script_of(words):
    plain = [word for word in words if "=" not in word]
    pairs = dict(zip(plain[::2], plain[1::2], strict=True))
    return pairs, dict(word.split("=", 1) for word in words if "=" in word)


OPTIONS, SCRIPT = script_of(sys.argv[1:])
NAME = OPTIONS.get("--name", "/models/tiny")
ANSWERED = []
LOCK = threading.Lock()
BALLAST = bytearray(int(SCRIPT.get("hold", 0)) << 20)
for page in range(0, len(BALLAST), 4096):
    BALLAST[page] = 1


def note(**what):
    if "record" in SCRIPT:
        with LOCK, open(SCRIPT["record"], "a", encoding="utf-8") as record:
            record.write(json.dumps(what) + "\n")


def is_open(gate):
    return bool(gate) and os.path.exists(gate)


def stop_on(name):
    def leave(number, _frame):
        note(signal=signal.Signals(number).name)
        os._exit(0)

    for each in ("TERM", "INT", "QUIT"):
        number = getattr(signal, f"SIG{each}")
        signal.signal(number, leave if each == name else signal.SIG_IGN)


class Answers(BaseHTTPRequestHandler):
    protocol_version = f"HTTP/{SCRIPT.get('http', '1.1')}"

    def log_message(self, form, *args):
        sys.stderr.write(f"{self.command} {self.path} {form % args}\n")

    def handle_one_request(self):
        super().handle_one_request()
        while is_open(SCRIPT.get("hang")):
            time.sleep(3600)

    def begin(self, status, kind, length=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None and SCRIPT.get("length") != "false":
            self.send_header("Content-Length", str(length))
        else:
            self.close_connection = True
            self.is_chunked = self.protocol_version == "HTTP/1.1" and SCRIPT.get("length") != "false"
            if self.is_chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Connection", "close")
        self.end_headers()

    def page(self, document, status=200):
        body = json.dumps(document).encode()
        self.begin(status, "application/json", len(body))
        self.send(body)

    def send(self, body):
        """With the fault of the script, if there is one."""
        for fault in ("cut", "reset"):
            at = int(SCRIPT.get(fault, 0))
            if at and self.path.endswith("completions"):
                self.wfile.write(body[:at])
                self.wfile.flush()
                if fault == "reset":
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                self.close_connection = True
                return False
        self.wfile.write(body)
        self.wfile.flush()
        return True

    def do_GET(self):
        while is_open(SCRIPT.get("hang")):
            time.sleep(3600)
        unwell = SCRIPT.get("health")
        if self.path == "/health":
            is_well = not is_open(SCRIPT.get("ill")) and (not unwell or is_open(unwell))
            self.page({"status": "ok" if is_well else "unavailable"}, 200 if is_well else 503)
        elif self.path == "/v1/models":
            self.page({"object": "list", "data": [{"id": NAME, "object": "model", "root": NAME}]})
        else:
            self.page({"detail": "Not Found"}, 404)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        model, key = asked.get("model"), self.headers.get("Authorization")
        note(asked=model, key=key, path=self.path)
        refused = SCRIPT.get("questions", "")
        if refused.isdigit() or (refused and not is_open(refused)):
            self.page({"error": "generation thread died"}, int(refused) if refused.isdigit() else 404)
        elif wanted := os.environ.get(SCRIPT.get("key_variable", "")):
            if key == f"Bearer {wanted}":
                self.answer(asked, model)
            else:
                self.page({"error": "no key"}, 401)
        else:
            self.answer(asked, model)

    def answer(self, asked, model):
        if model not in (None, NAME):
            self.page({"detail": f"Server is pinned to {NAME!r}"}, 400)
        elif asked.get("stream"):
            self.stream()
        else:
            text = {"role": "assistant", "content": f"I am {NAME}"}
            choice = {"index": 0, "message": text, "finish_reason": "stop"}
            usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
            self.page(
                {"id": "c1", "object": "chat.completion", "model": NAME, "choices": [choice], "usage": usage}
            )
        with LOCK:
            ANSWERED.append(1)
        how, _, count = SCRIPT.get("die", "").partition(":")
        if how == "requests" and len(ANSWERED) >= int(count):
            os.kill(os.getpid(), signal.SIGKILL)

    def stream(self):
        self.begin(200, "text/event-stream")
        for number in range(int(SCRIPT.get("pieces", 3))):
            delta = {"index": 0, "delta": {"content": f"t{number} "}, "finish_reason": None}
            if not self.event({"object": "chat.completion.chunk", "model": NAME, "choices": [delta]}):
                return
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}
        self.event({"object": "chat.completion.chunk", "model": NAME, "choices": [last]})
        self.send(self.framed(b"data: [DONE]\n\n"))
        if self.is_chunked:
            self.wfile.write(b"0\r\n\r\n")

    def event(self, document):
        return self.send(self.framed(b"data: " + json.dumps(document).encode() + b"\n\n"))

    def framed(self, data):
        return b"%x\r\n%s\r\n" % (len(data), data) if self.is_chunked else data


class Server(ThreadingHTTPServer):
    daemon_threads = True


if __name__ == "__main__":
    note(pid=os.getpid(), argv=sys.argv, env=dict(os.environ))
    if "stderr" in SCRIPT:
        sys.stderr.write(SCRIPT["stderr"] + "\n")
    if "exit" in SCRIPT:
        os._exit(int(SCRIPT["exit"]))
    stop_on(SCRIPT.get("stop", "TERM"))
    Server((OPTIONS.get("--host", "127.0.0.1"), int(OPTIONS["--port"])), Answers).serve_forever()
