"""The gateway's sockets outlive the daemon in the hands of a manager that the test plays."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from supervisor.gateway.socket_store import SocketStore, socket_name
from supervisor.home import client
from supervisor.paths import Paths
from supervisor.plan.listen import Listen
from supervisor.plan.plan_json import listen_to_json, to_json
from supervisor.profile.definition import GatewaySettings

from ..fakes.launching import BOUND_SECONDS, free_port
from ..fakes.manager import FakeManager
from ..fakes.relay import post
from .test_notify import daemon
from .test_server import behind, plan

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")

CHAT = post(b"{}")


@pytest.fixture
def manager(tmp_path):
    with FakeManager(tmp_path) as played:
        yield played


@pytest.fixture
def short():
    with tempfile.TemporaryDirectory(prefix="goss-") as folder:
        yield Path(folder)


def at_port(host="127.0.0.1", port=None):
    return Listen("p", host, port or free_port())


def gateway(manager, tmp_path, at):
    return daemon(manager, tmp_path, behind(plan(tmp_path)), listen=listen_to_json(at))


def killed(manager, tmp_path, at):
    """A daemon that listened there was killed once it was ready; its messages."""
    with gateway(manager, tmp_path, at) as process:
        heard = manager.until("READY")
        process.kill()
        process.wait()
    return heard


def asked(address) -> socket.socket:
    """A client that has connected and asked."""
    made = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    made.settimeout(BOUND_SECONDS)
    try:
        made.connect(address)
    except OSError:
        made.close()
        raise
    made.sendall(CHAT)
    return made


def answered(waiting: socket.socket) -> bool:
    with waiting:
        data = waiting.recv(65536)
    assert data.startswith(b"HTTP/1.1 200 "), data
    return True


def about_sockets(messages):
    return [message for message in messages if "FDNAME" in message]


# --- a real daemon, and the fake llama-server


def test_who_connects_while_no_daemon_runs_waits_for_the_next_one(manager, tmp_path):
    at = at_port()
    name = f"gateway-127.0.0.1-{at.port}"
    stored = about_sockets(killed(manager, tmp_path, at))
    assert stored == [{"FDSTORE": "1", "FDNAME": name, "FDPOLL": "0"}]
    waiting = asked(("127.0.0.1", at.port))
    with gateway(manager, tmp_path, at):
        heard = manager.until("READY")
        assert answered(waiting)
        assert answered(asked(("127.0.0.1", at.port)))
    assert about_sockets(heard) == [], "it is stored already"
    assert "the service manager has kept" in (tmp_path / "home" / "logs" / "daemon.log").read_text()


def test_after_a_stop_clients_are_refused_even_by_a_manager_that_is_slow_to_hear_of_it(manager, tmp_path):
    at = at_port()
    with gateway(manager, tmp_path, at) as process:
        manager.until("READY")
        process.terminate()
        process.wait(BOUND_SECONDS)
    assert len(manager.stored) == 1  # it has not read what was sent
    with pytest.raises(ConnectionRefusedError):
        asked(("127.0.0.1", at.port))
    manager.rest()
    assert manager.stored == {}


def test_no_process_of_ours_inherits_what_was_passed(manager, tmp_path):
    at = at_port()
    killed(manager, tmp_path, at)
    inodes = {os.fstat(each).st_ino for each in manager.stored.values()}
    with gateway(manager, tmp_path, at):
        manager.until("READY")
        server = json.loads((tmp_path / "starts").read_text().splitlines()[-1])
        links = [os.readlink(each) for each in Path(f"/proc/{server['pid']}/fd").iterdir()]
    assert not {f"socket:[{each}]" for each in inodes} & set(links)
    assert not {"LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"} & server["env"].keys()


def test_the_file_of_a_socket_stays_the_same_and_goes_with_a_stop(manager, tmp_path, short):
    file = short / "in.sock"
    at = Listen("p", str(file), 0)
    assert [each["FDNAME"] for each in about_sockets(killed(manager, tmp_path, at))] == [f"gateway-{file}"]
    before, waiting = file.stat(), asked(str(file))
    with gateway(manager, tmp_path, at):
        manager.until("READY")
        assert answered(waiting)
        assert file.stat() == before
    assert not file.exists()
    assert [each for each in about_sockets(manager.rest()) if "FDSTORE" in each] == []
    assert manager.stored == {}


def test_a_socket_whose_file_was_removed_meanwhile_is_replaced(manager, tmp_path, short):
    file = short / "in.sock"
    at = Listen("p", str(file), 0)
    killed(manager, tmp_path, at)
    file.unlink()
    with gateway(manager, tmp_path, at):
        heard = about_sockets(manager.until("READY"))
        assert answered(asked(str(file)))
    assert [next(iter(each)) for each in heard] == ["FDSTOREREMOVE", "FDSTORE"]


def test_of_several_addresses_those_that_are_not_wanted_any_more_end(manager, tmp_path):
    port = free_port()
    killed(manager, tmp_path, at_port("127.0.0.1,127.0.0.2", port))
    assert len(manager.stored) == 2
    waiting, unwanted = asked(("127.0.0.1", port)), asked(("127.0.0.2", port))
    with gateway(manager, tmp_path, at_port("127.0.0.1,127.0.0.3", port)):
        manager.until("READY")
        assert answered(waiting)
        assert answered(asked(("127.0.0.3", port)))
        with pytest.raises(ConnectionError):
            unwanted.recv(1)
        assert manager.stored.keys() == {f"gateway-127.0.0.{each}-{port}" for each in (1, 3)}
    unwanted.close()


def test_a_plan_without_a_gateway_gets_the_address_and_nothing_is_stored(manager, tmp_path):
    own = plan(tmp_path)
    killed(manager, tmp_path, at_port(port=own.port))
    with daemon(manager, tmp_path, own):
        manager.until("READY")
        assert answered(asked(("127.0.0.1", own.port)))
        assert manager.stored == {}


def test_another_address_is_stored_and_the_former_one_removed(manager, tmp_path):
    first, second = at_port(), at_port()
    start = {"op": "start", "plan": to_json(behind(plan(tmp_path))), "listen": listen_to_json(second)}
    with gateway(manager, tmp_path, first):
        manager.until("READY")
        client.ask(Paths.under(tmp_path / "home"), start)
        manager.rest()
        assert manager.stored.keys() == {f"gateway-127.0.0.1-{second.port}"}
        with pytest.raises(ConnectionRefusedError):
            asked(("127.0.0.1", first.port))


def test_other_hosts_at_the_same_port_do_not_wait_for_the_manager(manager, tmp_path):
    """It may still hold the former sockets when the new ones are bound."""
    port = free_port()
    wider = listen_to_json(Listen("p", "0.0.0.0", port, GatewaySettings(allow_unauthenticated=True)))
    start = {"op": "start", "plan": to_json(behind(plan(tmp_path))), "listen": wider}
    with gateway(manager, tmp_path, at_port(port=port)):
        manager.until("READY")
        assert client.ask(Paths.under(tmp_path / "home"), start)["outcome"]["result"] == "ready"
        assert manager.stored.keys() == {f"gateway-127.0.0.1-{port}"}
        assert answered(asked(("127.0.0.1", port)))
        manager.rest()
        assert manager.stored.keys() == {f"gateway-0.0.0.0-{port}"}


def test_after_an_upgrade_in_place_the_store_has_the_same_sockets_and_loses_them_at_the_end(
    manager, tmp_path
):
    at, home = at_port(), tmp_path / "home"
    with gateway(manager, tmp_path, at) as process:
        manager.until("READY")
        upgrade = subprocess.run(
            [sys.executable, "-P", "-m", "supervisor", "upgrade-daemon"],
            env={"PATH": os.environ["PATH"], "HOME": str(home), "GOSS_SUPERVISOR_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=BOUND_SECONDS,
        )
        assert upgrade.returncode == 0, upgrade.stderr
        assert answered(asked(("127.0.0.1", at.port)))
        assert about_sockets(manager.rest()) == []
        process.terminate()
        assert process.wait(BOUND_SECONDS) == 0
    assert len(about_sockets(manager.rest())) == 1
    assert manager.stored == {}


# --- its parts


class Keeper:
    """A manager that notes what it is told."""

    stores = True

    def __init__(self):
        self.told = []

    def store(self, name, descriptor):
        self.told.append(("store", name, descriptor))

    def unstore(self, name):
        self.told.append(("unstore", name))


def listening(family=socket.AF_INET, address=("127.0.0.1", 0)):
    made = socket.socket(family)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(address)
    made.listen()
    return made


def claimed(passed, port=0):
    """By address, what a store claims of sockets with these names for 127.0.0.1; and what its manager is told."""
    keeper = Keeper()
    store = SocketStore(keeper, [(name, each.detach()) for name, each in passed])
    found = store.claim(["127.0.0.1"], port)
    assert store.claim(["127.0.0.1"], port) == {}, "they are claimed once"
    return found, keeper.told


def test_a_socket_is_claimed_only_where_it_listens_at_exactly_that_address():
    right = listening()
    port = right.getsockname()[1]
    name = socket_name("127.0.0.1", port)
    other, not_yet, packets = listening(), socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
    packets.bind(("127.0.0.1", port))
    for wrong in (other, not_yet, packets):
        assert claimed([(name, wrong)], port) == ({}, [("unstore", name)])
    found, told = claimed([(name, right)], port)
    assert [each.getsockname() for each in found.values()] == [("127.0.0.1", port)]
    assert told == []
    found["127.0.0.1"].close()


def test_sockets_of_others_are_closed_and_go_on_where_they_are():
    one, (reading, writing) = listening(), os.pipe()
    keeper = Keeper()
    store = SocketStore(keeper, [("their.socket", os.dup(one.fileno())), ("opened", reading)])
    assert store.claim([]) == {}
    assert keeper.told == [("unstore", "their.socket"), ("unstore", "opened")]
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"x")
    os.close(writing)
    socket.create_connection(one.getsockname()).close()
    one.close()


def test_a_wildcard_that_is_not_wanted_does_not_keep_its_port_from_others():
    former = listening(address=("0.0.0.0", 0))
    kept, port = os.dup(former.fileno()), former.getsockname()[1]
    found, _ = claimed([(socket_name("0.0.0.0", port), former)], port)
    assert found == {}
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", port))
    os.close(kept)


@pytest.mark.parametrize(
    ("address", "port", "name"),
    [
        ("127.0.0.1", 8080, "gateway-127.0.0.1-8080"),
        ("::1", 8080, "gateway-%3a%3a1-8080"),
        ("/run/a:b%c.sock", 0, "gateway-/run/a%3ab%25c.sock"),
        ("/run/\u00e4\n.sock", 0, "gateway-/run/%e4%0a.sock"),
    ],
)
def test_each_address_has_a_name_that_systemd_takes(address, port, name):
    assert socket_name(address, port) == name


def test_a_name_is_never_too_long_and_still_one_for_each():
    names = {socket_name("/" + letter * 100, 0) for letter in ("\u00fc", "\u00fd")}
    assert len(names) == 2
    assert max(map(len, names)) < 256
