"""Faults of addresses, folders and downloads."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path

from supervisor.model.demo import write_demo

from ..fakes.hub import FakeHub
from ..fakes.web import both, corrupt, cut, status
from .fault import fault
from .ground import Ground, json_of

PLACE, HUB = "Addresses and folders", "Downloads"


@fault(
    PLACE,
    "the port is taken",
    how="another program listens there",
    promise="the start is refused; the error names that program",
)
def _(ground: Ground) -> str:
    ground.write_profile("one")
    with socket.create_server(("127.0.0.1", ground.port)):
        done = ground.run("start", "-p", "one", "-d", code=10)
    assert str(os.getpid()) in done.stderr
    return f"exit code 10: {ground.plain(done.stderr).replace(str(os.getpid()), 'PID').partition(':')[0]}"


@fault(
    PLACE,
    "the address is not of this machine",
    how="`listen.host: 192.0.2.1`",
    promise="the start is refused; the error names the address; nothing is left",
)
def _(ground: Ground) -> str:
    ground.write_profile("one", listen={"host": "192.0.2.1", "port": ground.port})
    return ground.refused(10, "192.0.2.1")


@fault(PLACE, "it is started twice", how="`start` while it runs", promise="refused; the error names who runs")
def _(ground: Ground) -> str:
    ground.serve()
    pid = ground.daemon().pid
    done = ground.run("start", "-p", "one", "-d", code=4)
    assert str(pid) in done.stderr
    return f"exit code 4: {ground.plain(done.stderr).replace(str(pid), 'PID')}"


@fault(
    PLACE,
    "it is started five times at once",
    how="five commands in parallel",
    promise="one daemon and one server; the others are refused",
)
def _(ground: Ground) -> str:
    ground.write_profile("one")
    codes: list[int] = []
    starts = [
        threading.Thread(
            target=lambda: codes.append(ground.run("start", "-p", "one", "-d", code=None).returncode)
        )
        for _ in range(5)
    ]
    for each in starts:
        each.start()
    for each in starts:
        each.join()
    servers = [words for words in ground.commands().values() if words[0].endswith("llama-server")]
    assert len(servers) == 1, servers
    assert codes.count(0) == 1, codes
    return f"one server; exit codes {', '.join(map(str, sorted(codes)))}"


@fault(
    PLACE,
    "the home's path is too long for a socket",
    how="a path of 150 letters",
    promise="it works, with its sockets elsewhere, and removes them",
)
def _(ground: Ground) -> str:
    deep = ground.root / ("d" * 120)
    deep.mkdir()
    ground.write_profile("one")
    shutil.move(ground.root / "config", deep / "config")
    env = {"GOSS_SUPERVISOR_HOME": str(deep)}
    ground.run("start", "-p", "one", "-d", env=env)
    control = Path(json_of(ground.run("status", "--json", env=env))["daemon"]["control"])
    assert control.exists()
    ground.run("stop", env=env)
    assert not control.exists()
    return "started, asked and stopped"


@fault(PLACE, "the home is a file", how="GOSS_SUPERVISOR_HOME names one", promise="an error that names it")
def _(ground: Ground) -> str:
    blocked = ground.root / "file"
    blocked.touch()
    done = ground.run("start", "-p", "demo", "-d", env={"GOSS_SUPERVISOR_HOME": str(blocked)}, code=None)
    assert done.returncode in {1, 11}
    assert str(blocked) in done.stderr
    assert "Traceback" not in done.stderr
    return f"exit code {done.returncode}: {ground.plain(done.stderr)}"


@fault(
    PLACE,
    "the home is read-only",
    how="a read-only mount",
    promise="an error that names the folder; nothing is left",
    needs_root=True,
)
def _(ground: Ground) -> str:
    ground.small_disk()
    ground.write_profile("one")
    subprocess.run(["mount", "-o", "remount,ro", str(ground.root)], check=True)
    done = ground.run("start", "-p", "one", "-d", code=None)
    assert done.returncode in {1, 11}, done
    assert str(ground.root) in done.stderr
    assert "Traceback" not in done.stderr
    return f"exit code {done.returncode}: {ground.plain(done.stderr)}"


@fault(
    PLACE,
    "the disk is full at the start",
    how="its home is on a file system that is full",
    promise="it serves, or an error names the folder; nothing is left",
    needs_root=True,
)
def _(ground: Ground) -> str:
    ground.small_disk()
    ground.write_profile("one")
    with ground.full_disk():
        done = ground.run("start", "-p", "one", "-d", code=None)
        assert "Traceback" not in done.stderr, done.stderr
    if done.returncode:
        assert not (left := ground.processes()), left
        return f"exit code {done.returncode}: {ground.plain(done.stderr)}"
    return f"it serves: {ground.ask()}"


for _folder_name in ("run", "state", "logs"):

    @fault(
        PLACE,
        f"`{_folder_name}` is a file",
        how="a file instead of that folder",
        promise="an error that names it; nothing is left",
    )
    def _(ground: Ground, name: str = _folder_name) -> str:
        ground.write_profile("one")
        (ground.root / name).touch()
        done = ground.run("start", "-p", "one", "-d", code=None)
        assert done.returncode in {1, 11}, done
        assert f"/{name}" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
        return f"exit code {done.returncode}: {ground.plain(done.stderr)}"


# --- downloads: a model of a hub that goes wrong

_REPO, _MODEL = "me/demo-GGUF", "demo.gguf"

for _name, _how, _spoil, _code in (
    ("is cut off, three times", "the connection ends after 1 MB each time", [cut(1_000_000)] * 3, 0),
    ("gets a 500, then a 503", "the hub's first two answers", [status(500), status(503)], 0),
    ("is corrupt, once", "one byte is wrong", [corrupt(2_000_000)], 0),
    ("is corrupt each time", "the same, twenty times", [corrupt(2_000_000)] * 20, 9),
    ("is cut off and corrupt", "both", [both(cut(1_000_000), corrupt(3))], 0),
    ("no longer exists", "404 for the file, twenty times", [status(404)] * 20, None),
):

    @fault(
        HUB,
        f"a model's file {_name}",
        how=_how,
        promise="the file has the right digest in the end, or the download refuses and deletes it",
    )
    def _(ground: Ground, spoil=_spoil, code: int | None = _code) -> str:
        source = ground.root / "source.gguf"
        write_demo(source)
        with FakeHub() as hub:
            hub.add(_REPO, {_MODEL: source.read_bytes()})
            hub.storage.fault(hub.stored(_REPO, _MODEL), *spoil)
            done = ground.run("model", "pull", _REPO, env=hub.env, code=code)
        kept = ground.root / "data" / "models" / _REPO / _MODEL
        assert "Traceback" not in done.stderr, done.stderr
        if done.returncode == 0:
            assert kept.read_bytes() == source.read_bytes()
            return "whole, with the right digest"
        assert not kept.exists()
        return f"exit code {done.returncode}: {ground.plain(done.stderr)}"


@fault(
    HUB,
    "the hub does not answer",
    how="nobody listens at its address",
    promise="an error says so; local models work",
)
def _(ground: Ground) -> str:
    with FakeHub() as hub:
        env = hub.env
    done = ground.run("model", "pull", _REPO, env=env, code=8)
    assert "Traceback" not in done.stderr
    assert json.loads(ground.run("model", "ls", "--json").stdout)["models"] == []
    return f"exit code 8: {ground.plain(done.stderr)}"
