"""Faults of a llama-server that no real one shows on demand: the scripted one has them."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import psutil

from .fault import fault
from .ground import Ground, answer_of
from .load import Load, questions_of

START, RUN = "A server that does not start", "A server that misbehaves"
_ONCE = {"restart": {"max": 0}}
_TWICE = {"restart": {"max": 2, "backoff": "0.1s", "backoff-limit": "0.1s"}}
_IMPATIENT = {"restart": {"max": 0}, "health": {"start-timeout": "2s", "interval": "0.5s", "timeout": "1s"}}

for _name, _how, _promise, _sections, _words, _script in (
    (
        "does not know an option",
        "it prints `error: invalid argument` and exits with 1",
        "no second try, which would end the same; the error names the option",
        {},
        ("--nope",),
        {"stderr": "error: invalid argument: --nope", "exit": 1},
    ),
    (
        "exits with 1 and says nothing",
        "before it listens",
        "no second try; the error says how it ended",
        {},
        ("1",),
        {"exit": 1},
    ),
    (
        "exits with 0 before it is ready",
        "before it listens",
        "an error, not a success",
        {},
        (),
        {"exit": 0},
    ),
    (
        "lacks a library",
        "it prints the dynamic loader's error, and exits with 127",
        "no second try; the error names the library",
        {},
        ("libcudart.so.12",),
        {
            "stderr": "llama-server: error while loading shared libraries: libcudart.so.12: cannot open shared object file: No such file or directory",
            "exit": 127,
        },
    ),
    (
        "finds no memory on its GPU",
        "it prints `cudaMalloc failed: out of memory` and exits with 1",
        "an error that says so, and what helps",
        _TWICE,
        ("memory",),
        {
            "stderr": "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8192.00 MiB on device 0: cudaMalloc failed: out of memory",
            "exit": 1,
        },
    ),
    (
        "fails an assertion while it loads",
        "abort() while loading",
        "tried again; then an error",
        _TWICE,
        (),
        {"die": "abort", "die_when": "loading"},
    ),
    (
        "crashes while it loads",
        "SIGSEGV while loading",
        "tried again; then an error",
        _TWICE,
        ("SIGSEGV",),
        {"die": "segv", "die_when": "loading"},
    ),
    (
        "is killed while it loads",
        "SIGKILL while loading, as when memory runs out",
        "tried again; then an error that names memory",
        _TWICE,
        ("SIGKILL",),
        {"die": "kill", "die_when": "loading"},
    ),
    (
        "never listens",
        "it runs and binds no socket; `health.start-timeout` is 2 s, by default 5 minutes",
        "killed after that time without progress; the error says so",
        _IMPATIENT,
        (),
        {"bind": "never"},
    ),
    (
        "listens and never answers",
        "it accepts connections and says nothing; the same timeout",
        "killed after that time without progress; the error says so",
        _IMPATIENT,
        (),
        {"answer": "never"},
    ),
    (
        "is frozen while it loads",
        "SIGSTOP while loading; the same timeout",
        "killed after that time without progress; the error says so",
        _IMPATIENT,
        (),
        {"die": "stop", "die_when": "loading"},
    ),
):

    @fault(START, _name, how=_how, promise=f"{_promise}; nothing is left")
    def _(
        ground: Ground,
        sections: dict[str, Any] = _sections,
        words: tuple[str, ...] = _words,
        script: dict[str, Any] = _script,
    ) -> str:
        ground.scripted(sections=sections, **script)
        seen = ground.refused(10, *words)
        assert not (left := ground.leftovers()), left
        return seen


@fault(
    RUN,
    "crashes again and again",
    how="it exits with 1 as soon as it is ready; `restart.max` is 3",
    promise="`failed` after three restarts, with the reason; `start` works again",
)
def _(ground: Ground) -> str:
    restart = {"max": 3, "backoff": "0.1s", "backoff-limit": "0.1s"}
    gate = ground.root / "gate"
    ground.scripted(sections={"restart": restart}, die="exit:7", die_when=f"gate:{gate}")
    ground.up()
    gate.touch()
    failed = ground.until_state("failed")
    assert failed["restarts"] == 3, failed["restarts"]
    gate.unlink()
    began = time.monotonic()
    ground.run("load", "one")
    ground.recover(began)
    return f"failed after {failed['restarts']} restarts: {ground.plain(failed['why'])}; then ready again"


@fault(
    RUN,
    "dies after each second",
    how="it is killed a second after it is ready, five times",
    promise="it comes back each time, after 0.1 to 0.2 s here, 1 to 60 s by default",
)
def _(ground: Ground) -> str:
    ground.scripted(die="kill", die_when="seconds:1")
    ground.up()
    ground.watch_for(lambda now: now["server"]["restarts"] >= 5)
    ground.recover(time.monotonic())
    return "5 restarts, and whole answers"


for _name, _how, _term in (
    ("ignores SIGTERM", "it ignores every SIGTERM", "ignore"),
    ("ends only on the second SIGTERM", "as llama-server does while it answers", "second"),
):

    @fault(RUN, _name, how=_how, promise="TERM, grace (3 s here), TERM, 1 s, KILL; the stop ends")
    def _(ground: Ground, term: str = _term) -> str:
        ground.scripted(term=term)
        ground.up()
        server, began = ground.server(), time.monotonic()
        seen = ground.end()
        assert not server.is_running()
        ground.took = time.monotonic() - began
        return seen


@fault(
    RUN,
    "hangs, though `/health` says ok",
    how="it never answers `/metrics`, which goes through its inference queue; `health.hang-timeout` is 4 s",
    promise="the daemon kills and restarts it",
)
def _(ground: Ground) -> str:
    gate = ground.root / "gate"
    ground.scripted(metrics=f"hang:{gate}")
    ground.up()
    server = ground.server()
    gate.touch()
    psutil.wait_procs([server], timeout=30)
    gate.unlink()
    ground.recover(time.monotonic())
    assert ground.server().pid != server.pid
    return "killed as hung, another process answers"


@fault(
    RUN,
    "is busy and does not answer probes",
    how="the same, but it uses the CPU; for 8 s",
    promise="the daemon leaves it alone",
)
def _(ground: Ground) -> str:
    gate = ground.root / "gate"
    ground.scripted(metrics=f"hang:{gate}", burn=True)
    ground.up()
    server = ground.server()
    gate.touch()
    time.sleep(8)
    assert ground.server().pid == server.pid
    return f"the same process, {ground.status()['server']['state']}"


@fault(
    RUN,
    "closes its listening socket",
    how="it goes on without one; `health.hang-timeout` is 4 s",
    promise="the daemon restarts it",
)
def _(ground: Ground) -> str:
    gate = ground.root / "gate"
    ground.scripted(deaf=str(gate))
    ground.up()
    server, began = ground.server(), time.monotonic()
    gate.touch()
    psutil.wait_procs([server], timeout=30)
    ground.recover(began)
    return "another process answers"


for _name, _how, _script in (
    ("floods its log without a newline", "8 MiB in one line", {"flood": 8 << 20}),
    ("floods its log with short lines", "8 MiB of 80 bytes each", {"flood": 8 << 20, "flood_line": 80}),
    ("logs bytes that are not UTF-8", "such bytes, then the usual lines", {"garbage": True}),
    ("closes its output", "stdout and stderr, before it listens", {"close_output": True}),
):

    @fault(RUN, _name, how=_how, promise="it still serves, `logs` works, and the log stays bounded")
    def _(ground: Ground, script: dict[str, Any] = _script) -> str:
        ground.scripted(**script)
        ground.up()
        assert (became := ground.ask()) == "whole", became
        shown = ground.run("logs", "-n", "5", code=5 if "close_output" in script else 0)  # 5: there is none
        size = sum(path.stat().st_size for path in (ground.root / "logs").iterdir())
        assert size < 32 << 20, size
        return (
            f"serves; logs take {size / 2**20:.1f} MiB; `logs` shows {len(shown.stdout.splitlines())} lines"
        )


for _kind, _how, _more in (
    ("group", "in its process group", "`stop` leaves no process"),
    ("session", "in a separate session", "`stop` ends, and leaves such a child alone"),
):

    @fault(
        RUN,
        f"leaves a child {_how}",
        how="the child holds its output, and outlives it",
        promise=f"the server comes back after `kill -9`; {_more}",
    )
    def _(ground: Ground, kind: str = _kind) -> str:
        pid = ground.root / "grandchild"
        ground.scripted(grandchild=kind, grandchild_pid=str(pid))
        ground.up()
        began = time.monotonic()
        ground.server().kill()
        ground.recover(began)
        if kind == "group":
            return ground.end()
        ground.run("stop")
        children = ground.commands()
        assert all("time.sleep(3600)" in words[-1] for words in children.values()), children
        assert len(children) == 2
        for each in children:
            each.kill()
        return "stopped; the children of both processes live"


@fault(
    RUN,
    "runs on the CPU where a GPU is asked for",
    how="it prints `no usable GPU found` and serves",
    promise="`degraded`, exit code 1, and the reason",
)
def _(ground: Ground) -> str:
    ground.scripted(banner="cpu", devices=["CUDA0: a card (8192 MiB, 8000 MiB free)"])
    started = ground.run(
        "start", "-p", "one", "-d", "--set", "engine.flavour=cuda", "--set", "gpu-layers=99", code=1
    )
    assert "degraded" in started.stdout, started.stdout
    return f"exit code 1: {ground.plain(ground.status()['server']['why'])}"


@fault(
    RUN,
    "takes three seconds to load, and clients wait",
    how="`preload: false`; six clients ask at once",
    promise="one load, and whole answers for all",
)
def _(ground: Ground) -> str:
    ground.scripted(sections={"gateway": {"preload": False}}, load=3)
    ground.up()
    began = time.monotonic()
    with Load(ground.port, {"one": questions_of(answer_of("one"))[:2]}) as load:  # it speaks one API
        load.more(12)
    assert set(load.verdicts) == {"whole"}, load.verdicts
    ground.took = min(each.ended for each in load.asked) - began
    return f"{load.verdicts['whole']} whole"


@fault(
    RUN,
    "loses its engine's file, and dies",
    how="the binary is deleted, then `kill -9`",
    promise="`failed`, and the reason names the file",
)
def _(ground: Ground) -> str:
    ground.scripted()
    ground.up()
    server = ground.server()
    (ground.root / "engine-one" / "llama-server").unlink()
    os.kill(server.pid, signal.SIGKILL)
    failed = ground.until_state("failed")
    assert "engine-one" in failed["why"], failed["why"]
    return ground.plain(failed["why"])


@fault(
    RUN,
    "loses its model's file, and dies",
    how="the real llama-server; the GGUF is deleted, then `kill -9`",
    promise="`failed`, and the reason names the file; clients get it",
)
def _(ground: Ground) -> str:
    ground.serve()
    server = ground.server()
    (ground.root / "data" / "models" / "one.gguf").unlink()
    server.kill()
    failed = ground.until_state("failed")
    assert "one.gguf" in failed["why"], failed["why"]
    assert (became := ground.ask()) == "broken: server_down", became
    return f"{ground.plain(failed['why'])}; clients get 503"
