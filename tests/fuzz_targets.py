"""
What anybody's bytes go through, as functions that bench/fuzz.py and tests/unit/test_fuzz.py call.

A target gets any bytes.  It ends, or raises one of the errors that it names; never another one.  What it asserts
holds for whatever was read.  ``seeds`` are good inputs, ``found`` those that once broke a promise.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from supervisor.cli import tune_report
from supervisor.daemon.control_request import read_request
from supervisor.daemon.helpers import last_check
from supervisor.decoding import decode
from supervisor.download.transfer import PartFile
from supervisor.engine import inspection, inventory
from supervisor.engine.catalogue.github_client import Answers
from supervisor.engine.install_context import Chosen, ReleaseFailure
from supervisor.engine.official import archive
from supervisor.errors import SupervisorError
from supervisor.files import read_json
from supervisor.gateway.api.body import most_answer_tokens, requested_model
from supervisor.gateway.api.routes import model_in_query
from supervisor.gateway.auth import guard
from supervisor.gateway.auth.keys import KeyFile, Keyring
from supervisor.gateway.http_heads import (
    HEAD_END,
    BadRequest,
    BadResponse,
    parse_head,
    query_value,
    upstream_head,
)
from supervisor.gateway.peer_choice import models_in
from supervisor.gateway.relay.answer import ModelName, read_head
from supervisor.gateway.relay.chunked import ChunkedBody
from supervisor.gateway.telemetry.usage_file import UsageFile
from supervisor.gateway.telemetry.usage_tally import UsagePlace, UsageSums
from supervisor.home import places, records
from supervisor.home.event_log import event_in
from supervisor.home.identity import Identity
from supervisor.home.run_history import runs_in, with_notes
from supervisor.locks import Lock, held_by
from supervisor.measure.chart import svg_text, text
from supervisor.measure.record import BenchHistory
from supervisor.memory.engine_figures import FigureHistory, measured_memory
from supervisor.model.demo import write_demo
from supervisor.model.header import BrokenHeader, read_header
from supervisor.model.metadata import Part, formats, join, shares
from supervisor.model.open import HeaderCache
from supervisor.paths import Paths
from supervisor.plan.launch import LaunchPlan
from supervisor.plan.listen import Listen
from supervisor.plan.plan_json import from_json, listen_from_json, listen_to_json, to_json
from supervisor.prepare import hub_choice
from supervisor.prepare.profile_check import check_text
from supervisor.prepare.workers import known_workers
from supervisor.profile.load_layers import settings_from
from supervisor.server.probe_target import ProbeTarget
from supervisor.tune.tuning_journal import Deaths, TuningJournal
from supervisor.update import worker_moves

from .unit import model_files as by_hand

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class FuzzTarget:
    """``errors`` are all that ``run`` may raise."""

    name: str
    run: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: Callable[[], Sequence[bytes]]
    found: tuple[bytes, ...] = ()

    def refusal(self, data: bytes) -> Exception | None:
        """The error that it gives for this; None where it takes it.  Raises what breaks the promise."""
        try:
            self.run(data)
        except self.errors as error:
            return error
        return None

    @property
    def inputs(self) -> list[bytes]:
        return [*self.seeds(), *self.found]


@cache
def folder() -> Path:
    """For files; gone with this process."""
    made = tempfile.TemporaryDirectory(prefix="goss-fuzz-")
    folder.kept = made  # type: ignore[attr-defined]
    return Path(made.name)


def written(data: bytes, name: str) -> Path:
    file = folder() / name
    file.write_bytes(data)
    return file


# --- profiles


def profile(data: bytes) -> None:
    """A problem is said with a place in the text; what is sound says what a start would need."""
    checked = check_text("fuzzed", data, Paths.under(folder() / "home"))
    lines = data.count(b"\n") + data.count(b"\r") + data.count(b"\xc2\x85") + data.count(b"\xe2\x80") + 1
    for problem in checked.problems:
        assert problem.message
        assert problem.line is None or 1 <= problem.line <= lines + 1, problem
    settings = settings_from(data, "config.yaml")
    assert settings.layer is None or all(str(each) for each in settings.layer.problems)


def profiles() -> list[bytes]:
    return [file.read_bytes() for file in sorted((ROOT / "profiles").glob("*.yaml"))] + [
        b"serve:\n- {profile: a, pinned: true}\npeers:\n- url: http://10.0.0.2:21434\n  models: [b]\n",
        b'model: demo\nserver: {ctx-size: 512, n-gpu-layers: "all"}\nenv: {A: b}\nargs: [--top-k, "1"]\n',
        b"model: {repo: a/b, quant: Q4_K_M}\nworkers: [10.0.0.3:50052]\nmemory: {leave: {RAM: 2 GiB}}\n",
        b"engine: {command: [python, -m, x, '{port}']}\nlisten: {port: 1}\ngateway: {max-wait: 1h}\n",
    ]


# --- models


def gguf(data: bytes) -> None:
    """The beginning of a file that is large."""
    header = read_header(by_hand.Bytes(data, size=1 << 40))
    assert header.end <= 1 << 40
    model = join([(Part("m.gguf", 1 << 40), header)])
    figures = (model.layers, model.experts, model.experts_used, model.context_length, model.embedding_length)
    more = (model.vocabulary_size, model.heads(0), model.heads_kv(0), model.key_length, model.value_length)
    shared = (*shares(model).values(), *formats(model).values(), model.sliding_window, model.weights_bytes)
    assert all(each is None or isinstance(each, int) for each in (*figures, *more, *shared))


def models() -> list[bytes]:
    file = folder() / "demo.gguf"
    if not file.exists():
        write_demo(file)
    data = file.read_bytes()
    architecture = by_hand.key(b"general.architecture", 8, by_hand.string(b"gpt-oss"))
    tensor = by_hand.tensor(b"token_embd.weight", (32, 2), 39, 0)
    end = read_header(by_hand.Bytes(data)).data_offset
    return [
        data[: end + 64],
        by_hand.header(tensors=1, values=1, rest=architecture + tensor).ljust(400, b"\0"),
    ]


# --- the control socket


def control(data: bytes) -> None:
    """What is taken can be sent again, and is the same then."""
    request = read_request(data)
    json.dumps(asdict(request))
    if request.listen is not None:
        listen = listen_from_json(request.listen)
        assert listen_from_json(json.loads(json.dumps(listen_to_json(listen)))) == listen
    if request.plan:
        plan = from_json(request.plan)
        assert from_json(json.loads(json.dumps(to_json(plan)))) == plan


def requests() -> list[bytes]:
    plan = LaunchPlan("a", ("x", "-m"), {"A": "b"}, "127.0.0.1", 0, "b1", "cpu", "an engine", "m", "d")
    start = {
        "protocol": 4,
        "op": "start",
        "plan": to_json(plan),
        "listen": listen_to_json(Listen("a", "::1", 1)),
    }
    jobs = {
        "protocol": 4,
        "op": "run",
        "command": "bench",
        "arguments": {"profile": "a"},
        "owner": "b",
        "hold": 1,
    }
    return [json.dumps(each).encode() for each in (start, jobs)]


# --- HTTP

_TARGET = ProbeTarget("127.0.0.1", 9, host_header="127.0.0.1:9", headers={"Authorization": "Bearer ours"})


@cache
def _rules() -> tuple[guard.Rules, Keyring]:
    return guard.rules_of(Listen("a", "127.0.0.1", 1)), Keyring(folder() / "no-keys.json")


def request(data: bytes) -> None:
    """A head that is taken is written anew as exactly one; a body in chunks is the same however it comes."""
    lead, end, body = data.partition(HEAD_END)
    head = parse_head(lead + end)
    ours = upstream_head(head, length=head.length or 0, target=_TARGET)
    again = parse_head(ours)
    assert ours.count(HEAD_END) == 1
    assert (again.method, again.target, again.length) == (head.method, head.target, head.length or 0)
    guard.judge(head, "/api", *_rules())
    model_in_query(head.target), query_value(head.target, "model")
    requested_model(body, head.get(b"content-type")), most_answer_tokens(body)
    if head.length is None:
        whole, bit_by_bit = ChunkedBody(1 << 20), ChunkedBody(1 << 20)
        whole.feed(body)
        for at in range(len(body)):
            bit_by_bit.feed(body[at : at + 1])
        assert (whole.body, whole.done) == (bit_by_bit.body, bit_by_bit.done)


def heads() -> list[bytes]:
    head = b"POST /v1/chat/completions?model=a HTTP/1.1\r\nHost: localhost:1\r\nAuthorization: Bearer a\r\n"
    return [
        head + b'Content-Length: 40\r\n\r\n{"model":"a","max_tokens":5,"stream":true}',
        head + b"Transfer-Encoding: chunked\r\nOrigin: http://a\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\nOrigin: null\r\nAccess-Control-Request-Method: PUT\r\n\r\n",
        b"POST /v1/audio/transcriptions HTTP/1.0\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        b'Content-Length: 9\r\n\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\na\r\n--b--',
    ]


def answer(data: bytes) -> None:
    """What a client gets has one head, and for chunks an end where the engine's has one."""
    lead, end, body = data.partition(HEAD_END)
    with suppress(ValueError):
        models_in(body, "peer", "id", "own")
    for wraps, name in ((True, None), (True, ModelName("a", "b")), (False, ModelName("a", "b"))):
        head = read_head(lead + end, to_head_request=False, wraps=wraps, name=name)
        assert head.head_for_client().count(HEAD_END) == 1
        sent = b""
        with suppress(BadResponse):
            for piece in (body[: len(body) // 2], body[len(body) // 2 :]):
                sent += head.take(piece) if piece and not head.ended else b""
            sent += head.close() if head.framing == "close" else b""
            if head.is_chunked_for_client and (head.ended or head.framing == "close"):
                client = ChunkedBody(1 << 20)
                client.feed(sent)
                assert client.done


def answers() -> list[bytes]:
    ok, event = b"HTTP/1.1 200 OK\r\nContent-Type: ", b'data: {"model":"a","choices":[]}\n\n'
    return [
        ok + b'application/json\r\nContent-Length: 13\r\n\r\n{"model":"a"}',
        ok
        + b"text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
        % (len(event), event),
        b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + event + b"data: [DONE]\n\n",
        ok + b'application/json\r\nConnection: close\r\n\r\n{"data":[{"id":"m","aliases":["x"],"path":[]}]}',
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ]


# --- archives


def archives_unpacked(data: bytes) -> None:
    """Nothing is written outside of the folder, and no link leads out of it."""
    with tempfile.TemporaryDirectory(dir=folder()) as name, mock.patch.object(archive, "FREE_BYTES", 1 << 20):
        outer = Path(name).resolve()
        (outer / "a.zip").write_bytes(data)
        try:
            archive.unpack(outer / "a.zip", outer / "in")
        finally:
            assert {each.name for each in outer.iterdir()} <= {"a.zip", "in"}
            for each in (outer / "in").rglob("*"):
                assert not each.is_symlink() or (each.parent / each.readlink()).resolve().is_relative_to(
                    outer / "in"
                )


def archives() -> list[bytes]:
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("bin/llama-server", b"x" * 100)
        opened.writestr("bin/", b"")
    with tarfile.open(fileobj=tarred, mode="w:gz", compresslevel=0) as tar:
        for member, kind, target in (
            ("b/x", tarfile.REGTYPE, ""),
            ("b/y", tarfile.SYMTYPE, "x"),
            ("b/z", tarfile.LNKTYPE, "b/x"),
        ):
            info = tarfile.TarInfo(member)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    return [zipped.getvalue(), tarred.getvalue()]


# --- files of ours


@cache
def _home() -> tuple[Paths, Path]:
    """A home whose every file of state is one and the same."""
    paths, file = Paths.under(folder() / "state-home"), folder() / "state"
    (paths.cache / "answers").mkdir(parents=True)
    for each in (
        *(places.record_file(paths), places.figures_file(paths), places.memory_history_file(paths)),
        *(places.workers_file(paths), places.moved_workers_file(paths), places.update_file(paths)),
        *(places.keys_file(paths), places.bench_folder(paths) / "a-1.json", paths.state / "measured.json"),
        *(
            paths.state / "tune" / "died.json",
            paths.cache / "hub-choices.json",
            paths.state / "part.part.json",
        ),
        *(paths.data / inventory.RECORD, Answers(paths.cache)._file("url")),
        *(HeaderCache(paths.cache)._file("a"),),
    ):
        each.parent.mkdir(parents=True, exist_ok=True)
        each.symlink_to(file)
    return paths, file


def state(data: bytes) -> None:
    """Every file that holds JSON, read by all that read any; what they find is what it is declared to be."""
    paths, file = _home()
    file.write_bytes(data)
    record = records.read_record(places.record_file(paths))
    is_as_declared(record)
    assert record is None or isinstance(record.remembered, str)
    is_as_declared(inventory.read_record(paths.data))
    is_as_declared(PartFile(paths.state / "part.part").note())
    for choice in hub_choice._choices(paths).known().values():
        is_as_declared(choice)
    for chart in (read_json(file, tune_report._kept) or ({}, ()))[1]:
        assert svg_text([chart])
        assert text(chart, 80, plain=True)
    for read in (
        records.plans_out_of_memory(places.memory_history_file(paths)),
        known_workers(paths),
        measured_memory(paths),
        inspection._recall(file),
        last_check(places.update_file(paths)),
        Answers(paths.cache).get("url"),
        Chosen(file).bad("a"),
        ReleaseFailure(file).recent(),
        FigureHistory(places.figures_file(paths)).find("a"),
        Deaths(paths, "machine").of("a"),
        read_json(file, worker_moves._read),
        held_while_locked(data),
        list(with_notes(runs_in(filter(None, map(event_in, data.splitlines()))))),
        BenchHistory(places.bench_folder(paths)).all(),
    ):
        assert read is not NotImplemented
    HeaderCache(paths.cache).find("a", "b")
    assert Keyring(places.keys_file(paths)).find(b"a") is None
    with suppress(SupervisorError):
        assert all(key.limits for key in (*KeyFile(places.keys_file(paths)).keys(),))
    with suppress(SupervisorError):
        TuningJournal(written(data, "journal.ndjson"))


def held_while_locked(data: bytes) -> object:
    lock = Lock.acquire(folder() / "lock", {})
    assert lock is not None
    try:
        (folder() / "lock").write_bytes(data)
        return held_by(folder() / "lock")
    finally:
        lock.release()


def is_as_declared(found: Any) -> None:
    """A record that was read can be written as JSON, and read again by what its fields are declared to be."""
    if found is not None:
        assert decode(type(found), json.loads(json.dumps(asdict(found))), any_text=True) == found


def states() -> list[bytes]:
    identity = asdict(Identity(2, 3.0, "boot"))
    record = records.Record("default", "ready", "", "a", 1, None, None)
    documents: list[dict[str, Any]] = [
        {
            "schema": 1,
            **asdict(record),
            "identity": identity,
            "failure": {"kind": "x", "message": "m", "hint": "", "at": None, "log_tail": ["a\0"]},
        },
        {"schema": 1, "plans": {"d": "fewer layers"}},
        {"schema": 1, "plans": {"d": {"RAM": 5}}},
        {
            "schema": 1,
            "workers": {
                "10.0.0.3:50052": {
                    "devices": [{"total_bytes": 2, "free_bytes": 1}],
                    "protocol": "7",
                    "seen": "2026-01-01",
                }
            },
        },
        {
            "schema": 1,
            "workers": [{"address": "10.0.0.3:50052", "supervisor": "", "api_key_env": "", "build": "b1"}],
            "tag": "b2",
        },
        {"schema": 1, "url": "url", "etag": "e", "body": "[]"},
        {"schema": 1, "url": "u", "sha256": "a", "validator": "v", "size_bytes": 5},
        {"schema": 1, "tags": {"stable": ["b1"]}, "bad": {"a": "slow"}},
        {"schema": 1, "seconds": 1.5, "error": "no network"},
        {"schema": 1, "choices": {"a:q4": {"file": "a.gguf", "projector": None}}},
        {"schema": 1, "died": {"a": "out of memory"}},
        {
            "schema": 1,
            "source": "release",
            "repository": "r",
            "tag": "b1",
            "flavour": "cpu",
            "version": "1",
            "command": ["x"],
            "files": ["x"],
            "devices": [],
        },
        {
            "schema": inspection.FORMAT,
            "digest": "d",
            "devices": ["CUDA0"],
            "capabilities": {"build": 1, "commit": "c", "version": "v", "options": [{"names": ["--x"]}]},
        },
        {
            "schema": 1,
            "figures": [{"key": "a", "source": "engine", "buffers": {"Host": {"weights_bytes": 1}}}],
        },
        {
            "schema": 2,
            "keys": [
                {
                    "name": "k",
                    "scope": "inference",
                    "digest": "ab" * 32,
                    "created": "2026-01-31T12:00:00Z",
                    "rate": "5/min",
                    "expires": "2027-01-31T12:00:00Z",
                }
            ],
        },
        {
            "schema": 1,
            "profile": "a",
            "at": "2026-01-31",
            "machine": "m",
            "fingerprint": "f",
            "plan": "d",
            "build": "b1",
            "flavour": "cpu",
            "model": "m",
            "argv": ["x"],
            "rows": [
                {
                    "scenario": "chat",
                    "measured": {
                        "workload": {"prompt_tokens": 1, "answer_tokens": 2},
                        "samples": [
                            {
                                "prompt_per_second": 1.5,
                                "generated_per_second": None,
                                "first_token_seconds": 0.5,
                                "seconds": 2,
                            }
                        ],
                    },
                }
            ],
        },
        {
            "schema": 1,
            "profile": "a",
            "trials": [],
            "seconds": 5.5,
            "file": None,
            "why": "Nothing.",
            "explained": [],
            "charts": [
                {"title": "t", "bars": [["a", {"value": 1.5, "low": 1}]]},
                {
                    "title": "t",
                    "x_label": "x",
                    "lines": [{"label": "l", "points": [[1, {"value": 3}], [9, {"value": 5}]]}],
                },
            ],
        },
    ]
    trial = {"number": 1, "candidate": {"server.batch": "1"}, "runs": 1, "reloads": False, "why": "x"}
    journal: list[dict[str, Any]] = [
        {"schema": 1},
        {"workload": {"prompt_tokens": 1, "answer_tokens": 2}, "look_seconds": 1.5},
        {"begun": trial, "boot": "b"},
        {
            "ended": trial,
            "costs": [1.5],
            "took_seconds": 2.0,
            "died": "",
            "short_of": "",
            "rates": [[1.0, 2.0]],
        },
    ]
    event = {
        "at": "2026-01-31T12:00:00+00:00",
        "level": "info",
        "kind": "state",
        "text": "x",
        "server": "default",
    }
    ready = event | {"state": "ready", "digest": "d", "load_seconds": 1.5, "memory_bytes": 5}
    lines = (journal, [ready, event | {"served_seconds": 9.5, "tokens_per_second": 5.5}] * 5)
    return [json.dumps(each).encode() for each in documents] + [
        b"\n".join(json.dumps(each).encode() for each in rows) + b"\n" for rows in lines
    ]


_BUILD = b'"source":"release","repository":"r","tag":"b1","flavour":"cpu","version":"1"'
FOUND_STATES = (
    b'{"seconds":1%s,"error":""}' % (b"0" * 400),  # a number that no float holds
    b'{%s,"command":[NaN],"files":[]}' % _BUILD,
    b'{%s,"command":[],"files":[]}' % _BUILD,  # an engine without a program
    b'{%s,"command":["%s"],"files":[]}' % (_BUILD, b"x" * 5000),  # longer than a path may be
    b'{"url":"u","sha256":null,"validator":Infinity,"size_bytes":5}',
    b'{"server":"a","state":[],"why":"","profile":"","port":"1","identity":null,"failure":5}',
    b'{"schema":1}\n{"ended":[]}\n',
    b'{"schema":1}\n{"begun":{"candidate":5},"boot":"b"}\n{"workload":{"prompt_tokens":"x"},"look_seconds":1}\n',
    b"[" * 100_000,
    b"".join(  # numbers that no float holds, as figures of several runs
        b'{"at":"2026-01-31","level":"","kind":"state","text":"","server":"a","state":"ready","digest":"d",'
        b'"load_seconds":%d}\n' % load
        for load in (1, 1, 1, 10**400)
    ),
)


def usage(data: bytes) -> None:
    """A damaged file is read as far as it goes or named; the daemon's write puts it aside and goes on."""
    with tempfile.TemporaryDirectory(dir=folder()) as name:
        file = UsageFile(Path(name) / "usage.sqlite")
        file.path.write_bytes(data)
        with suppress(SupervisorError):
            file.read("0", "9", ("key",))
        file.add({UsagePlace("2026-01-01", "key", "model"): UsageSums(requests=1)}, "2026-01-01")
        assert sum(each.requests for each in file.read("2026-01-01", "2026-01-01", ("day",)).values()) >= 1


def usages() -> list[bytes]:
    with tempfile.TemporaryDirectory(dir=folder()) as name:
        file = UsageFile(Path(name) / "usage.sqlite")
        file.add({UsagePlace("2026-01-01", "key", "model"): UsageSums(requests=1)}, "2026-01-01")
        return [file.path.read_bytes(), b""]


TARGETS = {
    target.name: target
    for target in (
        FuzzTarget("profile", profile, (), profiles),
        FuzzTarget("gguf", gguf, (BrokenHeader, SupervisorError), models),
        FuzzTarget("control", control, (ValueError, SupervisorError), requests),
        FuzzTarget("request", request, (BadRequest,), heads),
        FuzzTarget("answer", answer, (BadResponse,), answers),
        FuzzTarget("archive", archives_unpacked, (SupervisorError,), archives),
        FuzzTarget("state", state, (), states, FOUND_STATES),
        FuzzTarget("usage", usage, (SupervisorError,), usages),
    )
}

# --- inputs that are nearly right

_STRANGE: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, float("inf"), float("nan"), 10**400, 2**63, 2**31),
    *("", "\0", "\ud800", "x" * 300, "b1", [], {}, [[]], {"a": {}}, [None], "2026-01-31T12:00:00Z"),
)


def spoiled(data: bytes, random: Random) -> bytes:
    """Something in it changed: in a line of JSON mostly a value or a key, else some bytes."""
    lines = data.split(b"\n")
    at = random.randrange(len(lines))
    if random.random() < 0.8:
        with suppress(ValueError, RecursionError):
            lines[at] = json.dumps(_changed(json.loads(lines[at]), random)).encode()
            return b"\n".join(lines)
    start = random.randrange(len(data) + 1)
    end = min(len(data), start + random.choice((0, 1, 4, 8, 40, len(data))))
    piece = random.choice(
        (b"", random.randbytes(random.choice((1, 4, 8))), b"\xff" * 8, b"\0" * 4, data[start:end] * 2)
    )
    return data[:start] + piece + data[end:]


def _changed(value: Any, random: Random) -> Any:
    if not isinstance(value, dict | list) or not value or random.random() < 0.1:
        return random.choice(_STRANGE)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key, changed = random.choice(keys), value.copy()
    if random.random() < 0.15:
        del changed[key]
    else:
        changed[key] = _changed(value[key], random)
    return changed
