"""`workers:` and `without-worker:` in profiles and config.yaml: read, checked, and taken from the right layer."""

from __future__ import annotations

import json

import pytest

from supervisor.errors import ConfigError
from supervisor.profile.jsonschema import schema_text, settings_schema_text
from supervisor.profile.resolve import resolve
from supervisor.profile.store import ProfileStore
from supervisor.profile.yaml_text import rows_of_profile


@pytest.fixture
def profile(tmp_path):
    """Resolves profile ``p`` with this text, and config.yaml with that one."""

    def made(text, settings="", **overrides):
        (tmp_path / "profiles").mkdir(exist_ok=True)
        (tmp_path / "profiles" / "p.yaml").write_text(f"model: demo\n{text}", encoding="utf-8")
        (tmp_path / "config.yaml").write_text(settings, encoding="utf-8")
        return resolve("p", ProfileStore(tmp_path / "profiles"), overrides)

    return made


def addresses(found):
    return [str(each.address) for each in found.workers]


@pytest.mark.parametrize(
    "text",
    [
        "workers: [10.0.0.2:50053, mini2.local]",
        "workers:\n  - address: 10.0.0.2:50053\n  - mini2.local",
        "workers: 10.0.0.2:50053,mini2.local",
        "server: {rpc: '10.0.0.2:50053,mini2.local:50052'}",
        "args: --rpc 10.0.0.2:50053,mini2.local:50052",
    ],
)
def test_workers_are_a_list_of_addresses_however_they_are_written(profile, text):
    assert addresses(profile(text)) == ["10.0.0.2:50053", "mini2.local:50052"]


def test_an_entry_may_say_where_the_workers_own_supervisor_is(profile):
    text = "workers: [{address: mini2.local, supervisor: 'http://mini2.local:21434', api-key-env: MINI2_KEY}]"
    [worker] = profile(text).workers
    assert (worker.supervisor, worker.api_key_env) == ("http://mini2.local:21434", "MINI2_KEY")


def test_config_yaml_names_them_for_all_and_a_profile_for_itself(profile):
    settings = "workers: [mini9.local]\nwithout-worker: smaller\n"
    assert addresses(profile("", settings)) == ["mini9.local:50052"]
    assert profile("", settings).without_worker == "smaller"
    assert addresses(profile("workers: [mini2.local]", settings)) == ["mini2.local:50052"]
    assert addresses(profile("server: {rpc: 'mini2.local:1'}", settings)) == ["mini2.local:1"]
    assert addresses(profile("workers: []", settings)) == []
    assert addresses(profile("", settings, workers="[a, b]")) == ["a:50052", "b:50052"]
    assert profile("without-worker: wait", settings).without_worker == "wait"


def test_nobody_waits_by_default_for_nothing(profile):
    assert (profile("").workers, profile("").without_worker) == ((), "wait")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("workers: [a b]", "2:10: workers: must be an address such as mini2.local"),
        (
            "workers: ['[fd00::3]:50052']",
            "2:10: workers: cannot be [fd00::3]:50052: llama.cpp's RPC speaks IPv4",
        ),
        ("workers: [a, a:50052]", "2:10: workers: names a:50052 twice"),
        ("workers: [{adress: a}]", "2:10: workers: has no key adress (did you mean address?)"),
        ("workers: [{supervisor: 'http://a'}]", "2:10: workers: is missing an address"),
        (
            "workers: [{address: a, supervisor: a}]",
            "2:10: workers: must be an address such as http://mini2.local",
        ),
        ("without-worker: go", "2:17: without-worker: must be one of wait, smaller"),
        ("server: {rpc: 'a:x'}", "2:10: server.rpc: must be an address"),
        ("server: {rpc: 'a:1'}\nworkers: [b]", "2:10: server.rpc: workers already names the machines"),
        ("engine: {command: [x, '{port}']}\nworkers: [b]", "3:1: workers: is for llama-server only"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_column(profile, text, problem):
    with pytest.raises(ConfigError) as error:
        profile(text)
    assert problem in str(error.value)


def test_layers_for_workers_ask_for_no_gpu_here(profile):
    layers = "server: {gpu-layers: 99}"
    assert profile(layers).wants_gpu
    assert not profile(f"{layers}\nworkers: [mini2.local]").wants_gpu
    assert profile(layers, "workers: [mini2.local]\n").wants_gpu
    assert profile(f"{layers}\nworkers: [mini2.local]\nengine: {{flavour: cuda}}").wants_gpu


def test_a_command_ignores_the_workers_of_config_yaml(profile):
    assert profile("engine: {command: [x, '{port}']}", "workers: [b]\n").can_start


def test_profile_show_writes_them_as_a_person_would(profile):
    text = "workers: [mini2.local, {address: 10.0.0.2:1, supervisor: 'http://a:21434'}]"
    [row] = [row for row in rows_of_profile(profile(text), defaults=False) if row.key == "workers"]
    assert row.text == '[mini2.local, {address: "10.0.0.2:1", supervisor: http://a:21434}]'
    assert "p.yaml:2" in row.comment


@pytest.mark.parametrize("text", [schema_text(), settings_schema_text()])
def test_both_schemas_know_them(text):
    properties = json.loads(text)["properties"]
    assert {"workers", "without-worker"} <= set(properties)
    assert "wait" in str(properties["without-worker"])
