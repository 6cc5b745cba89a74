"""The plan: the same values give the same plan, and what cannot be is said with its place."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace

import pytest

from supervisor.decoding import parse
from supervisor.engine.build import Build
from supervisor.errors import ConfigError, SupervisorError
from supervisor.options.meanings import pinned
from supervisor.plan.listen import is_loopback
from supervisor.plan.make import ModelAtHand, make_plan
from supervisor.plan.plan_json import from_json, public, to_json
from supervisor.profile.declare import Origin
from supervisor.profile.definition import Engine, GatewaySettings, Health, ListenSettings, Profile

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


@pytest.mark.parametrize(
    ("aliases", "gateway", "alias"),
    [
        ((), "on", "p"),
        ((), "off", "p"),
        (("org/z:Q4", "a"), "on", "org/z:Q4"),
        (("org/z:Q4", "a"), "off", "org/z:Q4,a"),
    ],
)
def test_llama_server_calls_the_model_as_the_gateway_does_and_never_by_a_path(aliases, gateway, alias):
    argv = argv_of(replace(PROFILE, aliases=aliases, gateway=GatewaySettings(mode=gateway)))
    assert argv[argv.index("--alias") + 1] == alias


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


def test_the_plan_without_workers_goes_the_same_way_and_is_shown_as_words():
    plan = make_plan(replace(PROFILE, server={"api-key": "s3cret"}), BUILD, MODEL)
    less = replace(plan, adjustment="without its workers")
    plan = replace(plan, workers=("mini2.local:50052",), without_workers=less)
    assert from_json(json.loads(json.dumps(to_json(plan)))) == plan
    assert public(plan)["without_workers"] == "without its workers"
    assert "s3cret" not in str(public(plan))


def test_a_plan_whose_workers_are_no_addresses_is_refused():
    plan = replace(make_plan(PROFILE, BUILD, MODEL), workers=("mini2.local",))
    with pytest.raises(SupervisorError, match=r"workers: must be addresses such as 10\.0\.0\.3:50052"):
        from_json(json.loads(json.dumps(to_json(plan))))


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
        lambda: make_plan(replace(PROFILE, listen=ListenSettings(port=9000)), BUILD, MODEL),
        lambda: make_plan(PROFILE, replace(BUILD, digest="d2"), MODEL),
        lambda: make_plan(PROFILE, BUILD, replace(MODEL, stamp="newer")),
    ],
)
def test_whatever_the_process_would_notice_changes_the_digest(other):
    assert other().digest != make_plan(PROFILE, BUILD, MODEL).digest


def test_policies_do_not_change_the_digest():
    other = make_plan(replace(PROFILE, health=Health(interval_seconds=1)), BUILD, MODEL)
    assert other.digest == make_plan(PROFILE, BUILD, MODEL).digest


def test_an_open_address_without_a_key_is_warned_of():
    open_address = replace(PROFILE, listen=ListenSettings("0.0.0.0", 8080))
    assert any("no API key" in warning for warning in make_plan(open_address, BUILD, MODEL).warnings)
    with_key = replace(open_address, server={"api-key": "k"})
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


@pytest.mark.parametrize("changed", [{"schema": 99}, {"a_field_of_tomorrow": 1}, {"stop": {"grace": 1}}])
def test_a_plan_of_another_version_is_refused_and_it_is_said_what_helps(changed):
    with pytest.raises(SupervisorError, match=r"schema|a_field_of_tomorrow|stop\.grace") as caught:
        from_json({**to_json(make_plan(PROFILE, BUILD, MODEL)), **changed})
    assert "other version" in caught.value.hint or "different versions" in caught.value.hint


any_text = pytest.mark.skipif(sys.platform == "win32", reason="Windows passes on every code point")
GOOD = json.loads(json.dumps(to_json(make_plan(PROFILE, BUILD, MODEL))))
GOOD_INSIDE = {name: value for name, value in GOOD.items() if name != "schema"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"argv": []}, "argv"),
        ({"argv": [""]}, "argv"),
        ({"argv": ["a", 1]}, "argv[1]"),
        ({"argv": ["a", "b\0"]}, "argv[1]"),
        pytest.param({"argv": ["a", "\ud800"]}, "argv[1]", marks=any_text),
        ({"env": {"A": 1}}, "env"),
        ({"env": {"A": "\0"}}, "env.A"),
        ({"env": {"A\0": ""}}, "env"),
        ({"env": {"A=B": ""}}, "env"),
        ({"secrets": {"": ""}}, "secrets"),
        ({"secrets": {"A": 1}}, "secrets"),
        ({"model_files": ["\0"]}, "model_files[0]"),
        ({"port": 65536}, "port"),
        ({"port": -1}, "port"),
        ({"port": True}, "port"),
        ({"host": ""}, "host"),
        ({"stop": {"grace_seconds": float("nan")}}, "stop.grace_seconds"),
        ({"stop": {"grace_seconds": float("inf")}}, "stop.grace_seconds"),
        ({"restart": {"backoff_seconds": -1.0}}, "restart.backoff_seconds"),
        ({"restart": {"policy": "sometimes"}}, "restart.policy"),
        ({"adjusted": {**GOOD_INSIDE, "argv": []}}, "adjusted.argv"),
    ],
)
def test_a_plan_with_a_value_that_cannot_be_run_is_refused_with_its_place(changed, said):
    with pytest.raises(SupervisorError, match=re.escape(said)):
        from_json({**GOOD, **changed})


def test_a_path_that_is_not_utf8_comes_through_the_wire():
    odd = {**GOOD, "model_files": ["/models/\udcff.gguf"]}
    assert from_json(json.loads(json.dumps(odd))).model_files == ("/models/\udcff.gguf",)


@pytest.mark.parametrize("opening", [b'{"a":', b"["])
def test_a_document_of_any_depth_is_an_error_and_no_crash(opening):
    with pytest.raises(ValueError, match="nested too deeply"):
        parse(opening * 200_000)
    deep = json.loads("[" * 300 + "]" * 300)
    with pytest.raises(SupervisorError, match="nested too deeply"):
        from_json({**GOOD, "door": {"host": "h", "port": 1, "settings": {"set_params": {"x": deep}}}})
