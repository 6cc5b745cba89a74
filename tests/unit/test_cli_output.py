"""What people read: tables, sizes, durations, progress."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from supervisor import __version__
from supervisor.cli.ask import ChatServer, _speed, answers
from supervisor.cli.common import parse_settings
from supervisor.cli.output import StderrProgress, show_outcome, size, table, upgraded
from supervisor.cli.plan import _crowded, _wrapped
from supervisor.cli.status import _lines
from supervisor.cli.words_of_status import absent_servers, all_servers
from supervisor.errors import NetworkError, NotRunning, SupervisorError, UsageError
from supervisor.home import background_daemon, client
from supervisor.memory.accounts import Account, Figure, Ledger, Pool
from supervisor.memory.verdict import judge
from supervisor.paths import Paths
from supervisor.plan.launch import LaunchPlan
from supervisor.plan.listen import Listen, url_of
from supervisor.prepare.planned import _shares
from supervisor.profile.definition import Profile
from supervisor.progress import duration


def test_a_table_has_upper_case_headers_and_no_trailing_blanks():
    assert table(("name", "state"), [("demo", "ready"), ("a", "x")]) == "NAME  STATE\ndemo  ready\na     x"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "-"),
        (0, "0 MiB"),
        (322 * 2**10, "322 KiB"),
        (480 * 2**20, "480 MiB"),
        (2**30, "1.0 GiB"),
        (63_400_000_000, "59.0 GiB"),
    ],
)
def test_sizes_are_binary_and_unknown_is_a_dash(number, text):
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0 s"), (59.9, "59 s"), (125, "2 min 5 s"), (3600, "1 h"), (3600 * 76 + 5, "3 d 4 h")],
)
def test_durations_show_the_two_largest_units(seconds, text):
    assert duration(seconds) == text


def test_a_command_is_folded_at_its_options_and_not_at_negative_numbers():
    assert (
        _wrapped(("srv", "--ctx-size", "1", "--seed", "-1", "--model", "a b"))
        == "srv \\\n  --ctx-size 1 \\\n  --seed -1 \\\n  --model 'a b'"
    )


def test_a_relative_path_in_a_setting_is_the_shells_and_stays_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_settings(("model=x.gguf", "engine.path=srv", "ctx-size=1")) == {
        "model": str(tmp_path / "x.gguf"),
        "engine.path": str(tmp_path / "srv"),
        "ctx-size": "1",
    }
    assert parse_settings(("model=demo", "alias=a=b")) == {"model": "demo", "alias": "a=b"}


@pytest.mark.parametrize("word", ["ctx-size", "=1"])
def test_a_setting_without_key_or_value_is_a_usage_error(word):
    with pytest.raises(UsageError):
        parse_settings((word,))


def test_progress_elsewhere_than_on_a_terminal_is_a_line_now_and_then(capsys):
    progress = StderrProgress()
    progress.step("installing")
    for hundredth in range(100):
        progress.update(hundredth / 100, "pip")
    progress.close()
    assert capsys.readouterr().err == "installing\n"


def test_a_line_of_progress_is_taken_back_before_something_else_is_printed(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    progress = StderrProgress()
    progress.update(None, "run 1")
    progress.clear()
    progress.close()
    assert capsys.readouterr().err == "\r\x1b[2K  run 1\r\x1b[2K"


def test_a_line_of_progress_never_wraps_for_then_it_could_not_be_taken_back(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.fileno", lambda: 2, raising=False)
    monkeypatch.setattr("os.get_terminal_size", lambda _: os.terminal_size((40, 24)))
    progress = StderrProgress()
    progress.update(None, "trial 7, best 1.31x, 12 min left: ubatch-size 2048 (next to the best so far)")
    (shown,) = capsys.readouterr().err.removeprefix("\r\x1b[2K").splitlines()
    assert len(shown) == 39


def status(*, gateway=None, pid=4242, restarts=0):
    """As the daemon tells it."""
    since = "2026-01-31T12:00:00.000Z"
    server = {
        "state": "ready" if pid else "sleeping",
        "why": "" if pid else "the next request loads it",
        "since": since,
        "profile": "demo",
        "url": "http://127.0.0.1:8080",
        "host": "127.0.0.1",
        "port": 8080,
        "model": "/models/demo.gguf",
        "build": "b11434",
        "flavour": "cpu",
        "engine": "it is installed",
        "pid": pid,
        "memory_bytes": 480 * 2**20 if pid else None,
        "restarts": restarts,
        "log": "/logs/llama-server.log",
        "log_dropped_bytes": 0,
        "warnings": [],
        "last_failure": None,
    }
    daemon = {"pid": 1, "memory_bytes": 2**25, "uptime_seconds": 5.0, "version": __version__}
    return {"schema": 1, "daemon": daemon, "server": server, "gateway": gateway, "update": None}


def line_of(word, now):
    """What stands after that word."""
    return [line.removeprefix(word).strip() for line in _lines(now) if line.startswith(word)]


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ((0, 0, 0), "0 connections, 0 requests under way, 0 waiting"),
        ((1, 3, 2), "2 connections, 1 request under way, 3 waiting"),
        ((32, 0, 1), "1 connection, 32 requests under way, 0 waiting"),
    ],
)
def test_the_status_says_what_clients_do(counts, text):
    under_way, waiting, connections = counts
    gateway = {"requests_under_way": under_way, "requests_waiting": waiting, "connections": connections}
    assert line_of("gateway", status(gateway=gateway)) == [text]
    troubled = {**gateway, "warnings": ["usage is not kept for now: the disk is full"]}
    assert line_of("warning", status(gateway=gateway)) == []
    assert line_of("warning", status(gateway=troubled)) == ["usage is not kept for now: the disk is full"]


def test_the_status_says_what_requests_wait_for():
    held = {"profile": "coder", "requests": 2, "longest_seconds": 12.0, "reason": "waits for chat"}
    gateway = {"requests_under_way": 1, "requests_waiting": 2, "connections": 3, "waiting": [held]}
    assert "          2 requests wait for coder, for up to 12 s: waits for chat" in _lines(
        status(gateway=gateway)
    )


@pytest.mark.parametrize(
    ("waiting", "seconds", "more"),
    [
        (0, 0.0, ""),
        (1, 3.2, "; 1 request waits for room, for up to 3 s"),
        (2, 75.0, "; 2 requests wait for room, for up to 1 min 15 s"),
    ],
)
def test_the_status_tells_of_a_context_that_slots_share(waiting, seconds, more):
    now = status()
    now["server"]["context"] = {
        "slots": 4,
        "tokens": 32768,
        "expected_tokens": 20100,
        "waiting": waiting,
        "longest_seconds": seconds,
    }
    shared = "4 slots share 32,768 tokens, 20,100 of them reserved for requests"
    assert line_of("context", now) == [shared + more]


@pytest.mark.parametrize(
    ("slots", "tokens", "warned"),
    [(4, 32768, True), (4, 131072, False), (2, 32768, False), (0, 0, False)],
)
def test_a_plan_warns_where_usual_prompts_do_not_fit_into_all_slots(slots, tokens, warned):
    plan = LaunchPlan("p", (), {}, "127.0.0.1", 0, "b1", "cpu", "", "m.gguf", "digest")
    shared = replace(plan, shared_context_tokens=tokens, context_slots=slots)
    text = "4 slots share 32,768 tokens: one request may use all of it; others then wait"
    assert list(_crowded(shared)) == [text] * warned


@pytest.mark.parametrize(
    ("options", "left_open", "shared"),
    [
        ({"ctx-size": 4096}, (), (4096, 4)),
        ({"ctx-size": 4096, "kv-unified-per-slot": 2048}, (), (4096, 4)),
        ({"ctx-size": 4096, "kv-unified-per-slot": 1024}, (), (0, 0)),  # all four fit at any time
        ({}, ("ctx-size",), (0, 0)),
    ],
)
def test_slots_share_a_context_where_one_may_take_it_from_the_others(options, left_open, shared):
    settings = SimpleNamespace(slots=4, unified=True, fit=True, left_open=left_open, context_tokens=4096)
    verdict = SimpleNamespace(judgements=(), guardrails="on")
    fitted = SimpleNamespace(verdict=verdict, ledger=SimpleNamespace(settings=settings), ours={})
    shares = _shares(fitted, Profile("p", server=options))
    assert (shares.shared_context_tokens, shares.context_slots) == shared


def test_a_plan_has_the_address_of_each_gpu_that_is_certain_and_what_is_its_own_of_one_that_shares_the_ram():
    pools = (
        Pool("Vulkan0", 24, 20, adapter="0000:01:00.0"),
        Pool("Vulkan1", 96, 90, shares_ram=True, own_bytes=4, adapter="0000:c3:00.0"),
        Pool("Vulkan2", 24, 20),
        Pool("RAM", 96, 90),
    )
    verdict = judge(
        Ledger(tuple(Account(pool, *[Figure(0)] * 4, anonymous_bytes=0) for pool in pools), (), None), "off"
    )
    shares = _shares(
        SimpleNamespace(verdict=verdict, ledger=SimpleNamespace(settings=None), ours={}), Profile("p")
    )
    assert shares.adapters == {"Vulkan0": "0000:01:00.0", "Vulkan1": "0000:c3:00.0"}
    assert shares.sharing == {"Vulkan1": 4}


LOAD = {
    "profile": "coder",
    "models": ["chat"],
    "text": "waits for chat, which answers 2 requests",
    "seconds_left": 100.0,
}


@pytest.mark.parametrize(
    ("left", "more"), [(100.0, "; at most 1 min 40 s more"), (0.0, "; at most 0 s more"), (None, "")]
)
def test_a_load_that_waits_for_memory_says_for_what(left, more):
    now = status() | {"loads_waiting": [LOAD | {"seconds_left": left}], "served": []}
    assert line_of("waiting", now) == ["coder: waits for chat, which answers 2 requests" + more]
    (row,) = absent_servers(now)
    assert (row["profile"], row["state"], row["why"]) == ("coder", "waiting", LOAD["text"] + more)


def test_who_loads_it_is_told_once_what_it_waits_for_and_again_when_that_changes(monkeypatch):
    other = LOAD | {"text": "waits for chat, which is being unloaded", "seconds_left": None}
    ready = {"profile": "coder", "state": "starting", "why": ""}
    messages = [{}, {"awaits": LOAD}, {"awaits": LOAD | {"seconds_left": 98.0}}, {"awaits": other}]
    messages += [{"status": {"server": ready}}, {"final": True, "outcome": 1}]
    monkeypatch.setattr(client, "stream", lambda paths, request: iter(messages))
    said = []
    assert client.follow(None, {"op": "load"}, said.append) == messages[-1]
    assert said == [
        "coder: waits for chat, which answers 2 requests; at most 1 min 40 s more",
        "coder: waits for chat, which is being unloaded",
        "coder: starting",
    ]


def test_one_that_sleeps_and_waits_for_memory_says_so_in_its_own_row():
    now = status(pid=None)
    now["server"]["placement"] = ""
    now |= {"loads_waiting": [LOAD | {"profile": "demo"}]}
    assert absent_servers(now) == []
    (row,) = all_servers(now)
    assert row["why"] == f"the next request loads it; {LOAD['text']}; at most 1 min 40 s more"


def test_without_a_gateway_the_status_is_silent_about_it():
    assert line_of("gateway", status()) == []
    of_an_older_daemon = status()
    del of_an_older_daemon["gateway"]
    assert line_of("gateway", of_an_older_daemon) == []


def test_a_daemon_that_an_upgrade_left_behind_is_named_and_one_of_this_version_is_not():
    now = status()
    assert "version" not in "\n".join(_lines(now))
    now["daemon"]["version"] = "0.0.1"
    assert f"is still version 0.0.1, this program is version {__version__}" in "\n".join(_lines(now))


def test_who_ends_with_a_killed_daemon_is_named_where_the_profile_asks_for_something_else():
    def said(*servers):
        now = status() | {
            "servers": [
                {"profile": name, "state": "ready", "why": "", "pid": 1, "memory_bytes": 1, "orphan": orphan}
                for name, orphan in servers
            ]
        }
        assert "if it is killed" not in "\n".join(_lines(now)), "it is no news for who has just started"
        return [line.strip() for line in _lines(now, verbose=True) if "if it is killed" in line]

    script = "only llama-server itself goes on"
    unread = {"asked": "adopt", "ends_because": script}
    goes_on = {"asked": "adopt", "ends_because": ""}
    wanted = {"asked": "end", "ends_because": "the profile says so"}
    assert said(("demo", goes_on), ("coder", wanted), ("asleep", None)) == []
    assert said(("demo", unread)) == [f"if it is killed, demo ends with it: {script}"]
    assert said(("demo", unread), ("chat", goes_on), ("coder", unread)) == [
        f"if it is killed, demo and coder end with it: {script}"
    ]
    older = "\n".join(_lines(status(), verbose=True))
    assert "if it is killed" not in older, "a daemon of the version before"


def test_the_status_of_a_sleeping_server_shows_no_process():
    assert line_of("process", status(pid=None, restarts=1)) == ["none, 1 restart"]
    assert line_of("process", status()) == ["pid 4242, 480 MiB, 0 restarts"]


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        (Listen("p", "127.0.0.1", 8080), "http://127.0.0.1:8080"),
        (Listen("p", "0.0.0.0", 8080), "http://127.0.0.1:8080"),
        (Listen("p", "127.0.0.1", 8443, tls_certificate="c.pem", tls_key="k.pem"), "https://127.0.0.1:8443"),
        (Listen("p", "/run/llm.sock", 8080), "unix:///run/llm.sock"),
        (None, "unix:///run/inner.sock"),
    ],
)
def test_the_address_is_the_gateways_and_llama_servers_own_only_where_there_is_none(listen, url):
    plan = LaunchPlan(
        "p",
        (),
        {},
        "/run/inner.sock",
        0,
        "b1",
        "cpu",
        "",
        "m.gguf",
        "digest",
        behind_gateway=listen is not None,
    )
    assert url_of(plan, listen) == url


def test_no_question_goes_to_a_socket_file():
    with pytest.raises(NetworkError) as caught:
        next(answers(ChatServer("unix:///run/llm.sock", ""), {}))
    assert caught.value.hint == "curl --unix-socket /run/llm.sock http://localhost/v1/models"


@pytest.mark.parametrize(
    ("timings", "said"),
    [
        (
            {"predicted_n": 5, "predicted_per_second": 9.96, "prompt_n": 7, "prompt_per_second": 20},
            "5 tokens, 10.0 tok/s (prompt: 7 tokens, 20.0 tok/s)",
        ),
        ({"predicted_n": 5, "predicted_per_second": 9.96}, "5 tokens, 10.0 tok/s"),
        ({"predicted_n": 5, "predicted_per_second": None, "prompt_n": 7}, ""),
        ({}, ""),
    ],
)
def test_ask_shows_of_an_engines_figures_what_there_is(timings, said):
    assert _speed(timings) == said


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("/models/m.gguf", "p is ready at http://127.0.0.1:1\n"),
        ("none: memory is lent at 10.0.0.3:50052", "p is ready: memory is lent at 10.0.0.3:50052\n"),
        (None, "p is ready at http://127.0.0.1:1\n"),
    ],
)
def test_a_worker_says_where_it_lends_and_a_model_where_it_answers(capsys, model, said):
    server = {"url": "http://127.0.0.1:1", "model": model}
    answer = {"outcome": {"result": "ready", "profile": "p"}, "status": {"server": server}}
    assert show_outcome(answer, as_json=False) == 0
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("words", ["", "Traceback:\nRuntimeError: broken\n"])
def test_an_upgrade_whose_new_program_dies_says_what_it_said_last(monkeypatch, tmp_path, words):
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path))
    paths = Paths.from_environment()
    paths.logs.mkdir(parents=True)
    output = paths.logs / "daemon.out"
    output.write_text("of long ago\n")

    def stream(_paths, _request):
        yield {"step": "becoming version 2"}
        output.write_text(f"of long ago\n{words}")
        raise NotRunning("The daemon went away before it had answered.")

    monkeypatch.setattr(client, "stream", stream)
    with pytest.raises(NotRunning) as raised:
        upgraded(paths)
    said = ": RuntimeError: broken" if words else ""
    assert (str(raised.value), raised.value.hint) == (
        f"The daemon ended during the upgrade{said}.",
        "goss-supervisor start",
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ("os.kill(os.getpid(), 9)", "The daemon was killed by SIGKILL."),
        ("raise SystemExit('why')", "The daemon ended before it had started anything: why"),
        ("raise SystemExit(1)", "The daemon ended before it had started anything: no output"),
    ],
)
def test_a_daemon_that_ends_without_a_word_is_explained(monkeypatch, tmp_path, ends, said):
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path))
    paths = Paths.from_environment()
    program = [sys.executable, "-c", f"import os, sys; sys.stdin.read(); {ends}"]
    monkeypatch.setattr(background_daemon, "DAEMON", program)
    with background_daemon.background_daemon(paths) as daemon, pytest.raises(SupervisorError) as raised:
        background_daemon.ordered(paths, daemon, b"{}", lambda _step: None)
    daemon.wait()
    assert str(raised.value) == said
