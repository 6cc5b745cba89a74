"""Faults of what a start is given: engine, model, profile, settings, address and folders."""

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

MODEL, ENGINE, PROFILE, PLACE, HUB = (
    "The model's file",
    "The engine's file",
    "Profiles and settings",
    "Addresses and folders",
    "Downloads",
)
_NAMED = "refused before anything starts, with what it is and what to do; nothing is left"

# --- the model


def _folder(path: Path) -> None:
    path.mkdir()


def _half(path: Path) -> None:
    write_demo(path)
    os.truncate(path, path.stat().st_size // 2)


def _unknown(path: Path) -> None:
    write_demo(path)
    path.write_bytes(path.read_bytes().replace(b"gpt-oss", b"gpt-ess"))


for _name, _how, _code, _word, _make in (
    ("is not there", "`model.path` names nothing", 5, "there is no", lambda _: None),
    ("is empty", "0 bytes", 9, "empty", lambda path: path.touch()),
    (
        "is a web page",
        "HTML in place of the model",
        9,
        "HTML",
        lambda path: path.write_bytes(b"<!DOCTYPE html><html>"),
    ),
    (
        "is a pointer of git-lfs",
        "the 130 bytes that a clone without git-lfs has",
        9,
        "git-lfs",
        lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
    ),
    (
        "is of the format before GGUF",
        "it begins with `ggjt`",
        9,
        "ggjt",
        lambda path: path.write_bytes(b"tjgg" + bytes(100)),
    ),
    ("is random", "1 MiB of noise", 9, "GGUF", lambda path: path.write_bytes(os.urandom(1 << 20))),
    ("is cut off", "the first half of it", 9, "", _half),
    ("is a folder", "a folder of that name", 5, "", _folder),
    (
        "has an architecture that nobody knows",
        "the demo, with another word in its header",
        10,
        "gpt-ess",
        _unknown,
    ),
):

    @fault(
        MODEL,
        _name,
        how=_how,
        promise=_NAMED if _code != 10 else "llama-server's own reason; nothing is left",
    )
    def _(ground: Ground, make=_make, code: int = _code, word: str = _word) -> str:
        model = ground.root / "model.gguf"
        make(model)
        ground.write_profile("one", model={"path": str(model)})
        return ground.refused(code, word)


# --- the engine


def _file(content: bytes, mode: int = 0o755):
    def make(path: Path) -> None:
        path.write_bytes(content)
        path.chmod(mode)

    return make


for _name, _how, _code, _make in (
    ("is not there", "`engine.path` names nothing", 6, lambda _: None),
    ("is not executable", "mode 0644", 6, _file(b"#!/bin/sh\nexit 0\n", 0o644)),
    ("is no program", "text, executable", 6, _file(b"not a program\n")),
    ("is a folder", "a folder of that name", 6, _folder),
    ("is empty", "0 bytes, executable", 6, _file(b"")),
    ("says nothing", "a script that exits with 0 whatever it is asked", 6, _file(b"#!/bin/sh\nexit 0\n")),
    (
        "crashes when it is asked for its version",
        "a script that kills itself",
        6,
        _file(b"#!/bin/sh\nkill -SEGV $$\n"),
    ),
):

    @fault(ENGINE, _name, how=_how, promise=_NAMED)
    def _(ground: Ground, make=_make, code: int = _code) -> str:
        engine = ground.root / "engine"
        make(engine)
        ground.write_profile("one", engine={"source": "path", "path": str(engine)})
        return ground.refused(code, str(engine))


# --- profiles and settings

for _name, _how, _text, _word in (
    ("is not YAML", "a tab and an open bracket", b"server: [\n\tx", "one.yaml:"),
    (
        "has a key that nobody knows",
        "`ctx-sizes`",
        b"extends: demo\nserver:\n  ctx-sizes: 4096\n",
        "one.yaml:3:3",
    ),
    ("has a value of the wrong type", "`port: many`", b"extends: demo\nlisten: {port: many}\n", "one.yaml:2"),
    ("has a port beyond 65535", "`port: 70000`", b"extends: demo\nlisten: {port: 70000}\n", "one.yaml:2"),
    ("extends itself", "`extends: one`", b"extends: one\n", "one"),
    ("extends one that is not there", "`extends: nobody`", b"extends: nobody\n", "nobody"),
    ("is empty", "0 bytes", b"", "model"),
    ("is not UTF-8", "a byte of Latin-1 in it", b"description: caf\xe9\nextends: demo\n", "one.yaml"),
    ("has a key twice", "`listen` twice", b"extends: demo\nlisten: {}\nlisten: {}\n", "one.yaml:3"),
    ("names no model", "only `server`", b"server: {ctx-size: 1024}\n", "model.path"),
    ("nests 10,000 brackets", "`[[[[…`", b"server: " + b"[" * 10_000 + b"\n", "one.yaml"),
    (
        "has a YAML bomb",
        "nine levels of nine aliases",
        b"a: &a [x,x]\n"
        + b"".join(
            b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 9)) for n in range(9)
        ),
        "one.yaml",
    ),
):

    @fault(
        PROFILE, f"a profile {_name}", how=_how, promise="refused with the place in the file; nothing starts"
    )
    def _(ground: Ground, text: bytes = _text, word: str = _word) -> str:
        ground.profile("one", "").write_bytes(text)
        return ground.refused(78, word)


@fault(
    PROFILE,
    "a profile is not there",
    how="`start -p nobody`",
    promise="an error that says which there are, exit code 5",
)
def _(ground: Ground) -> str:
    return ground.refused(5, "nobody", start=("start", "-p", "nobody", "-d"))


@fault(PROFILE, "`config.yaml` is broken", how="`serve: 7`, before a start", promise="refused with the place")
def _(ground: Ground) -> str:
    ground.write_profile("one")
    (ground.root / "config" / "config.yaml").write_text("serve: 7\n")
    return ground.refused(78, "config.yaml:1")


@fault(
    PROFILE,
    "`config.yaml` breaks while it runs",
    how="the same, then SIGHUP",
    promise="what runs goes on; `reload` says what is wrong",
)
def _(ground: Ground) -> str:
    ground.serve()
    server = ground.server().pid
    (ground.root / "config" / "config.yaml").write_text("serve: 7\n")
    ground.hang_up()
    seen = ground.refused(78, "config.yaml:1", start=("reload",))
    assert (ground.server().pid, ground.ask()) == (server, "whole")
    return f"the same process answers; `reload`: {seen}"


@fault(
    PROFILE,
    "`keys.json` breaks while it runs",
    how="its text is cut off",
    promise="the keys that are known stay; nobody else gets in",
)
def _(ground: Ground) -> str:
    ground.serve()
    key = ground.run("key", "add", "laptop").stdout.split()[-1]
    keys = ground.root / "config" / "keys.json"
    keys.write_bytes(keys.read_bytes()[:40])
    without = ground.ask()
    assert without != "whole", "a client without a key was answered"
    del key
    return f"without a key: {without}"


@fault(
    PROFILE,
    "a switch to a profile that cannot load",
    how="`switch two`, whose model has an unknown architecture",
    promise="the former one comes back, exit code 10, and the error says why",
)
def _(ground: Ground) -> str:
    ground.serve()
    model = ground.root / "two-model.gguf"
    _unknown(model)
    ground.write_profile("two", model={"path": str(model)})
    seen = ground.refused(10, "one runs again", start=("switch", "two"))
    assert (became := ground.ask()) == "whole", became
    return seen


@fault(
    PROFILE,
    "a switch to a profile that is wrong",
    how="`switch two`, with a wrong key",
    promise="refused with the place; the server is not touched",
)
def _(ground: Ground) -> str:
    ground.serve()
    server = ground.server().pid
    ground.profile("two", "extends: demo\nserver:\n  ctx-sizes: 4096\n")
    seen = ground.refused(78, "two.yaml:3:3", start=("switch", "two"))
    assert ground.server().pid == server
    return seen


# --- addresses and folders


@fault(
    PLACE,
    "the port is taken",
    how="another program listens there",
    promise="refused; the error names that program",
)
def _(ground: Ground) -> str:
    ground.write_profile("one")
    with socket.create_server(("127.0.0.1", ground.port)):
        done = ground.run("start", "-p", "one", "-d", code=10)
    assert str(os.getpid()) in done.stderr
    return f"exit code 10: {ground.plain(done.stderr).replace(str(os.getpid()), 'PID')}"


@fault(
    PLACE,
    "the address is not of this machine",
    how="`listen.host: 192.0.2.1`",
    promise="refused, with the address; nothing is left",
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
    servers = [each for each in ground.processes() if each.name() == "llama-server"]
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
    how="its file system is mounted so",
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
        assert not (left := [each for each in ground.processes()]), left
        return f"exit code {done.returncode}: {ground.plain(done.stderr)}"
    return f"it serves: {ground.ask()}"


for _folder_name in ("run", "state", "logs"):

    @fault(
        PLACE,
        f"`{_folder_name}` is a file",
        how="in place of that folder",
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
    ("is cut off, three times", "the connection ends after 1 MB, each time", [cut(1_000_000)] * 3, 0),
    ("is answered 500, then 503", "before it is answered", [status(500), status(503)], 0),
    ("is corrupt, once", "a byte is another one", [corrupt(2_000_000)], 0),
    ("is corrupt each time", "the same, twenty times", [corrupt(2_000_000)] * 20, 9),
    ("is cut off and corrupt", "both", [both(cut(1_000_000), corrupt(3))], 0),
    ("is not there any more", "404 for the file, twenty times", [status(404)] * 20, None),
):

    @fault(
        HUB,
        f"a model's file {_name}",
        how=_how,
        promise="what is kept in the end has the right digest, or it is refused and deleted",
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
    promise="an error says so; what is here works",
)
def _(ground: Ground) -> str:
    with FakeHub() as hub:
        env = hub.env
    done = ground.run("model", "pull", _REPO, env=env, code=8)
    assert "Traceback" not in done.stderr
    assert json.loads(ground.run("model", "ls", "--json").stdout)["models"] == []
    return f"exit code 8: {ground.plain(done.stderr)}"
