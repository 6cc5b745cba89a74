"""What people read: tables, sizes, durations, progress."""

from __future__ import annotations

import pytest

from supervisor import __version__
from supervisor.cli.ask import ChatServer, answers
from supervisor.cli.common import parse_settings
from supervisor.cli.output import StderrProgress, duration, size, table
from supervisor.cli.plan import _wrapped
from supervisor.cli.status import _lines
from supervisor.errors import NetworkError, UsageError
from supervisor.plan.launch import LaunchPlan
from supervisor.plan.listen import Listen, url_of


def test_a_table_has_upper_case_headers_and_no_trailing_blanks():
    assert table(("name", "state"), [("demo", "ready"), ("a", "x")]) == "NAME  STATE\ndemo  ready\na     x"


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (0, "0 MiB"), (480 * 2**20, "480 MiB"), (2**30, "1.0 GiB"), (63_400_000_000, "59.0 GiB")],
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
