"""The real llama-server's parser takes what was rendered for it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from supervisor.options.help import Capabilities, parse_help
from supervisor.options.meanings import SECRETS, pinned, understand
from supervisor.options.option_values import OptionKind, option_kind
from supervisor.options.parse import parse_arguments
from supervisor.options.render import render

from ..fakes.architectures import SHIPPED, profile_launch
from ..fakes.launching import free_port

SERVER = os.environ.get("GOSS_TEST_LLAMA_SERVER", "")
ARTICLE = (
    "-m gpt-oss-120b.gguf --ctx-size 32768 --jinja -ub 4096 -b 4096 -ngl 99 -fa --n-cpu-moe 32 "
    "--host 127.0.0.1 --port {port}"
)
REACHES_OUT = (
    "url",
    "hf-",
    "docker",
    "-default",
    "rpc",
    "models-",
    "log-",
)  # network, router, files, our own stderr

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not SERVER, reason="GOSS_TEST_LLAMA_SERVER names no llama-server"),
]


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith("LLAMA_")},
        "XDG_CONFIG_HOME": str(folder),
        "HOME": str(folder),
    }
    return subprocess.run(
        [SERVER, *words], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def capabilities(tmp_path_factory) -> Capabilities:
    folder = tmp_path_factory.mktemp("help")
    return parse_help(run(["--help"], folder).stdout, run(["--version"], folder).stderr)


def accepted(argv: tuple[str, ...], folder: Path) -> bool:
    return "failed to load model" in run([*argv, "--offline"], folder).stderr


def samples(option) -> list:
    by_kind = {
        OptionKind.FLAG: [True, False] if option.negative_names else [True],
        OptionKind.SWITCH: list(option.allowed),
        OptionKind.CHOICE: list(option.allowed),
        OptionKind.INTEGER: [1, *option.words],
        OptionKind.NUMBER: [0.5],
        OptionKind.JSON: ['{"type": "object"}'],
        OptionKind.TEXT: [],
    }
    return by_kind[option_kind(option)]


def test_the_line_of_the_article_gets_past_the_parser(tmp_path, capabilities):
    line = ARTICLE.format(port=free_port()).split()
    assert "unknown value for --flash-attn" in run(line, tmp_path).stderr
    rendered = render(parse_arguments(line).options, capabilities)
    assert rendered.problems == ()
    assert accepted(rendered.argv, tmp_path)


def test_every_number_switch_and_choice_gets_past_the_parser(tmp_path, capabilities):
    chosen = [
        option
        for option in capabilities.options
        if understand(option.long_name) is not None
        and not understand(option.long_name).is_action
        and option.long_name.removeprefix("--") not in SECRETS
        and not option.long_name.endswith("-spec")
        and not any(part in option.long_name for part in REACHES_OUT)
    ]
    assert len(chosen) > 100
    for turn in range(max(len(samples(option)) for option in chosen)):
        options = {"model": "missing.gguf", "port": free_port()}  # it listens before it looks for the model
        for option in chosen:
            values = samples(option)
            if values and option.long_name not in {"--port", "--rerank", "--lazy-mode"}:
                options[option.long_name.removeprefix("--")] = values[turn % len(values)]
        rendered = render(options, capabilities)
        assert rendered.problems == ()
        said = run([*rendered.argv, "--offline"], tmp_path).stderr
        assert "failed to load model" in said, said[:500]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_gets_past_the_parser(tmp_path, name):
    argv = ("--model", "missing.gguf", "--port", str(free_port()), *profile_launch(name).split())
    assert accepted(argv, tmp_path)


def test_the_pinned_help_is_that_of_the_real_build(capabilities):
    if capabilities.version != pinned().version:
        pytest.skip(f"this llama-server is of version {capabilities.version}")
    assert capabilities.options == pinned().options
