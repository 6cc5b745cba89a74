"""How the daemon gets its orders: nothing of them, and of the secrets in them, stays where it can be read."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.home import client
from supervisor.paths import Paths
from supervisor.plan.plan_json import to_json

from ..fakes.launching import BOUND_SECONDS, wait_until_gone
from .test_server import plan

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what a process has open")

SECRET = "s3cr3t-of-the-plan"
MUCH = 300_000  # bytes; a pipe of Linux holds 65,536

# As `start` does once it has its plan, which these tests bring along.
START = """
import json, sys
from pathlib import Path
from supervisor.cli import start
from supervisor.daemon import orders
from supervisor.paths import Paths
from supervisor.plan.plan_json import from_json
from supervisor.prepare.prepare import Preparation

how, found = sys.argv[1], Preparation(from_json(json.loads(Path(sys.argv[2]).read_text())))
if how == "background":
    sys.exit(start._start_in_background(Paths.from_environment(), lambda: found, first=False, as_json=True))
if how == "foreground, by a pipe":
    orders._memory_with = lambda _: None  # as on macOS
start._become_the_daemon(start._orders(found, foreground=True))
"""


@contextmanager
def daemon(how, tmp_path):
    """Its pid, once its server is ready."""
    asked = replace(plan(tmp_path), secrets={"KEY": SECRET}, settings={"filler": "x" * MUCH})
    brought, paths = tmp_path / "plan.json", Paths.under(tmp_path / "home")
    brought.write_text(json.dumps(to_json(asked)))
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", START, how, str(brought)],
        env={
            "PATH": os.environ["PATH"],
            "GOSS_SUPERVISOR_HOME": str(tmp_path / "home"),
            "TMPDIR": str(tmp_path / "tmp"),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert any("ready" in line for line in process.stdout), "it did not become ready"
        pid = client.ask(paths, {"op": "status"})["status"]["daemon"]["pid"]
        try:
            yield pid
        finally:
            client.ask(paths, {"op": "stop"})
        assert wait_until_gone(pid)
    finally:
        process.kill()
        process.communicate(timeout=BOUND_SECONDS)


def contents_of_open_files(pid):
    """Of what has content that can be read again and again: files, deleted ones too, and memory."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed since it was listed
            if stat.S_ISREG(descriptor.stat().st_mode):
                yield descriptor.readlink(), descriptor.read_bytes()


def test_a_ctrl_c_before_the_daemon_listens_waits_for_it(tmp_path):
    brought = tmp_path / "plan.json"
    brought.write_text(json.dumps(to_json(plan(tmp_path))))
    soon = "import os, signal\nos.execv = lambda *to, become=os.execv: (os.kill(os.getpid(), signal.SIGINT), become(*to))"
    ended = subprocess.run(
        [sys.executable, "-P", "-c", f"{soon}\n{START}", "foreground", str(brought)],
        env={"PATH": os.environ["PATH"], "GOSS_SUPERVISOR_HOME": str(tmp_path / "home")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BOUND_SECONDS,
        check=False,
    )
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr
    assert "stopped (asked to stop)" in ended.stdout + ended.stderr


@pytest.mark.parametrize("how", ["foreground", "foreground, by a pipe", "background"])
def test_nothing_of_the_orders_stays_open_or_on_a_disk(how, tmp_path):
    with daemon(how, tmp_path) as pid:
        assert Path(f"/proc/{pid}/fd/0").readlink() == Path(os.devnull)
        opened = dict(contents_of_open_files(pid))
        assert opened, "the daemon has its log open"
        assert [name for name, content in opened.items() if SECRET.encode() in content] == []
        assert list((tmp_path / "tmp").iterdir()) == []
    kept = [file for file in (tmp_path / "home").rglob("*") if file.is_file()]
    assert kept
    assert [file for file in kept if SECRET.encode() in file.read_bytes()] == []


def test_the_process_that_fills_the_pipe_is_not_left_to_the_daemon(tmp_path):
    with daemon("foreground, by a pipe", tmp_path) as pid:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        assert len(children) == 1, "llama-server, and nobody else"
