"""
Whether several connections at once fetch a large file faster than one: the reason for the number in fetch.py.

    bench/download.py [--mb 256]

A host on loopback answers each request after 20 ms, and in the first rows sends at most so much over each
connection.  Each figure is the median of three turns; one connection and several take turns.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from supervisor.download import at_once, fetch
from supervisor.progress import Silent
from tests.fakes.web import Reply, Request, Web, file

DELAY_SECONDS = 0.020
TURNS = 3
LANES = (1, 4, 8)


def serve(body_bytes: int, bytes_per_second: float | None, said: Connection) -> None:
    body = random.Random(1).randbytes(body_bytes)
    honest = file(body)

    def answer(request: Request) -> Reply:
        time.sleep(DELAY_SECONDS)
        reply = honest(request)
        return Reply(reply.status, reply.headers, reply.body, bytes_per_second=bytes_per_second)

    with Web() as web:
        said.send((web.serve("/a.gguf", answer), hashlib.sha256(body).hexdigest()))
        said.recv()


@contextmanager
def host(body_bytes: int, bytes_per_second: float | None) -> Iterator[tuple[str, str]]:
    here, there = multiprocessing.get_context("spawn").Pipe()
    arguments = (body_bytes, bytes_per_second, there)
    process = multiprocessing.get_context("spawn").Process(target=serve, args=arguments)
    process.start()
    try:
        yield here.recv()
    finally:
        here.send("end")
        process.join()


def seconds(url: str, sha256: str, body_bytes: int, lanes: int) -> float:
    fetch.CONNECTIONS = lanes
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        fetch.fetch(fetch.Download(url, body_bytes, sha256, "a.gguf"), Path(folder) / "a.gguf", Silent())
        return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mb", type=int, default=256)
    body_bytes = parser.parse_args().mb * 10**6
    print(f"seconds for {body_bytes / 10**6:.0f} MB in pieces of {at_once.PIECE_BYTES >> 20} MiB")
    print("LIMIT".ljust(22), *(f"{lanes:>4} connections" for lanes in LANES))
    for limit in (10e6, 40e6, None):
        with host(body_bytes, limit) as (url, sha256):
            taken = {lanes: [] for lanes in LANES}
            for _ in range(TURNS):
                for lanes in LANES:
                    taken[lanes].append(seconds(url, sha256, body_bytes, lanes))
        name = f"{limit / 1e6:.0f} MB/s each" if limit else "none"
        print(name.ljust(22), *(f"{statistics.median(taken[lanes]):16.1f}" for lanes in LANES))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
