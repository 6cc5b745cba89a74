"""
What a worker costs: tokens per second over RPC against local, and bytes over the wire.

    bench/cluster.py --engine /path/to/llama-server --model /path/to/model.gguf [--rounds 3] [--json]
    bench/cluster.py --peers [--rounds 6] [--json]          # what a hop over a peer costs: see peer_hop.py

The workers are ``ggml-rpc-server`` next to the engine, on loopback: no network is as fast, so what is lost
here is lost everywhere, and a real link costs its round trips and its bytes on top.  Each has a relay before
it that counts.  All run with one thread, since machines that share a model work one after the other.  The
ways take turns, forwards and then backwards, each with a load of its own.  The best turn of each counts:
what else runs on a machine only makes it slower.  Bytes are of the last turn, and the same in each.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import peer_hop

TOKENS, ANSWERS, PROMPT = 32, 3, "Once upon a time " * 40
LOOPBACK = "127.0.0.1"
START_SECONDS = 120.0
_MIB = 1024**2


@dataclass(slots=True)
class Relay:
    """A port that passes everything on to ``target``, and counts what is sent to it and received from it."""

    target: int
    sent: int = 0
    received: int = 0
    listener: socket.socket = field(default_factory=lambda: socket.create_server((LOOPBACK, 0)))

    @property
    def port(self) -> int:
        return self.listener.getsockname()[1]

    def run(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                worker = socket.create_connection((LOOPBACK, self.target))
                for each in (client, worker):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for source, sink, name in ((client, worker, "sent"), (worker, client, "received")):
                    threading.Thread(target=self._pass, args=(source, sink, name), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, name: str) -> None:
        with suppress(OSError):
            while data := source.recv(256 * 1024):
                setattr(self, name, getattr(self, name) + len(data))
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def relaying(target: int) -> Iterator[Relay]:
    relay = Relay(target)
    threading.Thread(target=relay.run, daemon=True).start()
    try:
        yield relay
    finally:
        relay.listener.close()


@contextmanager
def running(command: Sequence[str], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env={"GGML_NO_BACKTRACE": "1", **environment}, **quiet) as child:
        try:
            yield child
        finally:
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(10)
            child.kill()


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def worker(engine: Path, cache: Path | None) -> Iterator[int]:
    """Its port, once it listens.  With ``cache`` it keeps large tensors there."""
    port = free_port()
    command = [str(engine.with_name("ggml-rpc-server")), "-H", LOOPBACK, "-p", str(port), "-t", "1"]
    extra = {"LLAMA_CACHE": str(cache)} if cache else {}
    with running([*command, *(["-c"] if cache else [])], HOME="/nonexistent", **extra) as child:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and child.poll() is None:
            with suppress(OSError), socket.create_connection((LOOPBACK, port)):
                break
            time.sleep(0.05)
        yield port


@dataclass(frozen=True, slots=True)
class Way:
    """``layers`` go to so many ``workers``; 99 is all of them."""

    name: str
    workers: int = 0
    layers: int = 0
    split: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One load and some answers, of which the fastest counts; bytes are of all workers together."""

    generated: float  # tokens per second
    prompt: float
    load_seconds: float
    load_bytes: int
    prompt_bytes: int
    token_sent: float  # bytes for each token
    token_received: float


def ask(port: int, body: dict[str, Any]) -> dict[str, Any]:
    asked = urllib.request.Request(f"http://{LOOPBACK}:{port}/completion", json.dumps(body).encode())
    with urllib.request.urlopen(asked, timeout=START_SECONDS) as answer:
        return json.load(answer)


def is_ready(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://{LOOPBACK}:{port}/health") as answer:
        return answer.status == 200
    return False


def turn(way: Way, engine: Path, model: Path, caches: Sequence[Path]) -> Turn:
    with ExitStack() as stack:
        ports = [
            stack.enter_context(worker(engine, caches[number] if caches else None))
            for number in range(way.workers)
        ]
        relays = [stack.enter_context(relaying(port)) for port in ports]
        port = free_port()
        command = [str(engine), "--model", str(model), "--port", str(port), "--threads", "1", "--fit", "off"]
        command += ["--ctx-size", "2048", "--parallel", "1", "--cache-ram", "0"]
        if way.workers:
            command += ["--rpc", ",".join(f"{LOOPBACK}:{each.port}" for each in relays)]
            command += [
                "--gpu-layers",
                str(way.layers),
                *(["--tensor-split", way.split] if way.split else []),
            ]
        began = time.monotonic()
        child = stack.enter_context(running(command, HOME="/nonexistent"))
        while not is_ready(port):
            if child.poll() is not None or time.monotonic() > began + START_SECONDS:
                raise SystemExit(f"{way.name}: the server did not become ready: {' '.join(command)}")
            time.sleep(0.05)
        return _measured(port, relays, time.monotonic() - began)


def _measured(port: int, relays: Sequence[Relay], load_seconds: float) -> Turn:
    def passed() -> tuple[int, int]:
        return sum(each.sent for each in relays), sum(each.received for each in relays)

    loaded = passed()
    asked = {"temperature": 0, "ignore_eos": True, "cache_prompt": True}
    first = ask(port, {"prompt": PROMPT, "n_predict": 1, **asked})
    read = passed()
    answers = [ask(port, {"prompt": PROMPT, "n_predict": TOKENS, **asked})["timings"] for _ in range(ANSWERS)]
    told, tokens = passed(), TOKENS * ANSWERS
    return Turn(
        max(each["predicted_per_second"] for each in answers),
        first["timings"]["prompt_per_second"],
        load_seconds,
        sum(loaded),
        sum(read) - sum(loaded),
        (told[0] - read[0]) / tokens,
        (told[1] - read[1]) / tokens,
    )


def best(turns: Sequence[Turn]) -> Turn:
    last = turns[-1]
    fast = {name: max(getattr(each, name) for each in turns) for name in ("generated", "prompt")}
    return replace(last, **fast, load_seconds=min(each.load_seconds for each in turns))


def caching(engine: Path, model: Path) -> dict[str, float]:
    """Bytes of a load onto one worker: without a cache, into an empty one, and out of it."""
    way = Way("cache", 1, 99)
    without = turn(way, engine, model, ())
    with tempfile.TemporaryDirectory() as folder:
        into, out = (turn(way, engine, model, (Path(folder),)) for _ in range(2))
    return {
        name: each.load_bytes / _MIB for name, each in (("without", without), ("into", into), ("out", out))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--engine", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument(
        "--peers", action="store_true", help="what a hop over a peer costs, in place of workers"
    )
    parser.add_argument("--layers", type=int, default=30, help="of the model, for the ways that divide them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.peers:
        peer_hop.show(peer_hop.measure(asked.rounds), as_json=asked.json)
        return
    if asked.engine is None or asked.model is None:
        parser.error("name --engine and --model, or --peers")
    half = asked.layers // 2
    ways = (
        Way("local"),
        Way("half of the layers on a worker", 1, half),
        Way("all on a worker", 1, 99),
        Way("all on two workers", 2, 99, "1,1"),
    )
    turns: dict[str, list[Turn]] = {way.name: [] for way in ways}
    for number in range(asked.rounds):
        for way in ways if number % 2 == 0 else ways[::-1]:
            turns[way.name].append(turn(way, asked.engine, asked.model, ()))
    found = {name: best(each) for name, each in turns.items()}
    cache = caching(asked.engine, asked.model)
    if asked.json:
        rows = {name: asdict(each) for name, each in found.items()}
        print(json.dumps({"ways": rows, "cache_mib": cache}))
        return
    local = found["local"]
    print("| where | tokens/s | of local | prompt tokens/s | of local | load MiB | KiB a token to / from |")
    print("|---|---|---|---|---|---|---|")
    for name, each in found.items():
        sent, received = each.token_sent / 1024, each.token_received / 1024
        print(
            f"| {name} | {each.generated:.1f} | {each.generated / local.generated:.2f} "
            f"| {each.prompt:.0f} | {each.prompt / local.prompt:.2f} "
            f"| {each.load_bytes / _MIB:.1f} | {sent:.1f} / {received:.1f} |"
        )
    print(f"load onto one worker, MiB: {', '.join(f'{name} {each:.1f}' for name, each in cache.items())}")


if __name__ == "__main__":
    main()
