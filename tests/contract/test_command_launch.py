"""Where a profile's own command listens, and with which key: decided at each launch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from supervisor.engine.adapters.command_program import build_of
from supervisor.plan.child_environment import child_environment
from supervisor.plan.make import ModelAtHand, make_plan
from supervisor.plan.plan_json import public
from supervisor.profile.definition import Engine, GatewaySettings, ListenSettings, Profile
from supervisor.server.cause_of_death import program_of
from supervisor.server.inner_address import with_inner_address
from supervisor.server.probe import target_of

COMMAND = ("sh", "-c", "serve {model}", "--host", "{host}", "--port={port}", '{"a": 1}')
PROFILE = Profile("p", engine=Engine(source="command", command=COMMAND))


def plan_of(profile=PROFILE):
    return make_plan(profile, build_of(profile.engine), ModelAtHand("owner/name"))


def test_the_plan_fills_in_what_is_known_and_the_launch_the_rest():
    plan = plan_of()
    assert plan.argv[1:] == ("-c", "serve owner/name", "--host", "127.0.0.1", "--port={port}", '{"a": 1}')
    launched = with_inner_address(plan)
    assert launched.argv[-2] == f"--port={launched.port}"
    assert target_of(launched).port == launched.port
    assert plan.digest == plan_of().digest
    assert program_of(plan) == "sh"


def test_without_a_gateway_it_gets_the_address_itself():
    profile = replace(PROFILE, gateway=GatewaySettings(mode="off"), listen=ListenSettings("127.0.0.1", 9000))
    plan = plan_of(profile)
    assert plan.argv[3:6] == ("--host", "127.0.0.1", "--port=9000")
    assert with_inner_address(plan) == plan


def test_the_key_of_a_launch_is_a_secret_that_the_gateway_knows():
    plan = plan_of(replace(PROFILE, env={"VLLM_API_KEY": "{key}", "LISTEN": "{host}:{port}"}))
    launched = with_inner_address(plan)
    key = launched.secrets["VLLM_API_KEY"]
    environment = child_environment({"PATH": "/bin", "LLAMA_ARG_PORT": "1"}, launched, Path("/empty"))
    assert environment == {"PATH": "/bin", "VLLM_API_KEY": key, "LISTEN": f"127.0.0.1:{launched.port}"}
    assert target_of(launched).headers == {"Authorization": f"Bearer {key}"}
    assert key not in str(public(launched))
    assert with_inner_address(plan).secrets["VLLM_API_KEY"] != key
