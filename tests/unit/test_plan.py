"""The plan: the same values give the same plan, and what cannot be is said with its place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.engine.build import Build
from supervisor.errors import ConfigError
from supervisor.options.meanings import pinned
from supervisor.plan.make import ModelAtHand, is_loopback, make_plan
from supervisor.plan.wire import from_json, public, to_json
from supervisor.profile.definition import Engine, GatewaySettings, Health, Listen, Origin, Profile

BUILD = Build(
    "path", "ggml-org/llama.cpp", "b11434", "cpu", ("/opt/llama-server",), "d1", pinned(), reason="given"
)
MODEL = ModelAtHand("/models/m.gguf", ("/models/m.gguf",), "stamp")
OFF = GatewaySettings(mode="off")
PROFILE = Profile("p", server={"ctx-size": 4096, "flash-attn": "on"}, gateway=OFF)


def argv_of(profile=PROFILE, build=BUILD):
    return make_plan(profile, build, MODEL).argv


def test_model_host_and_port_are_always_said():
    argv = " ".join(argv_of())
    assert argv.startswith("/opt/llama-server --model /models/m.gguf")
    assert argv.endswith("--host 127.0.0.1 --port 8080")


def test_liveness_is_always_probed_where_the_build_can():
    plan = make_plan(PROFILE, BUILD, MODEL)
    assert "--metrics" in plan.argv
    assert plan.liveness_path == "/metrics"


def test_a_profile_that_wants_no_metrics_gets_none_and_no_such_probe():
    plan = make_plan(replace(PROFILE, server={"metrics": False}), BUILD, MODEL)
    assert "--metrics" not in plan.argv
    assert plan.liveness_path is None


def test_secrets_stand_in_the_environment_and_never_in_argv_or_in_what_is_shown():
    plan = make_plan(replace(PROFILE, server={"api-key": "s3cret"}), BUILD, MODEL)
    assert plan.secrets == {"LLAMA_API_KEY": "s3cret"}
    assert [(t.option, "LLAMA_API_KEY" in t.reason) for t in plan.translations] == [("api-key", True)]
    assert "s3cret" not in " ".join(plan.argv)
    assert "s3cret" not in str(public(plan))


def test_what_set_said_is_remembered_and_not_shown():
    plan = make_plan(PROFILE, BUILD, MODEL, {"api-key": "s3cret"})
    assert plan.settings == {"api-key": "s3cret"}
    assert "s3cret" not in str(public(plan))


def test_an_option_that_the_build_lacks_is_an_error_with_its_place_and_build():
    profile = replace(
        PROFILE,
        server={"no-such-option": 1},
        origins={"server.no-such-option": Origin("p", "p.yaml", 7, 3)},
    )
    with pytest.raises(ConfigError, match=r"p\.yaml:7:3: server\.no-such-option: .*b11434"):
        make_plan(profile, BUILD, MODEL)


@pytest.mark.parametrize("option", ["help", "version", "list-devices"])
def test_options_that_make_no_server_are_refused(option):
    with pytest.raises(ConfigError, match=option):
        make_plan(replace(PROFILE, server={option: True}), BUILD, MODEL)


@pytest.mark.parametrize(
    "other",
    [
        lambda: make_plan(replace(PROFILE, server={"ctx-size": 1024}), BUILD, MODEL),
        lambda: make_plan(replace(PROFILE, env={"A": "1"}), BUILD, MODEL),
        lambda: make_plan(replace(PROFILE, server={**PROFILE.server, "api-key": "k"}), BUILD, MODEL),
        lambda: make_plan(replace(PROFILE, listen=Listen(port=9000)), BUILD, MODEL),
        lambda: make_plan(PROFILE, replace(BUILD, digest="d2"), MODEL),
        lambda: make_plan(PROFILE, BUILD, replace(MODEL, stamp="newer")),
    ],
)
def test_whatever_the_process_would_notice_changes_the_digest(other):
    assert other().digest != make_plan(PROFILE, BUILD, MODEL).digest


def test_policies_do_not_change_the_digest():
    other = make_plan(replace(PROFILE, health=Health(interval_seconds=1)), BUILD, MODEL)
    assert other.digest == make_plan(PROFILE, BUILD, MODEL).digest


def test_an_open_door_without_a_key_is_warned_of():
    open_door = replace(PROFILE, listen=Listen("0.0.0.0", 8080))
    assert any("no API key" in warning for warning in make_plan(open_door, BUILD, MODEL).warnings)
    with_key = replace(open_door, server={"api-key": "k"})
    assert make_plan(with_key, BUILD, MODEL).warnings == ()


def test_a_gpu_profile_on_a_build_without_devices_is_warned_of():
    profile = replace(PROFILE, engine=Engine(flavour="cuda"))
    assert any("sees none" in warning for warning in make_plan(profile, BUILD, MODEL).warnings)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("192.168.1.2", False),
        ("box.lan", False),
    ],
)
def test_loopback_is_told_from_the_network(host, expected):
    assert is_loopback(host) is expected


def test_a_plan_survives_the_wire():
    plan = make_plan(
        replace(PROFILE, server={"api-key": "k", "load-mode": "mlock"}, aliases=("a", "b")),
        BUILD,
        MODEL,
        {"x": "y"},
    )
    assert from_json(to_json(plan)) == plan


def test_a_plan_of_another_schema_is_refused():
    with pytest.raises(ValueError, match="schema"):
        from_json({**to_json(make_plan(PROFILE, BUILD, MODEL)), "schema": 99})
