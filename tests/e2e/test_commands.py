"""The commands around the main job: plan, logs, ps, completion, profiles, and their outputs for programs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from supervisor.paths import Paths
from supervisor.prepare.prepare import preview
from supervisor.profile.resolve import resolve
from supervisor.profile.store import ProfileStore

from ..fakes.hub import FakeHub

STORE = ProfileStore(Path("no folder of a user"))
SHIPPED = [name for name in STORE.names() if (it := resolve(name, STORE)).can_start and not it.engine.command]


@pytest.mark.parametrize("profile", SHIPPED)
def test_the_real_binary_accepts_the_plan_of_each_shipped_profile(built_home, profile, monkeypatch):
    settings = dict(each.split("=", 1) for each in built_home.engine if each != "--set")
    with FakeHub() as hub:  # that has none of the models: only the options matter
        monkeypatch.setenv("HF_ENDPOINT", hub.env["HF_ENDPOINT"])
        planned = preview(profile, settings, Paths.under(built_home.root)).plan
    parsed = subprocess.run(
        [*planned.argv, "--version"], env={**built_home.env, **planned.env}, capture_output=True, text=True
    )
    assert parsed.returncode == 0, parsed.stderr
    assert "version:" in parsed.stderr


def test_a_plan_is_shown_without_an_engine_and_without_a_model(built_home):
    planned = built_home.run("plan", "rtx4060ti-oculink")
    assert "--n-cpu-moe 32" in planned.stdout
    assert "--flash-attn on" in planned.stdout
    assert "not on disk" in planned.stdout
    assert "known options of b11434" in planned.stdout
    assert list(built_home.root.iterdir()) == []


def test_a_plan_and_a_dry_run_are_the_same(built_home):
    plan = built_home.run("plan", "demo", "--json", *built_home.settings).stdout
    dry_run = built_home.run("start", "-p", "demo", "--dry-run", "--json", *built_home.settings).stdout
    assert without_free_memory(dry_run) == without_free_memory(plan)


def without_free_memory(plan):
    """What of a plan is the same a moment later."""
    document = json.loads(plan)
    changing = {"free_bytes", "left_bytes", "text"}
    for device in document["ledger"]["devices"]:
        assert device.keys() > changing
        for name in changing:
            del device[name]
    return document


def test_the_planned_command_is_the_one_that_runs(built_home):
    planned = json.loads(built_home.run("plan", "demo", "--json", *built_home.settings).stdout)
    built_home.start()
    pid = built_home.status()["server"]["pid"]
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        assert file.read().decode().rstrip("\0").split("\0") == planned["argv"]


def test_a_setting_holds_through_a_restart(built_home):
    built_home.start("demo", "--set", "ctx-size=1024")
    digest = built_home.status()["server"]["digest"]
    built_home.run("restart")
    assert built_home.status()["server"]["digest"] == digest
    built_home.run("restart", "--set", "ctx-size=2048")
    assert built_home.status()["server"]["digest"] != digest


def test_an_article_becomes_a_profile_that_starts(built_home):
    article = (
        "./build/bin/llama-server \\\n  -m model.gguf -c 2048 -ngl 0 -fa --no-mmap"
        " \\\n  --host 127.0.0.1 --port 8080"
    )
    built_home.run("profile", "import", "--name", "article", article)
    built_home.start("article", "--set", "model=demo", "--set", "engine.flavour=cpu")
    assert built_home.status()["server"]["state"] == "ready"


def test_ps_and_status_speak_json(built_home):
    assert json.loads(built_home.run("ps", "--json").stdout) == {"schema": 1, "servers": [], "peers": []}
    built_home.start()
    (server,) = json.loads(built_home.run("ps", "--json").stdout)["servers"]
    assert server["profile"] == "demo"
    shown, asked = json.loads(built_home.run("status", "--json").stdout), built_home.status()
    assert shown.keys() == asked.keys()
    assert shown["server"]["pid"] == asked["server"]["pid"]
    assert built_home.run("ps", "-q").stdout == "demo\n"
    assert built_home.run("ps").stdout.splitlines()[0].startswith("PROFILE  STATE")


def test_logs_are_followed_over_a_restart(built_home):
    built_home.start()
    follower = subprocess.Popen(
        built_home.command("logs", "-f"), env=built_home.env, stdout=subprocess.PIPE, text=True
    )
    seen = 0
    for line in follower.stdout:
        if "listening on" in line:
            seen += 1
            if seen == 2:
                break
            built_home.run("restart")
    follower.kill()
    follower.communicate()
    assert seen == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_each_shell(built_home, shell):
    assert "goss-supervisor" in built_home.run("completion", shell).stdout


def test_completion_knows_the_profiles(built_home):
    env = {
        "_GOSS_SUPERVISOR_COMPLETE": "bash_complete",
        "COMP_WORDS": "goss-supervisor switch rtx",
        "COMP_CWORD": "2",
    }
    assert "rtx4060ti-oculink" in built_home.run(env=env, code=None).stdout


@pytest.mark.parametrize("command", ["stop", "restart", "reload", "status", "ask hello", "switch demo"])
def test_without_a_daemon_every_request_says_so(built_home, command):
    refused = built_home.run(*command.split(), code=3)
    assert "start" in refused.stderr


def test_a_command_line_that_makes_no_sense_is_a_usage_error(built_home):
    built_home.run("start", "--profle", "demo", code=2)
    built_home.run("switch", "demo", "mine", code=2)
    refused = built_home.run("plan", "demo", "--set", "ctx-size", code=2)
    assert "KEY=VALUE" in refused.stderr


def test_an_unknown_profile_is_not_found_and_the_nearest_is_named(built_home):
    refused = built_home.run("start", "-p", "dmo", code=5)
    assert "demo" in refused.stderr
