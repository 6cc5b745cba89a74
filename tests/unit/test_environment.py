"""The server sees what the plan says, and nothing that only lay around."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from supervisor.plan.child_environment import child_environment, system_config
from supervisor.plan.launch import LaunchPlan

PRIVATE = Path("/state/no-config")
CONFIG = "APPDATA" if sys.platform == "win32" else "XDG_CONFIG_HOME"


def environment(base, env=(), secrets=()):
    plan = LaunchPlan("p", ("x",), dict(env), "h", 1, "b", "cpu", "", "m", "d", secrets=dict(secrets))
    return child_environment(base, plan, PRIVATE)


@pytest.mark.parametrize(
    "name",
    [
        "LLAMA_ARG_PORT",
        "LLAMA_ARG_MODEL",
        "LLAMA_LOG_FILE",
        "LLAMA_API_KEY",
        "LLAMA_SERVER_ROUTER_PORT",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "LISTEN_FDS",
        "LISTEN_PIDFDID",
        "FDSTORE",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
    ],
)
def test_what_lies_around_is_not_inherited(name):
    assert name not in environment({name: "1"})


@pytest.mark.parametrize(
    "name",
    ["PATH", "HOME", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "HTTPS_PROXY", "HF_TOKEN", "LLAMA_CACHE"],
)
def test_what_belongs_to_the_machine_is_kept(name):
    assert environment({name: "value"})[name] == "value"


def test_the_private_configuration_always_holds():
    assert environment({CONFIG: "/home/u/.config"}) == {CONFIG: str(PRIVATE), "GGML_NO_BACKTRACE": "1"}


def test_the_plan_may_set_anything_on_purpose():
    made = environment(
        {"A": "inherited", "LLAMA_ARG_PORT": "1"},
        env={"A": "planned", "LLAMA_ARG_PORT": "2", "GGML_NO_BACKTRACE": "0"},
        secrets={"LLAMA_API_KEY": "sk"},
    )
    assert made["A"] == "planned"
    assert made["LLAMA_ARG_PORT"] == "2"
    assert made["GGML_NO_BACKTRACE"] == "0"
    assert made["LLAMA_API_KEY"] == "sk"


def test_the_base_is_left_alone():
    base = {"LLAMA_ARG_PORT": "1"}
    environment(base)
    assert base == {"LLAMA_ARG_PORT": "1"}


def test_a_system_wide_configuration_is_found_only_where_there_is_one(tmp_path):
    found = system_config({"PROGRAMDATA": str(tmp_path)})
    assert found is None or found.is_file()
