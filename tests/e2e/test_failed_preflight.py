"""What goes wrong at home, and what the program says and does about it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from supervisor.model.demo import DEMO_ANSWER

from ..faults.catalogue import FAULTS
from ..faults.ground import Ground
from ..faults.places import PLACE
from ..faults.starts import MODEL
from .conftest import BUILT, PATIENCE, Home, engine_settings, free_port, is_free
from .test_main_job import lives


def test_a_second_start_is_refused_and_names_who_runs(running_home):
    pid = running_home.status()["daemon"]["pid"]
    second = running_home.start(code=4)
    assert str(pid) in second.stderr
    assert "demo" in second.stderr


BY_NAME = {(each.section, each.name): each for each in FAULTS}
AT_A_START = [
    (MODEL, "does not exist"),
    (MODEL, "is a web page"),
    (PLACE, "the port is taken"),
    (PLACE, "the home is a file"),
]


@pytest.mark.parametrize("fault", [BY_NAME[each] for each in AT_A_START], ids=lambda each: each.name)
def test_what_is_wrong_at_a_start_is_named_as_the_page_of_faults_says(tmp_path, fault):
    if BUILT not in os.environ:
        pytest.skip(f"{BUILT} is not set: run bin/test")
    with Ground.fresh(tmp_path / "home") as ground:
        assert fault.check(ground)


def test_an_engine_that_is_not_there_is_an_error_with_a_way_out(built_home):
    refused = built_home.start("demo", "--set", "engine.path=/no/such/server", code=5)
    assert "/no/such/server" in refused.stderr
    assert "hint:" in refused.stderr


def test_an_engine_that_vanishes_between_two_launches_is_named(built_home):
    wrapper = built_home.root / "llama-server"
    real = built_home.engine[-1].removeprefix("engine.path=")
    wrapper.write_text(f'#!/bin/sh\nexec "{real}" "$@"\n')
    wrapper.chmod(0o755)
    built_home.start("demo", "--set", f"engine.path={wrapper}")
    wrapper.unlink()
    os.kill(built_home.status()["server"]["pid"], signal.SIGKILL)
    failed = built_home.watch_for(lambda now: now["server"]["state"] == "failed")
    assert str(wrapper) in failed["server"]["why"]
    assert built_home.run("status", code=1).stdout


def test_nothing_of_the_users_surroundings_reaches_the_server_or_comes_between(built_home):
    proxy = dict.fromkeys(("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:9")
    stray = {"LLAMA_ARG_PORT": "1", "LLAMA_ARG_MODEL": "/no/such.gguf", "LLAMA_ARG_CTX_SIZE": "broken"}
    ini = built_home.root / "nobody" / ".config" / "llama.cpp" / "config.ini"
    ini.parent.mkdir(parents=True)
    ini.write_text("port = banana\n[[[")
    built_home.start(env=proxy | stray)
    assert built_home.status()["server"]["state"] == "ready"
    assert built_home.run("ask", "hello", env=proxy).stdout.strip() == DEMO_ANSWER


def test_an_open_address_without_a_key_is_warned_of(built_home):
    started = built_home.start("demo", "--set", "listen.host=0.0.0.0", "--set", "gateway=off")
    assert "warning: 0.0.0.0" in started.stderr
    assert any("API key" in warning for warning in built_home.status()["server"]["warnings"])


def test_a_key_guards_the_server_and_is_seen_nowhere(built_home):
    built_home.profile("locked", "extends: demo\nserver: {api-key: s3cret-of-mine}\n")
    built_home.start("locked")
    server = built_home.status()
    assert "s3cret-of-mine" not in json.dumps(server)
    assert "s3cret-of-mine" not in " ".join(psutil.Process(server["server"]["pid"]).cmdline())
    assert "s3cret-of-mine" not in built_home.run("plan", "locked", "--json").stdout
    assert built_home.run("ask", "hello").stdout.strip() == DEMO_ANSWER
    for name in ("logs", "state", "run"):
        assert (built_home.root / name).stat().st_mode & 0o077 == 0
    for path in built_home.root.rglob("*"):
        if path.is_file() and path.suffix in {".log", ".json"} and "config" not in path.parts:
            assert b"s3cret-of-mine" not in path.read_bytes(), path


def test_a_key_in_a_file_is_known_to_the_probe_and_to_ask(built_home):
    keys = built_home.root / "keys"
    keys.write_text("first-key\nsecond-key\n")
    built_home.profile(
        "locked",
        f"extends: demo\nserver: {{api-key-file: {keys}}}\nhealth: {{interval: 0.1s, hang-timeout: 1s}}\n",
    )
    built_home.start("locked")
    assert built_home.run("ask", "hello").stdout.strip() == DEMO_ANSWER
    later = built_home.watch_for(lambda now: (now["server"]["uptime_seconds"] or 0) > 1.5)
    assert (later["server"]["state"], later["server"]["why"], later["server"]["restarts"]) == ("ready", "", 0)


def test_a_gpu_profile_on_a_cpu_engine_is_degraded_and_says_why(built_home):
    started = built_home.start("demo", "--set", "engine.flavour=cuda", "--set", "gpu-layers=99", code=1)
    assert "degraded" in started.stdout
    assert "CPU" in built_home.status()["server"]["why"]


@pytest.mark.parametrize(
    "line",
    [
        b"hello\n",
        b"[]\n",
        b'{"op": "status"}\n',
        b'{"protocol": 2, "op": "status"}\n',
        b'{"protocol": 1, "op": "dance"}\n',
        b'{"protocol": 1, "op": "start"}\n',
        b'{"protocol": 1, "op": "reload", "plan": {"schema": 99}}\n',
        b'{"protocol": 1, "op": "start", "plan": {"schema": 1, "argv": []}}\n',
        b"x" * 5_000_000 + b"\n",
    ],
)
def test_nonsense_on_the_control_socket_is_answered_and_harms_nobody(running_home, line):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(running_home.status()["daemon"]["control"])
        with suppress(BrokenPipeError):
            client.sendall(line)
        with suppress(ConnectionError):
            assert b"error" in client.makefile("rb").readline()
    assert running_home.status()["server"]["state"] == "ready"


@pytest.fixture(scope="module")
def running_home(tmp_path_factory):
    """One daemon for the tests that do not change it."""
    root = tmp_path_factory.mktemp("running")
    home = Home(root, engine_settings("built", root), free_port())
    home.start()
    yield home
    home.close()


def test_whoever_watches_does_not_hold_up_a_stop(built_home):
    built_home.start("demo", "--set", "stop.grace=5s")
    watcher = subprocess.Popen(
        built_home.command("status", "--watch", "--json"),
        env=built_home.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    watcher.stdout.readline()
    built_home.run("stop")
    *_, last = watcher.communicate(timeout=PATIENCE)[0].splitlines()
    assert json.loads(last)["server"]["state"] == "stopped"


def test_a_profile_without_a_model_never_becomes_a_router(built_home):
    built_home.profile("bare", "server: {ctx-size: 1024}\n")
    refused = built_home.start("bare", code=78)
    assert "names no model" in refused.stderr
    assert "model.path" in refused.stderr


def test_ctrl_c_stops_a_foreground_start_cleanly(built_home):
    process = built_home.foreground()
    shown = until_said(process, "demo: ready")
    assert "loading model" in shown  # the server's own log is seen
    server = psutil.Process(built_home.status()["server"]["pid"])
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0
    assert not lives(server)
    assert is_free(built_home.port)


def test_a_second_ctrl_c_does_not_wait_for_the_request_under_way(built_home):
    process = built_home.foreground("demo", "--set", "stop.grace=1h")
    until_said(process, "demo: ready")
    server = psutil.Process(built_home.status()["server"]["pid"])
    server.suspend()  # as deaf as one that is busy for good
    process.send_signal(signal.SIGINT)
    until_said(process, "once more to stop now")
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0
    assert not lives(server)


def test_a_stop_that_takes_long_shows_that_it_goes_on(built_home):
    built_home.start("demo", "--set", "stop.grace=3s", "--set", "stop.insist=0.1s")
    psutil.Process(built_home.status()["server"]["pid"]).suspend()
    stopped = built_home.run("stop", waits=True)
    assert "stopping" in stopped.stderr
    assert "demo: stopped" in stopped.stdout


def test_a_hangup_reloads_the_profile(built_home):
    path = built_home.profile("mine", "extends: demo\nserver: {ctx-size: 2048}\n")
    built_home.start("mine")
    before = built_home.status()
    path.write_text("extends: demo\nserver: {ctx-size: 1024}\n", encoding="utf-8")
    os.kill(before["daemon"]["pid"], signal.SIGHUP)
    after = built_home.watch_for(
        lambda now: (
            now["server"]["state"] == "ready" and now["server"]["digest"] != before["server"]["digest"]
        )
    )
    assert after["daemon"]["pid"] == before["daemon"]["pid"]


def until_said(process: subprocess.Popen, words: str) -> str:
    """What a foreground start has shown up to these words."""
    shown = ""
    for line in process.stdout:
        shown += line
        if words in line:
            return shown
    raise AssertionError(f"{words!r} was never said:\n{shown}")


def test_the_embedded_engine_ends_with_a_killed_daemon_and_the_next_start_works(tmp_path):
    home = Home(tmp_path, engine_settings("embedded", tmp_path), free_port())
    try:
        home.start()
        now = home.status()
        server = psutil.Process(now["server"]["pid"])
        os.kill(now["daemon"]["pid"], signal.SIGKILL)
        psutil.wait_procs([server], timeout=PATIENCE)
        assert not lives(server)
        home.run("status", code=3)
        home.start()
        assert home.status()["server"]["state"] == "ready"
    finally:
        home.close()


def test_a_start_that_fails_leaves_no_daemon_and_says_the_last_words(built_home):
    (built_home.root / "adapter.gguf").write_bytes(b"no adapter")
    built_home.profile("broken", f"extends: demo\nserver: {{lora: '{built_home.root}/adapter.gguf'}}\n")
    failed = built_home.start("broken", code=10)
    assert "adapter.gguf" in failed.stderr
    built_home.run("status", code=3)
    assert is_free(built_home.port)


def test_a_full_disk_loses_log_lines_and_nothing_else(built_home, tmp_path_factory):
    full = tmp_path_factory.mktemp("full")
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "none", full], capture_output=True
        ).returncode
    ):
        pytest.skip("a small file system can only be mounted by root")
    try:
        (built_home.root / "logs").symlink_to(full)
        built_home.start()
        (full / "filler").write_bytes(bytes(16 * 1024))
        with pytest.raises(OSError, match="space"):
            (full / "more").write_bytes(bytes(1024 * 1024))
        for _ in range(3):
            assert built_home.run("ask", "hello").stdout.strip() == DEMO_ANSWER
        built_home.watch_for(lambda now: now["server"]["log_dropped_bytes"] > 0)  # the log is read in gulps
        assert built_home.status()["server"]["state"] == "ready"
        built_home.run("stop")
    finally:
        subprocess.run(["umount", "-l", full], check=True)


def test_a_home_whose_path_is_too_long_for_a_socket_works(built_home):
    deep = built_home.root / ("d" * 120)
    deep.mkdir()
    env = {"GOSS_SUPERVISOR_HOME": str(deep)}
    built_home.run("start", "-p", "demo", "-d", *built_home.settings, env=env)
    control = Path(json.loads(built_home.run("status", "--json", env=env).stdout)["daemon"]["control"])
    assert control.stat().st_mode & 0o777 == 0o600
    built_home.run("stop", env=env)
    assert not control.exists()
