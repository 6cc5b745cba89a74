"""``goss-supervisor serve …`` and ``start A B C`` as a user runs them, in a home of its own."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from supervisor.cli import start as start_module
from supervisor.cli.app import program
from supervisor.cli.completion import of_shell
from supervisor.errors import ConfigError, NotFound, NotRunning, UsageError
from supervisor.home import client
from supervisor.paths import Paths
from supervisor.profile.jsonschema import SETTINGS_FIRST_LINE, settings_schema_text


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path))
    profiles = Paths.from_environment().profiles
    profiles.mkdir(parents=True)
    for name in ("big", "small"):
        (profiles / f"{name}.yaml").write_text("extends: demo\n")
    return profiles.parent / "config.yaml"


def run(*args):
    """What it printed, of a command that succeeds; its error otherwise."""
    result = CliRunner().invoke(program, args)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def with_daemon(monkeypatch, **states):
    """One that serves these profiles."""
    served = [{"profile": name, "state": state, "trouble": "no room"} for name, state in states.items()]
    monkeypatch.setattr(client, "ask", lambda *_: {"status": {"served": served}})


def test_a_list_is_made_shown_and_unmade(config):
    assert "serves nothing yet: goss-supervisor serve add" in run("serve")[1]
    assert run("serve", "add", "big")[0] == (
        "big is served now. The next start uses this: goss-supervisor start\n"
    )
    run("serve", "add", "small", "--pinned", "--priority", "5", "--no-load", "--idle-unload", "10m")
    assert config.read_text() == (
        f"{SETTINGS_FIRST_LINE}"
        "serve:\n  - big\n  - {profile: small, load: false, pinned: true, priority: 5, idle-unload: 10m}\n"
    )
    schema = config.with_name("config-schema.json")
    assert schema.name in SETTINGS_FIRST_LINE
    assert schema.read_text(encoding="utf-8") == settings_schema_text()
    assert [line.split() for line in run("serve")[0].splitlines()] == [
        ["PROFILE", "STATE", "LOAD", "PINNED", "PRIORITY", "IDLE-UNLOAD", "WHY"],
        ["big", "-", "-", "no", "0", "-"],
        ["small", "-", "no", "yes", "5", "10", "min"],
    ]
    run("serve", "rm", "big")
    run("serve", "rm", "small")
    assert config.read_text() == f"{SETTINGS_FIRST_LINE}serve: []\n"
    assert json.loads(run("serve", "--json")[0])["serve"] == []


def test_several_are_added_and_removed_at_once_or_not_at_all(config):
    assert run("serve", "add", "big", "small")[0].startswith("big, small are served now.")
    before = config.read_text()
    with pytest.raises(UsageError):
        run("serve", "add", "demo", "small")
    assert config.read_text() == before
    assert run("serve", "rm", "small", "big")[0].startswith("small, big are no longer served.")


def test_a_profile_that_cannot_be_served_says_why(config, monkeypatch):
    config.write_text("serve: [nosuch, big]\n")
    assert "There is no profile nosuch." in run("serve")[0]
    with_daemon(monkeypatch, big="ready")
    out, err = run("serve")
    assert "There is no profile nosuch." in out
    assert "reload" not in err


def test_with_a_daemon_each_has_its_state_and_what_is_to_be_done_is_told(config, monkeypatch):
    with_daemon(monkeypatch, big="ready", third="unloaded")
    assert "To apply this to the running daemon: goss-supervisor reload" in run("serve", "add", "big")[0]
    run("serve", "add", "small")
    out, err = run("serve", "--json")
    assert [(each["profile"], each["state"]) for each in json.loads(out)["serve"]] == [
        ("big", "ready"),
        ("small", None),
    ]
    assert err == "The running daemon does not serve small yet: goss-supervisor reload\n"
    assert "goss-supervisor stop big" in run("serve", "rm", "big")[1]
    assert run("serve", "rm", "small")[1] == ""


@pytest.mark.parametrize("known", [True, False])
def test_pin_is_for_the_daemon_now_and_in_the_file_for_later(config, monkeypatch, known):
    asked = []

    def ask(_, request):
        asked.append(request)
        if not known:
            raise NotFound("The daemon does not serve it.")
        return {"final": True}

    config.write_text("serve: [big]  # mine\n")
    assert run("serve", "pin", "big")[0] == "big is pinned.\n"  # without a daemon, too
    assert config.read_text() == "serve: [{profile: big, pinned: true}]  # mine\n"
    monkeypatch.setattr(client, "ask", ask)
    assert json.loads(run("serve", "pin", "big", "--off", "--json")[0]) == {
        "schema": 1, "profile": "big", "pinned": False, "in_config": True,
    }  # fmt: skip
    assert config.read_text() == "serve: [{profile: big, pinned: false}]  # mine\n"
    assert asked == [{"op": "pin", "server": "big", "pinned": False}]
    if known:
        assert (
            "until the daemon ends or reloads: config.yaml does not serve small"
            in run("serve", "pin", "small")[0]
        )
    else:
        with pytest.raises(NotFound):
            run("serve", "pin", "small")


def test_pin_without_a_daemon_is_for_what_config_yaml_serves(config):
    with pytest.raises(NotRunning):
        run("serve", "pin", "big")


@pytest.mark.parametrize("words", [("add", "big"), ("rm", "small")])
def test_a_change_of_the_list_is_told_as_json(config, words):
    config.write_text("serve: [small]\n")
    answer = json.loads(run("serve", *words, "--json")[0])
    assert answer["serve"] == (["small", "big"] if words[0] == "add" else [])
    assert "The next start uses this" in answer["text"]


def test_what_cannot_be_served_leaves_the_file_alone(config):
    config.write_text("serve: [big]  # mine\n")
    for words, error, said in (
        (("add", "bg"), NotFound, "no profile bg"),
        (("add", "big"), UsageError, "served already"),
        (("rm", "small"), NotFound, "does not serve small"),
    ):
        with pytest.raises(error, match=said):
            run("serve", *words)
    assert CliRunner().invoke(program, ["serve", "add", "small", "--idle-unload", "soon"]).exit_code == 2
    assert config.read_text() == "serve: [big]  # mine\n"


def test_a_file_that_does_not_name_the_schema_gets_none(config):
    config.write_text("serve: [big]  # mine\n")
    run("serve", "add", "small")
    assert config.read_text() == "serve: [big, small]  # mine\n"
    assert not config.with_name("config-schema.json").exists()


def test_a_broken_file_is_told_with_its_place(config):
    config.write_text("serve: big\n")
    for words in (("serve",), ("serve", "add", "small"), ("serve", "rm", "big"), ("start",)):
        with pytest.raises(ConfigError, match=r"config\.yaml:1:8: serve: must be a list"):
            run(*words)


def test_the_names_that_are_served_complete_rm(config):
    config.write_text("serve: [big, small]\n")
    completed = run_completion("serve", "rm", "s")
    assert completed == ["small"]
    assert {"big", "small"} <= set(run_completion("start", "big", ""))


def run_completion(*words):
    *args, incomplete = words
    return [item.value for item in of_shell("bash", program).get_completions(list(args), incomplete)]


@pytest.mark.parametrize(
    ("words", "main", "named"),
    [
        (("big",), "big", ()),
        (("big", "small", "demo"), "big", ("small", "demo")),
        (("--profile", "big", "small", "demo"), "big", ("small", "demo")),
        (("small", "big", "--profile", "big"), "big", ("small",)),
        (("big", "small", "big", "small"), "big", ("small",)),
    ],
)
def test_the_first_is_the_main_one_and_profile_says_it_outright(config, monkeypatch, words, main, named):
    asked = []

    def prepared(profile, *_, named=(), **__):
        asked.append((profile, named))
        raise NotFound("enough")

    monkeypatch.setattr(start_module, "prepared", prepared)
    with pytest.raises(NotFound, match="enough"):
        run("start", *words)
    assert asked == [(main, named)]


def test_without_a_name_the_first_that_is_served_is_started(config):
    config.write_text("serve: [small, {profile: big, pinned: true}]\n")
    out, err = run("start", "--dry-run")
    assert "profile: small, the first that config.yaml serves" in err
    assert "# offered: small, big (loaded at the start, pinned)\n" in out
    out, _ = run("start", "--dry-run", "demo", "big")
    assert "# offered: demo, big (loaded at the start, pinned), small\n" in out
