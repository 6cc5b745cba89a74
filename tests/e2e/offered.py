"""A home whose engines come from a GitHub on loopback, and engines for it to offer."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from ..fakes.archives import pack
from ..fakes.binaries import script
from ..fakes.github import FakeGitHub
from .conftest import BUILT, PATIENCE, Home

ARCH = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), "x64")


@dataclass
class OfferedHome(Home):
    """Nothing is on its PATH, so that no engine or compiler of this machine has a say."""

    github: FakeGitHub = field(default_factory=FakeGitHub)
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def env(self):
        return {**Home.env.fget(self), "PATH": str(self.bin), **self.github.env, **self.environ}

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def downloads(self) -> Path:
        return self.data / "cache" / "downloads"

    def engines(self) -> list[dict]:
        return json.loads(self.run("engine", "ls", "--json").stdout)["engines"]

    def channel(self, channel: str, source: str = "auto") -> tuple[str, ...]:
        return "--set", f"engine.channel={channel}", "--set", f"engine.source={source}"

    def close(self) -> None:
        super().close()
        self.github.close()


@dataclass
class Launched:
    """A command that goes on while the test does; what it says on stderr comes line by line."""

    process: subprocess.Popen[str]

    def said(self, words: str) -> str:
        """The next line with these words."""
        heard = []
        for line in self.process.stderr:
            heard.append(line)
            if words in line:
                return line
        raise AssertionError(f"it never said {words!r}: {''.join(heard)}")

    def ended(self) -> tuple[int, str]:
        """The exit code, and the rest that it said."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors

    def killed(self) -> None:
        """With kill -9, and all that it had started is gone as well."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait(PATIENCE)
        _, left = psutil.wait_procs(children, PATIENCE)
        assert left == []


@contextlib.contextmanager
def launched(home: Home, *words: str) -> Iterator[Launched]:
    """Bounded: what hangs is killed, and then never said what was waited for."""
    process = subprocess.Popen(
        home.command(*words),
        env=home.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    bound = threading.Timer(PATIENCE, process.kill)
    bound.start()
    try:
        with process:
            yield Launched(process)
            process.kill()
    finally:
        bound.cancel()


def starting(home: Home, *words: str) -> contextlib.AbstractContextManager[Launched]:
    return launched(home, "start", "--profile", "demo", "--detach", *home.settings, *words)


def archive_name(tag: str, backend: str = "") -> str:
    return f"llama-{tag}-bin-ubuntu-{f'{backend}-' if backend else ''}{ARCH}.tar.gz"


def light(
    home: Home,
    tag: str,
    twist: str = "",
    *,
    name: str = "",
    padding: int = 0,
    becomes: Path | None = None,
    rpc: str = "",
) -> Path:
    """
    An archive of a script that says the number of ``tag`` and ``becomes`` this program, or the really built llama-server.

    That computes on one thread, as other tests run beside.  ``twist`` is done first, and may call that "$REAL"; ``padding`` is the size of a library of zeros that is unpacked before it; ``rpc`` is the script of its RPC server, if it has one.
    """
    name = name or archive_name(tag)
    source = home.root / "sources" / name
    script(
        source / "llama-server",
        f'[ "$1" = --version ] && {{ echo "version: 0.7.0-dev (build {tag[1:]}, commit 1a2b3c4)" >&2; exit 0; }}\n'
        f'REAL="{becomes or os.environ[BUILT]}"\n{twist}\nLLAMA_ARG_THREADS=1 exec "$REAL" "$@"\n',
    )
    if rpc:
        script(source / "ggml-rpc-server", rpc)
    if padding:
        with (source / "libaaa.so").open("wb") as library:
            library.truncate(padding)
    return pack("top-tar", source, home.root / "archives" / name, tag)


def offer(home: OfferedHome, tag: str, twist: str = "", **more) -> str:
    """A release with the one archive that this machine takes; its name."""
    name = archive_name(tag)
    home.github.add(tag, {name: light(home, tag, twist, **more)})
    return name


def wait_for_bytes(folder: Path, pattern: str, size: int) -> Path:
    """The file, as soon as it is there and so large; no event tells of it."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.005)):
        for found in folder.rglob(pattern) if folder.exists() else ():
            if found.stat().st_size >= size:
                return found
        pause.wait(0.005)
    raise AssertionError(f"{pattern} never came to {size} bytes")
