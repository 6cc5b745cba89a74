"""``doctor`` on this machine: in a home that is sound, and in homes with one thing wrong."""

from __future__ import annotations

import json
import socket
import sys

import pytest
from click.testing import CliRunner

from supervisor.cli.doctor import doctor
from supervisor.errors import UsageError
from supervisor.home.places import generation_lock, keys_file, make_folders
from supervisor.locks import Lock
from supervisor.paths import Paths


@pytest.fixture
def paths(tmp_path, monkeypatch):
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path))
    found = Paths.from_environment()
    make_folders(found)
    found.profiles.mkdir(parents=True)
    return found


def run(*words):
    return CliRunner().invoke(doctor, words, catch_exceptions=False, standalone_mode=False)


def problems(*words):
    done = run("--json", *words)
    document = json.loads(done.stdout)
    found = [each for each in document["findings"] if each["state"] == "problem"]
    assert (done.return_value == 1) == bool(found), "the exit code says whether there is one"
    assert document["counts"]["problem"] == len(found)
    return {each["id"]: each["text"] for each in found}


def test_a_fresh_home_with_the_demo_has_no_problem_of_its_own(paths):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    (paths.profiles / "mine.yaml").write_text(f"extends: demo\nlisten: {{port: {port}}}\n")
    assert not {"profiles", "keys", "daemon", "port", "leftovers", "folders", "profile"} & set(
        problems("mine")
    )
    assert "in order" in run("mine").stdout


def test_what_doctor_advises_helps(paths):
    """A start can end only what its record names, and config.yaml is no profile to be edited."""
    (paths.profiles.parent / "config.yaml").write_text("serve: [one\n")
    lock = Lock.acquire(generation_lock(paths), {"pid": 1})
    found = json.loads(run("--json", "demo").stdout)["findings"]
    lock.release()
    fixes = {each["id"]: each["fix"] for each in found}
    assert "If not, end it yourself" in fixes["leftovers"]
    assert fixes["profiles"].startswith(f"Correct {paths.profiles.parent / 'config.yaml'};")


def test_a_wrong_profile_a_busy_port_open_keys_and_a_leftover_are_each_named(paths):
    (paths.profiles / "broken.yaml").write_text("modell: x\n")
    keys_file(paths).write_text('{"schema": 1, "keys": []}')
    keys_file(paths).chmod(0o644)
    lock = Lock.acquire(generation_lock(paths), {"pid": 1})
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        (paths.profiles / "mine.yaml").write_text(f"extends: demo\nlisten: {{port: {port}}}\n")
        found = problems("mine")
    lock.release()
    modes = {"keys"} if sys.platform != "win32" else set()
    assert {"profiles", "leftovers", "port", *modes} <= set(found)
    assert "modell" in found["profiles"]
    assert str(port) in found["port"]


def test_a_profile_that_is_not_there_is_a_problem_and_no_traceback(paths):
    assert "nothing" in problems("nothing")["profile"]


def test_a_report_replaces_no_file(paths, tmp_path):
    assert "written:" in run("demo", "--bundle", str(tmp_path / "r.tar.gz")).stdout
    with pytest.raises(UsageError, match="already there"):
        run("demo", "--bundle", str(tmp_path / "r.tar.gz"))
