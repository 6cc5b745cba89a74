"""The first day as a person has it: an empty home, a real terminal, and a start that nobody configured."""

from __future__ import annotations

import json
import os
import platform
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from supervisor.engine.catalogue.catalogue import read_release
from supervisor.hardware.detection import VARIABLE
from supervisor.hardware.hardware import Cpu, Hardware
from supervisor.hardware.wire import to_json
from supervisor.model.demo import DEMO_ANSWER, ensure_demo

from .. import pin_release
from ..fakes.archives import pack
from ..fakes.hub import FakeHub
from ..fakes.web import cut, hang, honest
from .conftest import BUILT, PATIENCE, free_port, is_free
from .offered import ARCH, OfferedHome, archive_name, offer, wait_for_bytes
from .terminals import CTRL_C, Terminal, open_terminal

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(sys.platform != "linux", reason="the engine is a Linux archive"),
]

TAG = "b11434"  # the number of the really built engine
REPO, FILE = "ggml-org/gpt-oss-20b-GGUF", "gpt-oss-20b-mxfp4.gguf"
GIB = 1024**3

# The program as it is, but for the build that it comes pinned with, and for pauses before it tries again.
PROGRAM = """\
import sys
from pathlib import Path
from supervisor.cli.app import main
from supervisor.download import fetch
from supervisor.engine.catalogue import pins
pins.DEFAULT_TAG, pins._DATA = {tag!r}, Path({folder!r})
object.__setattr__(fetch.DEFAULT_RETRY, "pauses_seconds", (0.0,))
sys.exit(main(sys.argv[1:]))
"""


@dataclass
class FirstDay(OfferedHome):
    """Engines come from a GitHub on loopback, the model of the profile that suits from a hub beside it."""

    hub: FakeHub = field(default_factory=FakeHub)
    terminals: list[Terminal] = field(default_factory=list)

    @property
    def env(self):
        return {**OfferedHome.env.fget(self), **self.hub.env, "TERM": "xterm"}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-I", str(self.root.parent / "program.py"), *words]

    def start_on_a_terminal(self, *words: str) -> Terminal:
        terminal = open_terminal(self.command("start", *self.settings, *words), self.env)
        self.started.append(terminal.process)
        self.terminals.append(terminal)
        return terminal

    def pin(self, name: str) -> None:
        """The release with this archive is the one that this version comes with."""
        folder = self.root.parent / "pins"
        folder.mkdir()
        [document] = [each for each in self.github.documents if each["tag_name"] == TAG]
        release = read_release(document, self.github.access(), "the test")
        assert release.find(name) is not None
        (folder / f"{TAG}.lock.json").write_text(pin_release.render(release))
        program = PROGRAM.format(tag=TAG, folder=str(folder))
        (self.root.parent / "program.py").write_text(program, encoding="utf-8")

    def on_a_machine_with(self, ram_gib: int) -> None:
        machine = Hardware(
            "linux",
            {"x64": "x86_64"}.get(ARCH, ARCH),
            os_name="Some Linux 1",
            libc="glibc",
            libc_version=platform.libc_ver()[1],
            cpu=Cpu("Some CPU", 8, 8, 16, ("avx2",)),
            ram_bytes=ram_gib * GIB,
            available_bytes=ram_gib * GIB,
            disk_free_bytes=100 * GIB,
        )
        box = self.root.parent / "box.json"
        box.write_text(json.dumps(to_json(machine)), encoding="utf-8")
        self.environ[VARIABLE] = str(box)

    @property
    def model(self) -> str:
        """The path of its file on the hub's storage."""
        return self.hub.stored(REPO, FILE)

    def close(self) -> None:
        super().close()
        self.hub.close()
        for terminal in self.terminals:
            os.close(terminal.screen)


def made(tmp_path: Path) -> FirstDay:
    day = FirstDay(tmp_path / "home", (), free_port())
    day.on_a_machine_with(32)
    day.hub.add(REPO, {FILE: ensure_demo(tmp_path / "made").read_bytes()})
    return day


@pytest.fixture
def built() -> Path:
    if BUILT not in os.environ:
        pytest.skip(f"{BUILT} is not set: run bin/test")
    return Path(os.environ[BUILT])


@pytest.fixture
def day(tmp_path, built):
    day = made(tmp_path)
    day.pin(offer(day, TAG))
    yield day
    day.close()


@pytest.fixture
def whole_day(tmp_path, built):
    """With the archive of a whole engine."""
    day, name = made(tmp_path), archive_name(TAG)
    day.github.add(TAG, {name: pack("top-tar", built.parent, tmp_path / name, TAG)})
    day.pin(name)
    yield day
    day.close()


def in_order(said: str, *words: str) -> None:
    places = [said.find(each) for each in words]
    assert -1 not in places, f"{words[places.index(-1)]!r} is missing: {said}"
    assert places == sorted(places), said


def test_from_nothing_to_an_answer_and_the_second_start_asks_nothing(whole_day):
    day = whole_day
    first = day.start_on_a_terminal()
    first.until("[Y/n]")
    assert (day.github.downloads, day.hub.ranges(FILE).count(None)) == ([], 0)
    first.type("y\n")
    first.until("look     goss-supervisor status")
    server = day.status()["server"]["pid"]
    assert day.run("ask", "What are you?").stdout.strip() == DEMO_ANSWER
    first.type(CTRL_C)
    assert first.end() == 0, first.said
    in_order(
        first.said,
        "profile: gpt-oss-20b, which fits this machine best",
        "machine  Some Linux 1, Some CPU, 32.0 GiB RAM, no GPU",
        f"engine   ggml-org/llama.cpp {TAG} cpu: ",
        f"model    {REPO}, {FILE}: 4 MB to download",
        "memory   needs ",
        f"address  127.0.0.1 port {day.port}, this computer only",
        "MB and start? [Y/n]: y",
        f"downloading {archive_name(TAG)}",
        f"unpacking llama.cpp {TAG}",
        f"proving llama.cpp {TAG}",
        f"downloading {FILE}",
        f"engine: ggml-org/llama.cpp {TAG} (cpu): the official release",
        "gpt-oss-20b: starting",
        "ready at",
        "Next, in another terminal:",
        f"chat     http://127.0.0.1:{day.port} in a browser",
        'ask      goss-supervisor ask "What are you?"',
        f"http://127.0.0.1:{day.port}/v1 is the base URL",
        "stopping; once more to stop now",
        "gpt-oss-20b: stopped (asked to stop)",
    )
    assert not psutil.pid_exists(server)
    assert is_free(day.port)
    day.run("status", code=3)

    again = day.start_on_a_terminal()
    again.until("ready at")
    again.type(CTRL_C)
    assert again.end() == 0, again.said
    assert again.said.startswith("profile: gpt-oss-20b, the last one used\nengine: ")
    assert [each for each in ("[Y/n]", "downloading", "goss-supervisor ask") if each in again.said] == []
    assert (day.github.downloads, day.hub.ranges(FILE).count(None)) == ([archive_name(TAG)], 1)


def test_who_says_no_has_nothing_on_disk_and_is_told_what_else_there_is(day):
    asked = day.start_on_a_terminal()
    asked.until("[Y/n]")
    asked.type("n\n")
    assert asked.end() == 1
    assert "Nothing was downloaded or started.\nhint: goss-supervisor start --profile demo" in asked.said
    assert "error:" not in asked.said
    assert day.github.downloads == []
    assert [*day.data.glob("engines/*"), *day.data.glob("models/*")] == []


def test_without_any_network_that_is_said_before_anybody_is_asked(day):
    day.github.close()
    day.hub.close()
    refused = day.start_on_a_terminal()
    assert refused.end() == 8
    in_order(refused.said, f"error: The model {REPO}/{FILE} is not on this machine, and cannot be had: ")
    in_order(refused.said, "hint: Check the network. A proxy can be set as HTTPS_PROXY", "put its files at")
    assert "[Y/n]" not in refused.said


def test_a_network_that_dies_in_the_middle_of_the_model_costs_nothing_that_had_come(day):
    came = 700_000
    day.hub.storage.fault(day.model, honest, cut(came), cut(0))  # the first one reads the header
    broken = day.start_on_a_terminal()
    broken.until("[Y/n]")
    broken.type("\n")
    assert broken.end() == 8
    assert f"\nerror: {FILE} cannot be downloaded: " in broken.said
    assert "hint: Run the command again: it goes on where it stopped." in broken.said

    again = day.start_on_a_terminal()
    again.until("3 MB to download")
    again.until("[Y/n]")
    again.type("\n")
    again.until("ready at")
    assert day.hub.ranges(FILE)[-1] == f"bytes={came}-"
    assert len(day.github.downloads) == 1
    assert day.run("ask", "What are you?").stdout.strip() == DEMO_ANSWER
    again.type(CTRL_C)
    assert again.end() == 0


def test_ctrl_c_in_the_middle_of_the_model_ends_it_and_the_next_start_goes_on(day):
    came = 700_000
    day.hub.storage.fault(day.model, honest, hang(came))
    stopped = day.start_on_a_terminal("--yes")
    wait_for_bytes(day.data, f"{FILE}.part", came)
    stopped.type(CTRL_C)
    assert stopped.end() == 130
    assert "interrupted" in stopped.said
    day.start_on_a_terminal("--yes").until("ready at")
    assert day.hub.ranges(FILE)[-1] == f"bytes={came}-"


def test_a_machine_that_is_too_small_for_any_model_gets_the_demo_and_hears_why(day):
    day.on_a_machine_with(2)
    small = day.start_on_a_terminal()
    small.until("[Y/n]")
    in_order(small.said, "profile: demo", "it has 2 GiB of memory, and gpt-oss-20b needs 16 GiB")
    assert "model    the demo, a few MB that are made here" in small.said
    small.type("y\n")
    small.until("demo: ready at")
    small.type(CTRL_C)
    assert small.end() == 0
    assert day.hub.storage.requests == []


def test_a_port_that_is_taken_is_said_before_anything_is_downloaded(day):
    with socket.create_server(("127.0.0.1", day.port)):
        refused = day.start_on_a_terminal()
        assert refused.end() == 10
    assert f"error: Port {day.port} is taken by " in refused.said
    assert f"goss-supervisor start gpt-oss-20b --set listen.port={day.port + 1}" in refused.said
    assert "[Y/n]" not in refused.said
    assert day.github.downloads == []


def test_a_terminal_that_is_closed_ends_what_runs_in_it(day):
    day.on_a_machine_with(2)
    first = day.start_on_a_terminal("--yes")
    first.until("look     goss-supervisor status")
    server = day.status()["server"]["pid"]
    day.terminals.remove(first)
    os.close(first.screen)
    assert first.process.wait(PATIENCE) == 0
    assert not psutil.pid_exists(server)
    assert "its terminal was closed" in (day.root / "logs" / "daemon.log").read_text()
