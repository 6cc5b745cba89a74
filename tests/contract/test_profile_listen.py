"""What an address takes from the disk: offers that can be started, keys that can be read, a short path."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from supervisor.cli.plan import plan as plan_command
from supervisor.cli.profile import check
from supervisor.engine.build import Build
from supervisor.errors import ConfigError, NotFound
from supervisor.model.demo import ensure_demo
from supervisor.model.gguf_writer import write_gguf
from supervisor.options.meanings import pinned
from supervisor.paths import Paths
from supervisor.plan.launch import LaunchPlan
from supervisor.plan.listen import offers_beside
from supervisor.plan.plan_json import from_json, to_json
from supervisor.prepare.default_profile import default_profile
from supervisor.prepare.prepare import preview
from supervisor.prepare.profile_listen import inside_of, listen_of, shared_names
from supervisor.profile.definition import Profile
from supervisor.profile.matching import Fit
from supervisor.profile.resolve import resolve
from supervisor.profile.store import ProfileStore
from supervisor.server.preflight import check_launch

BUILD = Build("path", "r", "b11434", "cpu", ("x",), "d", pinned())
PROFILE = Profile("mine")
posix = pytest.mark.skipif(sys.platform == "win32", reason="there are no Unix sockets for Python")


@pytest.fixture
def paths(tmp_path, monkeypatch):
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path / "home"))
    found = Paths.from_environment()
    found.profiles.mkdir(parents=True)
    return found


def write(paths, **texts):
    for name, text in texts.items():
        (paths.profiles / f"{name}.yaml").write_text(text)


def profile_of(paths, name="mine"):
    return resolve(name, ProfileStore(paths.profiles))


def test_this_profile_is_offered_first_then_those_that_it_names(paths):
    write(
        paths,
        mine="extends: demo\ngateway: {models: [other, mine, other]}\n",
        other="extends: demo\naliases: [x]\ndescription: the other\n",
    )
    offers = listen_of(profile_of(paths), paths).offers
    assert [(offer.profile, offer.names) for offer in offers] == [
        ("mine", ("gpt-oss-demo", "mine")),
        ("other", ("x", "other")),
    ]
    assert offers[1].description == "the other"


def gguf(path, architecture, **values):
    own = {f"{architecture}.{key}": value for key, value in values.items()}
    write_gguf(path, {"general.architecture": architecture, **own}, [])
    return path


def test_each_offer_has_its_role_from_profile_options_or_file_and_its_context(paths, tmp_path):
    bert = gguf(tmp_path / "bert.gguf", "bert")
    write(
        paths,
        mine="model: demo\ngateway: {models: [said, asked, file, none]}\nserver: {ctx-size: 4096}\n",
        said=f"model: {{path: {bert}}}\nrole: speech\n",
        asked="model: {path: /nowhere.gguf}\nserver: {rerank: true}\n",
        file=f"model: {{path: {bert}}}\n",
        none="model: {path: /nowhere.gguf}\n",
    )
    offers = listen_of(profile_of(paths), paths).offers
    assert {offer.profile: offer.roles for offer in offers} == {
        "mine": (),  # the demo is made later
        "said": ("speech",),
        "asked": ("rerank",),
        "file": ("embedding",),
        "none": (),
    }
    assert [offer.role for offer in offers] == ["chat", "speech", "rerank", "embedding", "chat"]
    assert [offer.context_tokens for offer in offers] == [4096, None, None, None, None]


def test_a_plan_has_the_role_of_its_models_file_and_the_option_for_it(paths, tmp_path):
    reranker = gguf(tmp_path / "m.gguf", "qwen3", pooling_type=4)
    write(paths, mine=f"model: {{path: {reranker}}}\n")
    made = preview("mine", {}, paths)
    assert made.plan.roles == ("rerank",)
    assert "--rerank" in made.plan.argv
    assert [offer.roles for offer in offers_beside([made.plan], made.listen)] == [("rerank",)]
    assert from_json(to_json(made.plan)) == made.plan


def test_a_role_that_there_is_not_is_an_error_with_its_place(paths):
    write(paths, mine="model: demo\nrole: poetry\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml:2:7: role: .*chat, embedding, rerank"):
        profile_of(paths)


def test_each_profile_that_cannot_be_offered_is_told_with_place_and_reason(paths):
    write(
        paths,
        mine="model: demo\ngateway:\n  models: [othr, wrong, bare]\n",
        other="model: demo\n",
        wrong="model: demo\nlisten: {port: x}\n",
        bare="server: {c: 1}\n",
    )
    with pytest.raises(ConfigError) as error:
        listen_of(profile_of(paths), paths)
    place = f"{paths.profiles / 'mine.yaml'}:3:3: gateway.models: "
    assert str(error.value).splitlines() == [
        f"{place}othr cannot be offered: There is no profile othr. Did you mean other?",
        f"{place}wrong cannot be offered: {paths.profiles / 'wrong.yaml'}:2:16: listen.port: "
        "must be a whole number from 1 to 65535, not the text 'x'",
        f"{place}bare cannot be offered: it names no model",
    ]


def configure(paths, text):
    (paths.config / "config.yaml").write_text(text)


THREE = dict.fromkeys(("mine", "other", "third"), "extends: demo\naliases: []\n")


def offers_of(paths, name="mine", named=()):
    """Those that a start would load are marked with a ``+``."""
    offers = listen_of(profile_of(paths, name), paths, named).offers
    return " ".join(f"{offer.profile}{'+' * offer.load}" for offer in offers)


def test_what_config_yaml_serves_is_offered_on_its_terms(paths):
    write(paths, **THREE)
    configure(
        paths,
        "serve:\n- {profile: mine, pinned: true}\n"
        "- {profile: other, priority: 3, idle-unload: 5m}\n- {profile: third, load: false}\n",
    )
    mine, other, third = listen_of(profile_of(paths), paths).offers
    assert (mine.pinned, mine.priority, mine.idle_unload_seconds) == (True, 0, None)
    assert (other.pinned, other.priority, other.idle_unload_seconds, other.load) == (False, 3, 300, True)
    assert (third.profile, third.load) == ("third", False)


@pytest.mark.parametrize(
    ("serve", "main", "named", "offered"),
    [
        ("[mine, other]", "mine", (), "mine other+"),
        ("[mine, other]", "other", (), "other mine+"),  # one of them, whichever: as it is written
        ("[mine, other]", "third", (), "third mine other"),  # another one: the rest waits for its request
        ("[mine, other]", "mine", ("third",), "mine third+ other"),  # several: what is to be loaded
        ("[{profile: mine, load: false}, {profile: other, load: false}]", "mine", ("other",), "mine other+"),
        ("[]", "mine", ("other", "mine", "other"), "mine other+"),
    ],
)
def test_a_start_loads_what_it_names_or_else_what_is_written(paths, serve, main, named, offered):
    write(paths, **THREE)
    configure(paths, f"serve: {serve}\n")
    assert offers_of(paths, main, named) == offered


def test_gateway_models_go_on_being_offered_and_not_loaded(paths):
    write(paths, **THREE | {"mine": "extends: demo\ngateway: {models: [other, third]}\n"})
    assert offers_of(paths) == "mine other third"
    configure(paths, "serve: [mine, {profile: third, pinned: true}]\n")
    assert offers_of(paths) == "mine third+ other"


def test_a_profile_that_does_not_preload_waits_unless_its_entry_says_otherwise(paths):
    write(paths, **THREE | {"other": "extends: demo\ngateway: {preload: false}\n"})
    configure(paths, "serve: [{profile: mine, load: false}, other]\n")
    listen = listen_of(profile_of(paths), paths)
    assert (offers_of(paths), listen.settings.preload) == ("mine other", False)
    configure(paths, "serve: [mine, {profile: other, load: true}]\n")
    assert offers_of(paths) == "mine other+"
    assert listen_of(profile_of(paths, "other"), paths).settings.preload
    assert not listen_of(profile_of(paths, "other"), paths, ["mine"]).settings.preload


def test_a_served_profile_that_cannot_be_is_told_with_its_place(paths):
    write(paths, **THREE | {"third": "extends: demo\ngateway: off\n"})
    configure(paths, "serve:\n  - mine\n  - othr\n  - third\n")
    file = paths.config / "config.yaml"
    expected = [
        f"{file}:3:5: serve: othr cannot be served: There is no profile othr. Did you mean other?",
        f"{file}:4:5: serve: third cannot be served: it has gateway: off",
    ]
    with pytest.raises(ConfigError) as error:
        listen_of(profile_of(paths), paths)
    assert str(error.value).splitlines() == expected
    checked = CliRunner().invoke(check, [])
    assert str(checked.exception).splitlines() == expected
    assert CliRunner().invoke(check, ["mine"]).exit_code == 0
    assert len(listen_of(profile_of(paths), paths, None).offers) == 1  # for a load, it does not matter


def test_nothing_can_be_served_next_to_a_profile_without_a_gateway(paths):
    write(paths, mine="model: demo\ngateway: off\n", other="model: demo\n")
    with pytest.raises(ConfigError, match="Nothing can be served next to mine"):
        listen_of(profile_of(paths), paths, ["other"])


def test_a_name_that_no_profile_has_is_told_as_any_other(paths):
    write(paths, **THREE)
    with pytest.raises(NotFound, match=r"There is no profile othr\. Did you mean other"):
        listen_of(profile_of(paths), paths, ["othr"])


def test_a_start_without_a_name_takes_the_first_that_is_served(paths):
    write(paths, **THREE)
    configure(paths, "serve: [{profile: other}, mine]\n")
    assert default_profile(paths) == Fit("other", "the first that config.yaml serves")


def test_without_a_gateway_nothing_is_looked_for(paths):
    write(paths, mine="model: demo\ngateway: {mode: off, models: [none]}\nserver: {api-key-file: /none}\n")
    assert listen_of(profile_of(paths), paths) is None


def test_names_that_two_profiles_share_are_told(paths):
    write(paths, mine="extends: demo\ngateway: {models: other}\n", other="extends: demo\n")
    assert list(shared_names(listen_of(profile_of(paths), paths).offers)) == [
        "other and mine are both called gpt-oss-demo; requests for it go to mine"
    ]


def test_a_file_of_keys_is_read_where_the_profile_says_it(paths, tmp_path):
    (tmp_path / "keys").write_text("# mine\nk1\nk2\n")
    write(paths, mine=f"model: demo\nserver:\n  api-key-file: {tmp_path / 'keys'}\n")
    listen = preview("mine", {}, paths).listen
    assert listen.keys == tuple(hashlib.sha256(key).hexdigest() for key in (b"k1", b"k2"))


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read: No such file"), (b"\xff\xfe", "is not UTF-8")]
)
def test_a_file_of_keys_that_cannot_be_read_is_an_error_at_its_line(paths, tmp_path, content, said):
    keys = tmp_path / "keys"
    if content is not None:
        keys.write_bytes(content)
    write(paths, mine=f"model: demo\nserver:\n  api-key-file: {keys}\n")
    with pytest.raises(ConfigError) as error:
        listen_of(profile_of(paths), paths)
    place = f"{paths.profiles / 'mine.yaml'}:3:3: server.api-key-file"
    assert str(error.value).startswith(f"{place}: {keys} {said}")
    assert listen_of(profile_of(paths), paths, elsewhere=True).keys == ()


@posix
def test_the_socket_lies_in_the_private_folder(paths):
    near = replace(paths, runtime=Path("/run/user/1000/goss-supervisor"))
    assert inside_of(PROFILE, BUILD, near) == "/run/user/1000/goss-supervisor/llama-server-mine.sock"


@posix
def test_a_home_that_lies_too_deep_gets_a_short_path(paths):
    deep = replace(paths, runtime=paths.runtime / ("d" * 100))
    inside = inside_of(PROFILE, BUILD, deep)
    assert len(os.fsencode(inside)) <= 100
    assert inside.endswith(".sock")
    assert (
        inside
        == inside_of(PROFILE, BUILD, deep)
        != inside_of(PROFILE, BUILD, replace(deep, runtime=deep.runtime / "x"))
    )


@posix
def test_a_build_whose_help_speaks_of_no_sockets_gets_a_port(paths):
    host = replace(pinned().find("--host"), summary="addresses to listen on, comma-separated")
    options = tuple(host if "--host" in option.names else option for option in pinned().options)
    assert inside_of(PROFILE, replace(BUILD, capabilities=replace(pinned(), options=options)), paths) == ""


def test_plan_shows_both_ends_and_no_key(paths):
    write(
        paths,
        mine="extends: demo\ngateway: {models: other}\nserver: {api-key: s3cret}\n",
        other="extends: demo\n",
    )
    result = CliRunner().invoke(plan_command, ["mine", "-v"])
    inside = preview("mine", {}, paths).plan.host
    shown = inside if inside.endswith(".sock") else f"{inside}, a free port"
    assert f"# gateway: 127.0.0.1:8080 -> {shown}\n" in result.stdout
    assert "# offered: mine, other\n" in result.stdout
    document = CliRunner().invoke(plan_command, ["mine", "--json"]).stdout
    assert json.loads(document)["listen"]["keys"] == ["(hidden)"]
    assert "s3cret" not in result.stdout + document
    assert hashlib.sha256(b"s3cret").hexdigest() not in result.stdout + document


def test_plan_shows_the_terms_of_what_is_offered_and_what_is_not_ours(paths):
    write(paths, **THREE)
    configure(
        paths,
        "serve: [mine, {profile: other, pinned: true}, {profile: third, load: false, priority: 2}]\n"
        "memory: {leave: {RAM: 900 TB}}\n",
    )
    ensure_demo(paths.models)
    shown = CliRunner().invoke(plan_command, ["mine", "-v"]).stdout
    assert "# offered: mine, other (loaded at the start, pinned), third (priority 2)\n" in shown
    document = json.loads(CliRunner().invoke(plan_command, ["mine", "--json"]).stdout)
    assert (document["ours"], document["ledger"]["refused"]) == ({"RAM": 0}, True)
    assert document["leaves"] == {"RAM": 900 * 10**12}
    forced = CliRunner().invoke(plan_command, ["mine", "--json", "--set", "guardrails=off"]).stdout
    assert (json.loads(forced)["ours"], json.loads(forced)["ledger"]["refused"]) == ({}, False)
    memory = document["ledger"]["devices"][-1]
    assert (memory["free_bytes"], memory["left_bytes"] > 0) == (0, True)
    assert "that memory.leave keeps for others" in memory["text"]
    assert any(note.startswith("memory.leave keeps") for note in document["notes"])


def test_the_preflight_takes_a_port_that_is_yet_to_be_found():
    plan = LaunchPlan("p", (sys.executable,), {}, "127.0.0.1", 0, "b", "cpu", "e", "m", "d")
    assert check_launch(plan) is None
