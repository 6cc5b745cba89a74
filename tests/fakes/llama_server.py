"""
A llama-server that fails on request: the shape of b11434, the faults of a script.  Standard library only.

    python -S -E llama_server.py -m X --port N [--fake KEY=VALUE ...]     (or FAKE_LLAMA='{"KEY": VALUE}')

A *gate* is the path of a file: what waits for it goes on once the file exists, so that a test decides when.

    record=FILE        append one JSON line per start: pid, argv, env
    stderr=TEXT        print this first           close_output=true  then close stdout and stderr
    banner=cpu         print what a build without its GPU prints
    flood=BYTES        print that many bytes      flood_line=N       with a newline after each N
    garbage=true       print bytes that are not UTF-8
    grandchild=group   leave a process in our group that holds our output; =session: in one of its own
    grandchild_pid=FILE
    exit=CODE          end before binding, as with a bad argument
    bind=never         run without ever binding   answer=never       bind and accept, but stay silent
    load=SECONDS       load that long             load_gate=GATE     load until the gate opens (FAKE_LOAD_GATE too)
    hold=MIB           take so much anonymous memory while loading
    die=HOW            abort, segv, kill, stop (SIGSTOP) or exit:CODE ...
    die_when=WHEN      ... loading, ready (the default), requests:N, seconds:S or gate:GATE
    term=ignore        ignore every SIGTERM       term=second        leave with 1 on the second one only
    metrics=hang       never answer /metrics      metrics=hang:GATE  ... once the gate opens
    burn=true          use the CPU meanwhile
    deaf=GATE          close the listening socket once the gate opens, and remove the gate
    breaks=TEXT        log that for each chat, and answer 500
    chat_gate=GATE     hold chat answers until the gate opens
     stream_gate=GATE   hold a stream behind its first word until the gate opens
     pace=SECONDS       wait so long before each word of a stream
    says=TEXT          the whole answer of a chat
    model=NAME         what /v1/models says
    speeds=JSON        what /completion says of its speed, without taking the time: {"prompt": tokens a second,
                       "answer": the same, "rules": [[option, value, factor of prompt, factor of answer], ...],
                       "dies": [[option, value], ...] (while loading), "noise": share}

Like the real one it binds before it loads, installs its signal handlers after the load, and does not leave on
the first SIGTERM while a request is in flight.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

HELP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "llama_server_help.txt")
VERSION = "version: 0.6.0-dev (build 11434, commit 8f91c0d3e)\nbuilt with GNU 12.2.0 for Linux x86_64\n"
ANSWER = ["Hello", " from", " the", " fake", "."]
STARTED = time.monotonic()
PUBLIC = ("/health", "/v1/health")


# --- speaking


def say(level, tag, text):
    micros = int((time.monotonic() - STARTED) * 1e6)
    stamp = (
        f"{micros // 60000000}.{micros // 1000000 % 60:02d}.{micros // 1000 % 1000:03d}.{micros % 1000:03d}"
    )
    raw(f"{stamp} {level} {tag} {text}\n".encode())


def raw(data):
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(2, view) :]
    except OSError:
        pass  # nobody listens any more: the real one lives on as well


def leave(code):
    os._exit(code)


# --- the command line


def known_options():
    """Option name -> whether it takes a value, read from the real program's own help."""
    options = {}
    with open(HELP, encoding="utf-8") as help_text:
        for line in help_text:
            if line.startswith("-") and not line.startswith("-----"):
                spec = re.split(r"\s{2,}(?=[^-\s])", line.rstrip())[0]
                names = re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", spec)
                value = spec
                for name in sorted(names, key=len, reverse=True):
                    value = value.replace(name, "")
                for name in names:
                    options[name] = bool(value.strip(" ,"))
    return options


def parse(argv):
    known, given, script = known_options(), {}, json.loads(os.environ.get("FAKE_LLAMA", "{}"))
    rest = list(argv)
    while rest:
        name = rest.pop(0)
        if name == "--fake":
            key, _, value = rest.pop(0).partition("=")
            script[key] = literal(value)
            continue
        name = "--" + name[2:].replace("_", "-") if name.startswith("--") else name
        if name not in known:
            raw(f"error: invalid argument: {name}\n".encode())
            leave(1)
        if known[name] and not rest:
            raw(f'error while handling argument "{name}": expected value for argument\n'.encode())
            leave(1)
        given[name] = rest.pop(0) if known[name] else True
    return given, script


def literal(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


# --- faults


def wait_for(gate):
    while not os.path.exists(gate):
        time.sleep(0.005)


def start_grandchild(kind, pid_file):
    sleeper = "import time\nwhile True: time.sleep(3600)"
    child = subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", sleeper],
        stdin=subprocess.DEVNULL,
        start_new_session=kind == "session",
    )
    if pid_file:
        with open(pid_file + ".new", "w", encoding="ascii") as file:
            file.write(str(child.pid))
        os.replace(pid_file + ".new", pid_file)


def die(how):
    kind, _, code = str(how).partition(":")
    if kind == "exit":
        leave(int(code))
    if kind == "abort":
        raw(b"/src/ggml/src/ggml.c:1234: GGML_ASSERT(n_tokens > 0) failed\n")
    name = {"abort": "SIGABRT", "segv": "SIGSEGV", "kill": "SIGKILL", "stop": "SIGSTOP"}[kind]
    os.kill(os.getpid(), getattr(signal, name))


class Server:
    def __init__(self, given, script):
        self.given = given
        self.script = script
        self.ready = False
        self.requests = 0
        self.in_flight = 0
        self.terms = 0
        self.lock = threading.Lock()
        self.host = given.get("--host", "127.0.0.1")
        self.port = int(given.get("--port", 8080))
        key = given.get("--api-key") or os.environ.get("LLAMA_API_KEY", "")
        self.keys = [part for part in key.split(",") if part]
        self.prefix = given.get("--api-prefix", "")
        self.model = script.get("model") or given.get("-a") or given.get("--alias") or self.file()
        self.speeds = script.get("speeds", {})
        self.left = threading.Event()

    def file(self):
        return self.given.get("-m") or self.given.get("--model") or ""

    # --- the life of it

    def run(self):
        self.misbehave_early()
        say("I", "srv ", "llama_server: initializing ...")
        if self.script.get("bind") == "never":
            threading.Event().wait()
        listener = self.bind()
        threading.Thread(target=self.accept, args=(listener,), daemon=True).start()
        if "deaf" in self.script:
            threading.Thread(target=self.grow_deaf, args=(listener,), daemon=True).start()
        self.load()
        signal.signal(signal.SIGTERM, self.on_term)
        signal.signal(signal.SIGINT, self.on_term)
        self.ready = True
        say("I", "srv ", "llama_server: model loaded")
        say("I", "srv ", f"llama_server: listening on http://{self.host}:{self.port}")
        self.schedule_death()
        while not self.left.wait(0.05 if os.name == "nt" else 3600):
            pass  # on Windows no handler of a signal runs while the main thread waits for a lock
        leave(0)

    def misbehave_early(self):
        script = self.script
        if "record" in script:
            entry = json.dumps({"pid": os.getpid(), "argv": sys.argv, "env": dict(os.environ)})
            fd = os.open(script["record"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.write(fd, (entry + "\n").encode())
            os.close(fd)
        if "stderr" in script:
            raw(str(script["stderr"]).encode() + b"\n")
        if script.get("banner") == "cpu":
            raw(b"warning: no usable GPU found, --gpu-layers option will be ignored\n")
            raw(b"warning: one possible reason is that llama.cpp was compiled without GPU support\n")
        if script.get("garbage"):
            raw(b"\xff\xfe\xc3( not utf-8 \x80\n")
        if "flood" in script:
            self.flood(int(script["flood"]), int(script.get("flood_line", 0)))
        if "grandchild" in script:
            start_grandchild(script["grandchild"], script.get("grandchild_pid"))
        if script.get("close_output"):
            for number in 1, 2:  # kept from becoming a client's connection, into which a log line would go
                os.close(number)
                os.open(os.devnull, os.O_WRONLY)
        if "exit" in script:
            leave(int(script["exit"]))

    def flood(self, size, line):
        block = (b"x" * (line - 1) + b"\n") if line else b"." * 65536
        while size > 0:
            raw(block[:size])
            size -= len(block)

    def bind(self):
        unix = self.host.endswith(".sock")
        family = socket.AF_UNIX if unix else socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(self.host if unix else (self.host, self.port))
        except OSError:
            where = f"hostname: {self.host}, port: {self.port}"
            say("E", "srv        ", f"start: couldn't bind HTTP server socket, {where}")
            say("E", "srv ", "llama_server: exiting due to HTTP server error")
            leave(1)
        listener.listen(64)
        if not unix:
            self.port = listener.getsockname()[1]
        if "--ssl-key-file" in self.given:
            import ssl

            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.given["--ssl-cert-file"], self.given["--ssl-key-file"])
            listener = context.wrap_socket(listener, server_side=True)
        return listener

    def load(self):
        say("I", "srv   ", f"load_model: loading model '{self.file()}'")
        if self.script.get("die_when") == "loading":
            die(self.script["die"])
        if any(self.given.get(name) == value for name, value in self.speeds.get("dies", [])):
            die("abort")
        if self.file() and not os.path.exists(self.file()) and self.file() != "X":
            why = f"failed to open GGUF file '{self.file()}' (No such file or directory)"
            say("E", "gguf_init_from_file:", why)
            say("E", "srv   ", f"load_model: failed to load model, '{self.file()}'")
            say("E", "srv ", "llama_server: exiting due to model loading error")
            leave(1)
        self.held = bytearray(b"x") * (int(self.script.get("hold", 0)) << 20)
        time.sleep(float(self.script.get("load", 0)))
        for gate in filter(None, (self.script.get("load_gate"), os.environ.get("FAKE_LOAD_GATE"))):
            wait_for(gate)

    def schedule_death(self):
        kind, _, value = str(self.script.get("die_when", "ready")).partition(":")
        if "die" not in self.script or kind in {"loading", "requests"}:
            return
        if kind == "ready":
            die(self.script["die"])
        waiting = (lambda: time.sleep(float(value))) if kind == "seconds" else (lambda: wait_for(value))
        threading.Thread(target=lambda: (waiting(), die(self.script["die"])), daemon=True).start()

    def on_term(self, _number, _frame):
        self.terms += 1
        manner = self.script.get("term")
        if manner == "ignore":
            return
        if self.terms > 1:
            raw(b"Received second interrupt, terminating immediately.\n")
            leave(1)
        say("I", "srv   ", "operator(): cleaning up before exit...")
        if manner != "second":
            threading.Thread(target=self.leave_when_idle, daemon=True).start()

    def leave_when_idle(self):
        while self.in_flight:
            time.sleep(0.01)
        self.left.set()

    def grow_deaf(self, listener):
        wait_for(self.script["deaf"])
        os.remove(self.script["deaf"])
        listener.shutdown(socket.SHUT_RDWR)

    # --- HTTP

    def accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                if "deaf" in self.script:
                    return
                continue  # a TLS handshake that failed
            threading.Thread(target=self.converse, args=(connection,), daemon=True).start()

    def converse(self, connection):
        if self.script.get("answer") == "never":
            threading.Event().wait()
        with connection:
            try:
                head, body = self.read_request(connection)
                if head:
                    self.answer(connection, head, body)
            except OSError:
                pass

    def read_request(self, connection):
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return "", b""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length:\s*(\d+)", head)
        while length and len(body) < int(length[1]):
            body += connection.recv(65536)
        return head.decode("latin-1"), body

    def answer(self, connection, head, body):
        method, path = head.split(" ")[:2]
        path = path.partition("?")[0]
        if not self.ready:
            self.error(connection, 503, "Loading model", "unavailable_error")
        elif self.keys and path not in PUBLIC and not self.has_key(head):
            self.error(connection, 401, "Invalid API Key", "authentication_error")
        elif not path.startswith(self.prefix):
            self.error(connection, 404, "File Not Found", "not_found_error")
        else:
            self.route(connection, method, path[len(self.prefix) :], body)
        self.requests += self.ready
        kind, _, count = str(self.script.get("die_when", "")).partition(":")
        if kind == "requests" and self.requests >= int(count):
            die(self.script["die"])

    def has_key(self, head):
        given = re.search(r"(?i)^(?:authorization: bearer|x-api-key:) (\S+)", head, re.MULTILINE)
        return given is not None and given[1] in self.keys

    def route(self, connection, method, path, body):
        if path in PUBLIC:
            self.json(connection, {"status": "ok"})
        elif path == "/metrics":
            self.metrics(connection)
        elif path in ("/v1/models", "/models"):
            meta = {"n_vocab": 320, "n_ctx": int(self.given.get("--ctx-size", 4096))}
            entry = {"id": self.model, "object": "model", "meta": meta}
            self.json(connection, {"object": "list", "data": [entry]})
        elif path == "/props":
            self.json(connection, {"model_path": self.file(), "total_slots": 4, "is_sleeping": False})
        elif path == "/slots":
            self.json(connection, [{"id": 0, "is_processing": self.in_flight > 0}])
        elif method == "POST" and path == "/v1/chat/completions":
            self.chat(connection, json.loads(body or b"{}"))
        elif method == "POST" and path == "/completion":
            self.complete(connection, json.loads(body or b"{}"))
        else:
            self.error(connection, 404, "File Not Found", "not_found_error")

    def metrics(self, connection):
        say("I", "srv   ", "metrics asked for: GET /metrics HTTP/1.0")  # a probe's line is no sign of work
        manner, _, gate = str(self.script.get("metrics", "ok")).partition(":")
        if "--metrics" not in self.given:
            message = "This server does not support metrics endpoint. Start it with `--metrics`"
            self.error(connection, 501, message, "not_supported_error")
        elif manner == "hang" and (not gate or os.path.exists(gate)):
            while self.script.get("burn"):
                pass
            threading.Event().wait()
        else:
            text = f"llamacpp:tokens_predicted_total {self.requests}\nllamacpp:requests_processing {self.in_flight}\n"
            self.send(connection, 200, "text/plain; version=0.0.4", text.encode())

    def chat(self, connection, request):
        if "breaks" in self.script:
            say("E", "srv ", self.script["breaks"])
            self.error(connection, 500, self.script["breaks"], "server_error")
            return
        with self.lock:
            self.in_flight += 1
        say("I", "srv ", "chat: a chat request")
        try:
            if "chat_gate" in self.script:
                wait_for(self.script["chat_gate"])
            timings = {"predicted_n": len(ANSWER), "predicted_ms": 50.0, "predicted_per_second": 100.0}
            if request.get("stream"):
                self.stream(connection, timings)
            else:
                said = "".join(self.pieces())
                message = {"role": "assistant", "content": said, "reasoning_content": "A script."}
                choice = {"index": 0, "finish_reason": "stop", "message": message}
                self.json(connection, self.completion("chat.completion", choice) | {"timings": timings})
        finally:
            with self.lock:
                self.in_flight -= 1

    def complete(self, connection, request):
        read, wrote = len(request.get("prompt", "")), int(request.get("n_predict", 16))
        prompt, answer = self.rates()
        timings = {"cache_n": 0, "prompt_n": read, "prompt_ms": 1000 * read / prompt, "predicted_n": wrote}
        timings |= {"prompt_per_second": prompt, "predicted_per_second": answer}
        timings |= {"predicted_ms": 1000 * (wrote - 1) / answer}  # the first token comes with the prompt
        end = {"content": "", "stop": True, "timings": timings}
        if not request.get("stream"):
            self.json(connection, end)
            return
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        self.event(connection, {"content": "a", "stop": False})
        self.event(connection, end)
        connection.sendall(b"data: [DONE]\n\n")  # the real one ends its last chunk in its place

    def rates(self):
        """Tokens a second of the prompt and of the answer, by the options."""
        speeds, rates = self.speeds, [self.speeds.get("prompt", 1000.0), self.speeds.get("answer", 100.0)]
        for name, value, *factors in speeds.get("rules", []):
            if self.given.get(name) == value:
                rates = [rate * factor for rate, factor in zip(rates, factors, strict=True)]
        import random  # most tests start this program and never measure it

        noise = random.Random(os.getpid() * 1000 + self.requests)
        return [rate * (1 + noise.uniform(-1, 1) * speeds.get("noise", 0.0)) for rate in rates]

    def pieces(self):
        return [self.script["says"]] if "says" in self.script else ANSWER

    def stream(self, connection, timings):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        deltas = [{"role": "assistant", "content": None}, {"reasoning_content": "A script."}]
        pieces = re.findall(r"\S+\s*", "".join(self.pieces())) if "pace" in self.script else self.pieces()
        deltas += [{"content": piece} for piece in pieces]
        for delta in deltas:
            time.sleep(self.script.get("pace", 0))
            choice = {"index": 0, "finish_reason": None, "delta": delta}
            self.event(connection, self.completion("chat.completion.chunk", choice))
            if delta.get("content") and "stream_gate" in self.script:
                wait_for(self.script["stream_gate"])
        choice = {"index": 0, "finish_reason": "stop", "delta": {}}
        self.event(connection, self.completion("chat.completion.chunk", choice) | {"timings": timings})
        connection.sendall(b"data: [DONE]\n\n")

    def completion(self, kind, choice):
        usage = {"prompt_tokens": 3, "completion_tokens": len(ANSWER), "total_tokens": 3 + len(ANSWER)}
        common = {"id": "chatcmpl-fake", "object": kind, "created": int(time.time()), "model": self.model}
        return common | {"choices": [choice], "usage": usage, "system_fingerprint": "b11434-8f91c0d3e"}

    def event(self, connection, value):
        connection.sendall(b"data: " + json.dumps(value).encode() + b"\n\n")

    def json(self, connection, value, status=200):
        self.send(connection, status, "application/json; charset=utf-8", json.dumps(value).encode())

    def error(self, connection, status, message, kind):
        self.json(connection, {"error": {"message": message, "type": kind, "code": status}}, status)

    def send(self, connection, status, content_type, body):
        head = f"HTTP/1.1 {status} -\r\nServer: llama.cpp\r\nContent-Type: {content_type}\r\n"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)


def main(argv):
    given, script = parse(argv)
    if "-h" in given or "--help" in given or "--usage" in given:
        with open(HELP, encoding="utf-8") as help_text:
            sys.stdout.write(help_text.read())
        return
    if "--version" in given:
        sys.stderr.write(VERSION)
        return
    if "--list-devices" in given:
        devices = script.get("devices", [])
        sys.stdout.write(
            "Available devices:\n" + "".join(f"  {device}\n" for device in devices or ["(none)"])
        )
        return
    Server(given, script).run()


if __name__ == "__main__":
    main(sys.argv[1:])
