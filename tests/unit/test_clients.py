"""What clients are told: every text is valid in its language, and says where, which model, and no key."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from supervisor.clients.client_endpoint import (
    KEY_ENV,
    ClientEndpoint,
    endpoint_of_offer,
    endpoint_of_plan,
    endpoint_of_profile,
)
from supervisor.clients.recipes import CLIENTS, NAMES, find_client
from supervisor.engine.build import Build
from supervisor.errors import ConfigError, NotFound
from supervisor.options.meanings import pinned
from supervisor.plan.listen import Listen as GatewayListen
from supervisor.plan.listen import context_of, make_listen
from supervisor.plan.make import ModelAtHand, make_plan
from supervisor.profile.definition import GatewaySettings, ListenSettings, Profile

from .test_docs import DOCS, generator

PLAIN = ClientEndpoint("http://127.0.0.1:8080", "gpt-oss-20b", context_tokens=32768)
KEYED = replace(PLAIN, key_env=KEY_ENV)
OPEN = replace(KEYED, is_local=False, is_everywhere=True)
UNKNOWN = replace(PLAIN, context_tokens=None)
TARGETS = {"plain": PLAIN, "keyed": KEYED, "open": OPEN, "unknown": UNKNOWN}
# Lines that begin at the margin begin a statement or end one, with every string closed: all that we print.
_STATEMENT = re.compile(
    r"""(?:(?:(?:import|const|console)\b|[ })]|\n)(?:[^"\n]|"(?:[^"\\\n]|\\.)*")*\n|\n)+"""
)
PARSERS = {
    "json": json.loads,
    "yaml": yaml.safe_load,
    "toml": tomllib.loads,
    "python": lambda text: compile(text, "hello.py", "exec"),
    "sh": shlex.split,
    "javascript": _STATEMENT.fullmatch,
    "text": lambda text: dict(line.split(":", 1) for line in text.splitlines()),
}
BUILD = Build("path", "ggml-org/llama.cpp", "b11434", "cpu", ("/opt/llama-server",), "d1", pinned())
MODEL = ModelAtHand("/models/m.gguf", ("/models/m.gguf",), "stamp")


def parsed(name, target, file=0):
    snippet = find_client(name).recipe(target).files[file]
    return PARSERS[snippet.language](snippet.text)


def words(name, target):
    recipe = find_client(name).recipe(target)
    return "\n".join([*(file.text for file in recipe.files), *recipe.steps])


@pytest.mark.parametrize("client", NAMES)
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_every_text_is_valid_and_ends_its_last_line(client, target):
    for file in find_client(client).recipe(target).files:
        assert PARSERS[file.language](file.text)
        assert file.text.endswith("\n")
        assert not file.text.endswith("\n\n")
        assert file.path


@given(model=st.from_regex(r"[A-Za-zé🦙][A-Za-z0-9._:/ '\"$#\\-]{0,30}", fullmatch=True))
def test_whatever_the_model_is_called_the_texts_stay_valid_and_say_it(model):
    target = replace(KEYED, model=model)
    for client in CLIENTS:
        for file in client.recipe(target).files:
            assert PARSERS[file.language](file.text)
    assert parsed("codex", target)["model"] == model
    assert parsed("continue", target)["models"][0]["model"] == model
    assert parsed("aider", target)["model"] == f"openai/{model}"
    assert parsed("opencode", target)["model"] == f"goss/{model}"
    assert parsed("claude-code", target)["env"]["ANTHROPIC_MODEL"] == model


@pytest.mark.parametrize("client", NAMES)
def test_without_a_key_none_is_spoken_of(client):
    assert KEY_ENV not in words(client, PLAIN)


@pytest.mark.parametrize("client", NAMES)
def test_with_a_key_its_variable_is_named_and_how_one_is_made(client):
    said = words(client, replace(PLAIN, key_env="MY_KEY"))
    assert "MY_KEY" in said
    assert "goss-supervisor key add NAME" in said
    assert KEY_ENV not in said


def test_cline_is_told_its_fields():
    assert {name: value.strip() for name, value in parsed("cline", PLAIN).items()} == {
        "API Provider": "OpenAI Compatible",
        "Base URL": "http://127.0.0.1:8080/v1",
        "API Key": "none",
        "Model ID": "gpt-oss-20b",
        "Context Window Size": "32768",
        "Supports Images": "off",
        "Enable R1 messages format": "off",
    }


def test_continue_speaks_openai_and_reads_its_own_secrets():
    (model,) = parsed("continue", KEYED)["models"]
    assert (model["provider"], model["apiBase"]) == ("openai", "http://127.0.0.1:8080/v1")
    assert model["apiKey"] == "${{ secrets.GOSS_API_KEY }}"
    assert model["defaultCompletionOptions"] == {"contextLength": 32768}
    assert parsed("continue", PLAIN)["models"][0]["apiKey"] == "none"


def test_claude_code_gets_the_address_without_v1_for_each_of_its_tiers():
    env = parsed("claude-code", PLAIN)["env"]
    assert env["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8080"
    assert env["ANTHROPIC_AUTH_TOKEN"] == "none"
    assert {env[f"ANTHROPIC_DEFAULT_{tier}_MODEL"] for tier in ("OPUS", "SONNET", "HAIKU")} == {"gpt-oss-20b"}
    assert (env["CLAUDE_CODE_MAX_CONTEXT_TOKENS"], env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"]) == ("32768", "8192")


def test_claude_codes_settings_leave_the_key_to_the_shell():
    assert "ANTHROPIC_AUTH_TOKEN" not in parsed("claude-code", KEYED)["env"]
    assert 'export ANTHROPIC_AUTH_TOKEN="$GOSS_API_KEY"' in words("claude-code", KEYED)


def test_codex_speaks_responses_and_names_the_variable_itself():
    config = parsed("codex", KEYED)
    provider = config["model_providers"][config["model_provider"]]
    assert provider["base_url"] == "http://127.0.0.1:8080/v1"
    assert (provider["wire_api"], provider["env_key"]) == ("responses", KEY_ENV)
    assert config["model_context_window"] == 32768
    assert "env_key" not in parsed("codex", PLAIN)["model_providers"]["goss"]


def test_opencode_gets_both_parts_of_a_limit_or_none():
    provider = parsed("opencode", KEYED)["provider"]["goss"]
    assert provider["options"] == {"baseURL": "http://127.0.0.1:8080/v1", "apiKey": "{env:GOSS_API_KEY}"}
    assert provider["models"]["gpt-oss-20b"]["limit"] == {"context": 32768, "output": 8192}
    assert "limit" not in parsed("opencode", UNKNOWN)["provider"]["goss"]["models"]["gpt-oss-20b"]


def test_a_container_gets_the_hosts_network_where_the_gateway_is_local():
    linux, desktop, profile = (parsed("open-webui", PLAIN, file) for file in range(3))
    assert "--network=host" in linux
    assert "OPENAI_API_BASE_URL=http://127.0.0.1:8080/v1" in linux
    assert "OPENAI_API_BASE_URL=http://host.docker.internal:8080/v1" in desktop
    assert profile == {"gateway": {"allow-hosts": "host.docker.internal"}}


def test_a_container_goes_through_the_host_where_the_gateway_is_open():
    (file,) = find_client("open-webui").recipe(OPEN).files
    assert "OPENAI_API_BASE_URL=http://host.docker.internal:8080/v1" in file.text
    assert '-e OPENAI_API_KEY="$GOSS_API_KEY"' in file.text


@pytest.mark.parametrize("client", ["cline", "continue", "claude-code", "codex", "opencode"])
def test_an_unknown_context_is_left_out_and_said(client):
    assert "size of the context is not known" in words(client, UNKNOWN)
    assert "32768" not in "".join(file.text for file in find_client(client).recipe(UNKNOWN).files)


def test_a_small_context_is_said_to_agents():
    assert "4096 tokens is small for an agent" in words("codex", replace(PLAIN, context_tokens=4096))
    assert "small for an agent" not in words("codex", PLAIN)


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({}, None),
        ({"ctx-size": 0}, None),
        ({"ctx-size": 8192}, 8192),
        ({"ctx-size": 8192, "parallel": -1}, 8192),
        ({"ctx-size": 8192, "parallel": 4}, 2048),
        ({"ctx-size": 8192, "parallel": 4, "kv-unified": True}, 8192),
        ({"ctx-size": 8192, "kv-unified": True, "kv-unified-per-slot": 4096}, 4096),
        ({"kv-unified-per-slot": 4096}, 4096),
    ],
)
def test_the_context_is_that_of_one_request(options, tokens):
    assert context_of(options) == tokens


def of_profile(*, has_keys=False, **changes):
    return endpoint_of_profile(Profile("p", **changes), has_keys=has_keys)


def test_a_profile_is_called_by_its_first_alias_or_its_name():
    assert of_profile(aliases=("a", "b")).model == "a"
    assert of_profile().model == "p"


def test_an_address_for_all_becomes_the_local_one_and_a_key_is_asked_for():
    target = of_profile(listen=ListenSettings("0.0.0.0", 9000))
    assert target == ClientEndpoint("http://127.0.0.1:9000", "p", KEY_ENV, is_local=False, is_everywhere=True)
    assert of_profile(listen=ListenSettings("::1", 9000)).url == "http://[::1]:9000"


def test_the_prefix_and_tls_are_part_of_the_address():
    server = {"api-prefix": "/llm", "ssl-key-file": "k.pem", "ssl-cert-file": "c.pem"}
    assert of_profile(server=server).url == "https://127.0.0.1:8080/llm"


@pytest.mark.parametrize(
    ("changes", "asks"),
    [
        ({}, False),
        ({"has_keys": True}, True),
        ({"server": {"api-key": "k"}}, True),
        ({"server": {"api-key-file": "keys"}}, True),
        ({"env": {"LLAMA_API_KEY": "k"}}, True),
        ({"listen": ListenSettings("192.168.1.5")}, True),
        (
            {"listen": ListenSettings("192.168.1.5"), "gateway": GatewaySettings(allow_unauthenticated=True)},
            False,
        ),
        ({"listen": ListenSettings("192.168.1.5"), "gateway": GatewaySettings(mode="off")}, False),
        ({"has_keys": True, "gateway": GatewaySettings(mode="off")}, False),
        ({"server": {"api-key": "k"}, "gateway": GatewaySettings(mode="off")}, True),
    ],
)
def test_a_key_is_asked_for_where_the_gateway_does(changes, asks):
    assert (of_profile(**changes).key_env is not None) is asks


def test_a_unix_socket_is_no_address_for_clients():
    with pytest.raises(ConfigError, match=r"Unix socket /run/x\.sock"):
        of_profile(listen=ListenSettings("/run/x.sock"))


@pytest.mark.parametrize(
    "changes",
    [
        {"server": {"ctx-size": 8192, "parallel": 2}, "aliases": ("a",)},
        {"listen": ListenSettings("0.0.0.0", 9000)},
        {"listen": ListenSettings("0.0.0.0", 9000), "gateway": GatewaySettings(allow_unauthenticated=True)},
        {"server": {"api-key": "k"}, "gateway": GatewaySettings(mode="off")},
    ],
)
def test_what_runs_is_told_as_its_profile_promised(changes):
    profile = Profile("p", **changes)
    planned = endpoint_of_profile(profile, has_keys=False)
    plan = make_plan(profile, BUILD, MODEL)
    assert endpoint_of_plan(plan, make_listen(profile), planned.url, has_keys=False) == planned


def test_the_keys_of_a_listener_are_asked_for():
    listen = GatewayListen("p", "127.0.0.1", 8080, keys=("d1gest",))
    plan = make_plan(Profile("p"), BUILD, MODEL)
    assert endpoint_of_plan(plan, listen, "http://127.0.0.1:8080", has_keys=False).key_env == KEY_ENV


def test_an_offer_has_its_own_name_at_the_address_that_is_open():
    offered = Profile("q", aliases=("b",), server={"ctx-size": 4096}, listen=ListenSettings("10.0.0.1", 1))
    assert endpoint_of_offer(offered, OPEN) == replace(OPEN, model="b", context_tokens=4096)


def test_an_unknown_client_is_told_the_near_ones():
    assert find_client("Cline").name == "cline"
    with pytest.raises(NotFound, match="Did you mean claude-code"):
        find_client("claude")


def test_the_page_shows_what_the_command_prints():
    made = generator("make_clients").page()
    assert (DOCS / "clients.md").read_text(encoding="utf-8") == made, "run: python docs/make_clients.py"
