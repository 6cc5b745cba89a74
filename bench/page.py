"""
What an open page costs the daemon: CPU and memory with streams of events while nothing happens, against none,
with the real llama-server and the demo model.

    bench/page.py /path/to/llama-server [--seconds 60] [--streams 1]

CPU is of the daemon's process alone, its threads included.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from lifecycle import WARM_SECONDS, Home


class OpenPage:
    """A stream of events, read as a browser does; ``received`` are its bytes."""

    def __init__(self, port: int, query: str = "") -> None:
        self.received = 0
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(
            f"GET /supervisor/events{query} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while data := self._socket.recv(65536):
            self.received += len(data)


def cpu_seconds(pid: int) -> float:
    """Of all its threads, also of those that have ended; in ticks of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2


def measured(pid: int, seconds: float) -> tuple[float, float]:
    """CPU in percent of one core over this time, and the memory at its end in MiB."""
    before, began = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return 100 * (cpu_seconds(pid) - before) / (time.monotonic() - began), memory_mib(pid)


def report(home: Home, seconds: float, streams: int) -> None:
    pid = home.status()["daemon"]["pid"]
    time.sleep(WARM_SECONDS)
    for what, count, query in (
        ("no page", 0, ""),
        (f"{streams} page(s)", streams, ""),
        ("a page with its log", 1, "?log=default"),
        ("no page again", 0, ""),
    ):
        with ExitStack() as stack:
            pages = [stack.enter_context(OpenPage(home.port, query)) for _ in range(count)]
            time.sleep(2.0)  # what there is when it opens
            before = sum(page.received for page in pages)
            cpu, memory = measured(pid, seconds)
            sent = (sum(page.received for page in pages) - before) / seconds
        print(f"{what:22} CPU {cpu:6.3f} %   memory {memory:6.1f} MiB   sent {sent:8.0f} bytes/s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", help="the real llama-server")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement")
    parser.add_argument("--streams", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder), options.engine, sys.executable)
        home.start()
        try:
            report(home, options.seconds, options.streams)
        finally:
            subprocess.run([sys.executable, "-I", "-m", "supervisor", "stop"], env=home.env, check=False)


if __name__ == "__main__":
    main()
