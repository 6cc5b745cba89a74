"""Faults of what a start is given: model, engine, profile and settings."""

from __future__ import annotations

import os
from pathlib import Path

from supervisor.model.demo import write_demo

from ..e2e.conftest import until
from .fault import fault
from .ground import Ground

MODEL, ENGINE, PROFILE = "The model's file", "The engine's file", "Profiles and settings"
_NAMED = "refused before anything starts; the error says what is wrong and what to do; nothing is left"

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
    ("does not exist", "`model.path` names nothing", 5, "there is no", lambda _: None),
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
        "has the format before GGUF",
        "it begins with `ggjt`",
        9,
        "ggjt",
        lambda path: path.write_bytes(b"tjgg" + bytes(100)),
    ),
    ("is random", "1 MiB of noise", 9, "GGUF", lambda path: path.write_bytes(os.urandom(1 << 20))),
    ("is cut off", "the first half of it", 9, "", _half),
    ("is a folder", "a folder of that name", 9, "folder", _folder),
    (
        "has an unknown architecture",
        "the demo model, with another word in its header",
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
    ("does not exist", "`engine.path` names nothing", 5, lambda _: None),
    ("is not executable", "mode 0644", 11, _file(b"#!/bin/sh\nexit 0\n", 0o644)),
    ("is not a program", "text, executable", 6, _file(b"not a program\n")),
    ("is a folder", "a folder of that name", 5, _folder),
    ("is empty", "0 bytes, executable", 6, _file(b"")),
    ("says nothing", "a script that always exits with 0", 6, _file(b"#!/bin/sh\nexit 0\n")),
    (
        "crashes on `--version`",
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
        "has an unknown key",
        "`ctx-sizes`",
        b"extends: demo\nserver:\n  ctx-sizes: 4096\n",
        "one.yaml:3:3",
    ),
    ("has a value of the wrong type", "`port: many`", b"extends: demo\nlisten: {port: many}\n", "one.yaml:2"),
    ("has a port beyond 65535", "`port: 70000`", b"extends: demo\nlisten: {port: 70000}\n", "one.yaml:2"),
    ("extends itself", "`extends: one`", b"extends: one\n", "one"),
    ("extends one that does not exist", "`extends: nobody`", b"extends: nobody\n", "nobody"),
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
        PROFILE,
        f"a profile {_name}",
        how=_how,
        promise="refused; the error names the place in the file; nothing starts",
    )
    def _(ground: Ground, text: bytes = _text, word: str = _word) -> str:
        ground.profile("one", "").write_bytes(text)
        return ground.refused(78, word)


@fault(
    PROFILE,
    "a profile does not exist",
    how="`start -p nobody`",
    promise="an error that lists those that do, exit code 5",
)
def _(ground: Ground) -> str:
    return ground.refused(5, "nobody", start=("start", "-p", "nobody", "-d"))


@fault(
    PROFILE,
    "`config.yaml` is broken",
    how="`serve: 7`, before a start",
    promise="refused; the error names the place",
)
def _(ground: Ground) -> str:
    ground.write_profile("one")
    (ground.root / "config" / "config.yaml").write_text("serve: 7\n")
    return ground.refused(78, "config.yaml:1")


@fault(
    PROFILE,
    "`config.yaml` breaks while it runs",
    how="the same, then SIGHUP",
    promise="all servers go on; `reload` says what is wrong",
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
    "`keys.json` is damaged while the daemon runs",
    how="the file is truncated",
    promise="existing keys remain valid; requests without a key are refused",
)
def _(ground: Ground) -> str:
    ground.serve()
    ground.run("key", "add", "laptop")
    until(lambda: ground.ask() != "whole", "no key is asked for")
    keys = ground.root / "config" / "keys.json"
    keys.write_bytes(keys.read_bytes()[:40])
    ground.hang_up()
    log = ground.root / "logs" / "daemon.log"
    until(lambda: ground.ask() and "The keys last known stay." in log.read_text(), "the file was not read")
    without = ground.ask()
    assert without != "whole", "a client without a key was answered"
    return f"a request without a key is refused: {without.removeprefix('broken: ')}"


@fault(
    PROFILE,
    "a switch to a profile that cannot load",
    how="`switch two`, whose model has an unknown architecture",
    promise="the previous one comes back, exit code 10, and the error says why",
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
    promise="refused; the error names the place; the server is not touched",
)
def _(ground: Ground) -> str:
    ground.serve()
    server = ground.server().pid
    ground.profile("two", "extends: demo\nserver:\n  ctx-sizes: 4096\n")
    seen = ground.refused(78, "two.yaml:3:3", start=("switch", "two"))
    assert ground.server().pid == server
    return seen
