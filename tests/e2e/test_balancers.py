"""
Two supervisors behind the real HAProxy and the real nginx, with the configurations that are shipped.

Whatever dies, an answer that nobody has heard a word of comes from the other box, and the clients see no error.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..fakes.binaries import fake_server
from .conftest import PATIENCE, Home, free_port, until
from .gateway_load import QUESTION, Answer, Clients, Traffic

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the scripted server is a shell script")

SHARE = Path(__file__).parents[2] / "share"
CLIENTS = 6  # half of them stream
BEFORE, AFTER = 30, 60  # answers; what follows a death includes its being noticed
# As conversations are: longer than what a load balancer keeps of a request unless it is told to.
LONG = {"messages": [*QUESTION["messages"], {"role": "user", "content": "word " * 5_000}], "max_tokens": 200}
SHIPPED_ADDRESSES = ("192.168.1.11:8080", "192.168.1.12:8080", "127.0.0.1:9000")
NGINX = """
daemon off; user root; pid {folder}/pid; worker_processes 1; error_log {folder}/log;
events {{ worker_connections 1024; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    include {file};
}}
"""


class Box(Home):
    """A supervisor whose llama-server is a script that says a word every few milliseconds."""

    def __init__(self, root: Path, notice: str = "1s") -> None:
        super().__init__(root, port=free_port())
        self.gate = root / "gate"
        self.gate.parent.mkdir(parents=True)
        self.gate.touch()
        engine = fake_server(root / "engine" / "llama-server", pace=0.005, stream_gate=str(self.gate))
        self.profile(
            "one",
            f"model: demo\nengine: {{source: path, path: {engine}}}\nlisten: {{port: {self.port}}}\n"
            "server: {ctx-size: 262144}\nrestart: {max: 1000, backoff: 10ms}\n"
            f"gateway: {{stop-notice: {notice}}}\n",
        )

    def begin(self) -> None:
        self.run("start", "--profile", "one", "--detach")

    def requests(self) -> int:
        """How many it has answered."""
        return max((each["number"] for each in self.ask_daemon(op="requests", last=1)["requests"]), default=0)


@dataclass
class Balanced:
    """Two boxes, and the port at which a load balancer offers both."""

    boxes: tuple[Box, Box]
    port: int
    name: str

    @property
    def clients(self) -> Clients:
        return Clients(self.boxes[0].root, self.port)

    def until_both_are_up(self) -> None:
        """Until conversations of either box are answered by it again."""
        until(lambda: all(each.status()["server"]["state"] == "ready" for each in self.boxes))


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    made = Box(tmp_path_factory.mktemp("a") / "home"), Box(tmp_path_factory.mktemp("b") / "home")
    for each in made:
        each.begin()
    yield made
    for each in made:
        each.close()


@pytest.fixture(params=["haproxy", "nginx"], scope="module")
def balanced(request, boxes, tmp_path_factory):
    if not shutil.which(request.param):
        pytest.skip(f"there is no {request.param}: bin/test as root on Debian installs it")
    folder = tmp_path_factory.mktemp(request.param)
    port = free_port()
    with running(request.param, folder, [each.port for each in boxes], port):
        yield Balanced(boxes, port, request.param)


@contextmanager
def running(name: str, folder: Path, boxes: list[int], port: int):
    """The load balancer with the configuration that is shipped, but for the addresses."""
    shipped = next((SHARE / name).iterdir())
    text = shipped.read_text("utf-8")
    for address, ours in zip(SHIPPED_ADDRESSES, (*boxes, port), strict=True):
        assert address in text
        text = text.replace(address, f"127.0.0.1:{ours}")
    file = folder / shipped.name
    file.write_text(text, "utf-8")
    if name == "haproxy":
        command = ["haproxy", "-db", "-f", str(file)]
    else:
        outer = folder / "nginx"
        outer.write_text(NGINX.format(folder=folder, file=file))
        command = ["nginx", "-e", str(folder / "log"), "-c", str(outer)]
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        asyncio.run(until_ready_says(200, port, process))
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


async def until_ready_says(status: int, port: int, process: subprocess.Popen) -> None:
    """/supervisor/ready, at a port that this process is about to open."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(OSError):
                if (await Clients(Path(), port).get("/supervisor/ready")).status == status:
                    return
            assert process.poll() is None
            await asyncio.sleep(0.02)


def of_traffic(balanced: Balanced, happens) -> Counter:
    """The outcomes of requests during which ``happens`` is called, in a thread."""

    async def run() -> Counter:
        async with Traffic.of(balanced.clients, CLIENTS, LONG) as traffic:
            await traffic.more(BEFORE)
            await asyncio.to_thread(happens)
            await traffic.more(AFTER)
        return traffic.outcomes

    return asyncio.run(run())


def test_words_of_a_stream_come_as_they_are_said(balanced):
    async def run() -> None:
        for box in balanced.boxes:
            box.gate.unlink()
        stream = balanced.clients.stream()
        await stream.until_text(b"Hello!")
        assert not stream.answer.ended
        for box in balanced.boxes:
            box.gate.touch()
        assert (await stream.result()).outcome == "whole"

    asyncio.run(run())


def test_a_conversation_stays_with_the_box_that_has_its_prompt(balanced):
    async def run(header: str) -> int:
        before = balanced.boxes[0].requests()
        for _ in range(4):
            assert (await balanced.clients.ask(headers=(header,)).result()).outcome == "whole"
        return balanced.boxes[0].requests() - before

    names = ("X-Session-Id", "X-Claude-Code-Session-Id", "session-id", "session_id")
    for number, name in enumerate(names * 2):
        assert asyncio.run(run(f"{name}: {number}")) in {0, 4}


def test_nothing_is_lost_when_a_box_is_stopped(balanced):
    box = balanced.boxes[0]
    outcomes = of_traffic(balanced, lambda: box.run("stop"))
    box.begin()
    assert set(outcomes) == {"whole"}


def test_a_dying_server_costs_at_most_the_streams_under_way(balanced):
    pid = balanced.boxes[0].status()["server"]["pid"]
    outcomes = of_traffic(balanced, lambda: os.kill(pid, signal.SIGKILL))
    balanced.until_both_are_up()
    assert set(outcomes) <= {"whole", "broken"}
    assert outcomes["broken"] <= CLIENTS / 2


def test_a_dying_box_costs_at_most_the_streams_under_way(balanced):
    box = balanced.boxes[0]
    outcomes = of_traffic(
        balanced, lambda: os.kill(box.ask_daemon(op="status")["status"]["daemon"]["pid"], signal.SIGKILL)
    )
    box.begin()
    assert set(outcomes) <= {"whole", "broken"}
    assert outcomes["broken"] <= CLIENTS / 2


def test_stop_now_does_not_wait_until_load_balancers_have_heard_of_it(tmp_path):
    box = Box(tmp_path / "home", notice="1h")
    box.begin()
    try:
        stopping = subprocess.Popen(box.command("stop"), env=box.env, stdout=subprocess.PIPE, text=True)
        asyncio.run(until_ready_says(503, box.port, stopping))
        assert asyncio.run(answer(box)).outcome == "whole"
        box.run("stop", "--now")
        assert "stopped" in stopping.communicate(timeout=PATIENCE)[0]
        assert stopping.returncode == 0
    finally:
        box.close()


async def answer(box: Box) -> Answer:
    return await Clients(box.root, box.port).stream().result()
