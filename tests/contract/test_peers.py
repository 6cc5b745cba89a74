"""Two daemons that are peers, with scripted llama-servers: one is killed, another key, TLS, a graceful stop."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from unittest.mock import patch

import pytest

from supervisor.home import client
from supervisor.home.background_daemon import background_daemon, ordered
from supervisor.plan.listen import Listen, Offer
from supervisor.plan.plan_json import listen_to_json, to_json
from supervisor.profile.peer import Peer

from ..fakes.launching import BOUND_SECONDS, end_daemon, wait_until_gone
from .test_session import Home

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="daemons are watched by pidfd")
QUESTION = {"messages": [{"role": "user", "content": "hi"}]}


class Box(Home):
    """A daemon with one model, called ``model`` by its clients."""

    def __init__(self, root: Path, model: str, *, key: str = "", tls: Path | None = None, **faults) -> None:
        root.mkdir()
        super().__init__(root)
        self.model, self.tls = model, tls
        self.keys = (hashlib.sha256(key.encode()).hexdigest(),) if key else ()
        self.made = self.plan(model, **faults)
        orders = {"foreground": False, "plan": to_json(self.made), "listen": listen_to_json(self.listen(()))}
        with (
            patch.dict(os.environ, GOSS_SUPERVISOR_HOME=str(self.root)),
            background_daemon(self.paths) as daemon,
        ):
            self.daemons.append(daemon)
            assert ordered(self.paths, daemon, json.dumps(orders).encode(), lambda _: None)["outcome"]

    def listen(self, peers: tuple[Peer, ...]) -> Listen:
        files = (f"{self.tls}.crt", str(self.tls)) if self.tls else ("", "")
        return Listen(
            self.model,
            "127.0.0.1",
            self.port,
            offers=(Offer(self.model, (self.model,)),),
            keys=self.keys,
            tls_certificate=files[0],
            tls_key=files[1],
            peers=peers,
        )

    def name_peers(self, *peers: Peer) -> None:
        """As ``reload`` does; until each has been looked at."""
        listen = listen_to_json(self.listen(peers))
        client.follow(
            self.paths, {"op": "reload", "plan": to_json(self.made), "listen": listen}, lambda _: None
        )
        self.until(lambda found: all(each["state"] != "unknown" for each in found))

    def until(self, holds):
        """The peers, once they are as wanted."""

        def wanted(status):
            found = status["gateway"]["peers"]
            return found if holds(found) else None

        return self.watch(wanted)

    @property
    def pid(self) -> int:
        return self.daemons[-1].pid

    def peer(self, name: str, **more) -> Peer:
        scheme = "https" if self.tls else "http"
        return Peer(f"{scheme}://localhost:{self.port}", name, **more)

    def ask(self, op="status", **fields):
        return super().ask(op, **fields)

    @contextlib.contextmanager
    def post(self, model: str, *, stream: bool = False):
        """The response to a question, whose body has not been read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=BOUND_SECONDS)
        body = json.dumps({**QUESTION, "model": model, "stream": stream})
        with contextlib.closing(connection):
            connection.request("POST", "/v1/chat/completions", body)
            with connection.getresponse() as response:
                yield response

    def question(self, model: str) -> tuple[int, dict]:
        with self.post(model) as response:
            return response.status, json.loads(response.read())


@pytest.fixture
def box(tmp_path):
    """Makes boxes, and ends them."""
    made = []

    def make(name: str, model: str, **more) -> Box:
        made.append(Box(tmp_path / name, model, **more))
        return made[-1]

    yield make
    for each in made:
        end_daemon(each.root)
        for daemon in each.daemons:
            daemon.wait(BOUND_SECONDS)


def in_background(asked):
    """What ``asked`` returns, once it is joined."""
    found = []
    thread = threading.Thread(target=lambda: found.append(asked()), daemon=True)
    thread.start()

    def result():
        thread.join(BOUND_SECONDS)
        return found[0]

    return result


def test_a_daemon_that_is_killed_before_it_answers_costs_the_client_nothing(box, tmp_path):
    gate = tmp_path / "gate"
    first, second = box("first", "m", chat_gate=gate), box("second", "m")
    front = box("front", "p")
    front.name_peers(first.peer("first"), second.peer("second"))
    answer = in_background(lambda: front.question("m"))
    front.until(lambda found: found[0]["requests_under_way"] == 1)
    os.kill(first.pid, signal.SIGKILL)
    status, said = answer()
    assert (status, said["choices"][0]["message"]["content"]) == (200, "Hello from the fake.")
    [record] = list(client.stream(front.paths, {"op": "requests", "since": 0, "follow": False, "last": 1}))[
        -1
    ]["requests"]
    assert (record["profile"], record["replayed"]) == ("second/m", True)
    front.until(lambda found: found[0]["state"] == "down" and "cannot be reached" in found[0]["why"])


def test_a_daemon_that_is_killed_while_it_streams_breaks_the_answer_visibly(box, tmp_path):
    big, front = box("big", "m", stream_gate=tmp_path / "gate"), box("front", "p")
    front.name_peers(big.peer("big"))
    with front.post("big/m", stream=True) as response:
        assert response.read(10)
        os.kill(big.pid, signal.SIGKILL)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)) as broken:
            response.read()
    assert b"[DONE]" not in getattr(broken.value, "partial", b"")
    front.until(lambda found: found[0]["state"] == "down")
    status, said = front.question("m")
    assert (status, said["error"]["code"]) == (503, "peer_down")


def test_a_graceful_stop_lets_a_peers_answer_finish(box, tmp_path):
    gate = tmp_path / "gate"
    big, front = box("big", "m", chat_gate=gate), box("front", "p")
    front.name_peers(big.peer("big"))
    answer = in_background(lambda: front.question("m"))
    front.until(lambda found: found[0]["requests_under_way"] == 1)
    os.kill(front.pid, signal.SIGTERM)
    front.watch(lambda status: status["server"]["state"] == "stopped")
    gate.touch()
    assert answer()[0] == 200
    assert wait_until_gone(front.pid)


def test_a_wrong_key_is_told_and_the_right_one_needs_no_restart(box):
    big, front = box("big", "m", key="right"), box("front", "p")
    front.name_peers(big.peer("big", secret="wrong", models=("m",)))
    [found] = front.until(lambda found: found[0]["state"] == "down")
    assert "it refuses requests without a key (401)" in found["why"]
    assert front.question("m")[1]["error"]["code"] == "peer_down"
    front.name_peers(big.peer("big", secret="right"))
    assert front.question("m")[0] == 200
    shown = json.dumps(front.ask()) + Path(front.paths.logs / "daemon.log").read_text()
    assert "wrong" not in shown.replace("wrong_", "")
    assert "right" not in shown


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    made = tmp_path_factory.mktemp("tls") / "key.pem"
    words = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout {made} -out {made}.crt"
    subprocess.run(
        [*words.split(), "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True
    )
    return made


def test_an_https_peer_is_verified_and_its_streams_are_whole(box, certificate):
    big, front = box("big", "m", tls=certificate), box("front", "p")
    front.name_peers(big.peer("big"))
    [found] = front.until(lambda found: found[0]["state"] == "down")
    assert "CERTIFICATE_VERIFY_FAILED" in found["why"]
    front.name_peers(big.peer("big", ca_file=f"{certificate}.crt"))
    for _ in range(2):
        with front.post("m", stream=True) as response:
            assert response.read().endswith(b"data: [DONE]\n\n")
