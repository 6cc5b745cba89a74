"""Mistakes that people make in profiles get the help they need, and what is clear enough is taken."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from supervisor.engine.build import FAMILIES
from supervisor.errors import ConfigError
from supervisor.profile.definition import FLAVOURS, ListenSettings
from supervisor.profile.load_layers import load, overrides_layer, settings_from
from supervisor.profile.resolve import resolve_layer
from supervisor.profile.store import ProfileStore

STORE = ProfileStore(Path("/nonexistent"))


def resolved(text, name="p"):
    return resolve_layer(load(text.encode(), name, f"{name}.yaml"), STORE)


SINGLE_QUOTES = "write a Windows path without quotes or in single quotes"
COMMENT = "belongs under server: (the line above is still a comment; take its '#' away)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("extends: demo\nctx-size: 8192\n", "p.yaml:2:1: ctx-size: belongs under server:"),
        ("extends: demo\nngl: 99\n", "p.yaml:2:1: ngl: belongs under server:"),
        ("extends: demo\nport: 9090\n", "p.yaml:2:1: port: belongs under listen:"),
        ("extends: demo\nhost: 0.0.0.0\n", "p.yaml:2:1: host: belongs under listen:"),
        ("extends: demo\nalias: x\n", "p.yaml:2:1: alias: is called aliases in a profile"),
        ("extends: demo\nidle-unload: 5m\n", "p.yaml:2:1: idle-unload: belongs under gateway:"),
        ("extends: demo\nlisten: {ctx-size: 1}\n", "listen.ctx-size: belongs under server:"),
        (
            "extends: demo\nserver: {gateway: off}\n",
            "server.gateway: belongs at the top level, not under server:",
        ),
        ("extends: demo\nserver: {context: 8192}\n", "(did you mean ctx-size?)"),
        ("extends: demo\nserver: {num_gpu: 8}\n", "(did you mean gpu-layers?)"),
        ("extends: demo\n# server:\n  ctx-size: 16384\n", f"p.yaml:3:3: {COMMENT}"),
        ("extends: demo\nlisten:\n  port: 9000\n# server:\n  ctx-size: 1\n", f"listen.ctx-size: {COMMENT}"),
        ("# server:\n  ctx-size: 16384\n", f"ctx-size: {COMMENT}"),
        ("extends: demo\n server:\n   ctx-size: 1\n", "p.yaml:2:8: this line is indented"),
        ('model: {path: "C:\\Users\\me\\chat.gguf"}\n', SINGLE_QUOTES),
        ('model: {path: "C:\\models\\chat.gguf"}\n', SINGLE_QUOTES),
        ('model: {path: "C:\\new\\chat.gguf"}\n', "escape"),
        ('model: {path: "C:\\new.gguf"}\n', SINGLE_QUOTES),
        ("model: {hf: owner/name:Q4}\n", "name the repo and file"),
        ("extends: p\n", "a profile cannot extend itself"),
        ("extends: demo\nserver: {no-mmap: true, mmap: true}\n", "mmap and no-mmap are the same option"),
        (
            "extends: demo\nserver: {mmap: false, mlock: true, no_mmap: true}\n",
            "no_mmap and mmap are the same",
        ),
        ("extends: demo\nargs: >\n  -ngl 5\n  # not now\n  -c 4096\n", "args: # not now -c 4096 is lost"),
        (
            "extends: demo\nserver: {json-schema: '{a: 1}'}\n",
            'which a shell may have taken: {"a": 1}',
        ),
        ("extends: demo\nserver: {chat-template-kwargs: [1]}\n", "takes"),
        ("extends: demo\nserver: {api-key: $SECRET}\n", "server.api-key: nothing replaces $SECRET;"),
        (
            "extends: demo\nserver: [ctx-size: 1\nlisten:\n  port: 9\n",
            "p.yaml:2:9: the bracket [ that begins here",
        ),
        ("extends: demo\naliases: {a, b\n", "p.yaml:2:10: the bracket { that begins here is not closed"),
        ("listen: {port: 9 host: x}\n", "a comma or the end of the bracket { is missing"),
        ('description: "abc\nextends: demo\n', 'p.yaml:1:14: the quote " that begins here is never closed'),
        ("description: 'it's fine'\nextends: demo\n", "quote the whole value"),
        (
            "extends:demo\nserver:\n  ctx-size: 1\n",
            "p.yaml:1:1: write a blank behind the colon: extends: demo",
        ),
        ("extends:demo\n", "write a blank behind the colon: extends: demo"),
        ("extends: demo\nserver:\n  ctx-size:1\n", "write a blank behind the colon: ctx-size: 1"),
        ("name: x\nextends: demo\n", "name: is not needed: the file's name is the profile's name"),
        ("extends: demo\nserver: {ctx-size: '16,384'}\n", "not '16,384'; write 16384"),
        ("extends: demo\nserver: {ctx-size: 16k}\n", "not '16k'; write 16384"),
        ("extends: demo\nlisten: {port: '8,080'}\n", "; write 8080"),
        ("extends: demo\nengine: vulkan\n", "such as engine: {flavour: vulkan}, not the text"),
        ("extends: demo\nengine: b9000\n", "such as engine: {channel: b9000}, not the text"),
        pytest.param(
            "extends: demo\nengine: /opt/llama-server\n",
            "such as engine: {path: /opt/llama-server},",
            marks=pytest.mark.skipif(
                sys.platform == "win32", reason="there it is written with quoted backslashes"
            ),
        ),
        ("extends: demo\nengine: embedded\n", "such as engine: {source: embedded},"),
        ("extends: demo\nengine: {flavour: vulcan}\n", "(did you mean vulkan?)"),
        (
            "model: {path: https://example.com/x.gguf}\n",
            "must be a path, not the address https://example.com",
        ),
        ("extends: demo\nserver: {gpt-oss-20b-default: true}\n", "write args: --gpt-oss-20b-default"),
        ("extends: demo\nserver:\n\tctx-size: 1\n", "p.yaml:3:1: a tab in the indentation"),
        ("extends: demo\nlisten: a b\n", "listen: must be an address such as 127.0.0.1:9000"),
        ("extends: demo\nlisten: 127.0.0.1:99999\n", "listen: must be a whole number from 1 to 65535"),
    ],
)
def test_a_mistake_is_told_with_what_helps(text, said):
    with pytest.raises(ConfigError) as raised:
        resolved(text)
    assert said in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_comment_above_a_nested_line_is_not_blamed_for_what_is_wrong_with_its_value():
    with pytest.raises(ConfigError, match="takes a whole number"):
        resolved("extends: demo\nserver:\n  # listen:\n  ctx-size: 8k\n")


@pytest.mark.parametrize(
    ("written", "listen"),
    [
        ('{port: "8081"}', ListenSettings("127.0.0.1", 8081)),
        ("127.0.0.1:9000", ListenSettings("127.0.0.1", 9000)),
        ('"[::1]:9000"', ListenSettings("::1", 9000)),
        ("9000", ListenSettings("127.0.0.1", 9000)),
        (":9000", ListenSettings("127.0.0.1", 9000)),
        ("0.0.0.0", ListenSettings("0.0.0.0", 8080)),
        ("box.lan:9000", ListenSettings("box.lan", 9000)),
    ],
)
def test_an_address_may_be_one_word(written, listen):
    assert resolved(f"extends: demo\nlisten: {written}\n").listen == listen


def test_what_is_clear_is_taken():
    profile = resolved(
        'extends: demo\naliases: a, b\nhealth: {interval: "5"}\ngateway: {models: "demo, vllm"}\n'
    )
    assert profile.aliases == ("a", "b")
    assert profile.health.interval_seconds == 5
    assert profile.gateway.models == ("demo", "vllm")


def test_an_option_that_takes_json_takes_a_mapping():
    profile = resolved("extends: demo\nserver:\n  chat-template-kwargs: {enable_thinking: false, n: [1]}\n")
    assert profile.server["chat-template-kwargs"] == '{"enable_thinking": false, "n": [1]}'


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("model: {repo: a/b:Q4_K_M}\n", ("a/b", None, "Q4_K_M")),
        ("model: a/b:Q4_K_M\n", ("a/b", None, "Q4_K_M")),
        ("model: https://huggingface.co/a/b/resolve/main/x.gguf\n", ("a/b", "x.gguf", None)),
    ],
)
def test_a_model_of_the_hub_is_taken_in_the_forms_that_people_know(text, model):
    found = resolved(text).model
    assert (found.repo, found.file, found.quant) == model


def test_the_flavours_of_profiles_are_those_of_engines():
    assert set(FLAVOURS) == set(FAMILIES)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("engine", "vulkan", "engine: name a key of it, such as engine.flavour=vulkan"),
        ("server", "1", "server: name a key of it, such as server.NAME"),
        ("match", "linux", "match: name a key of it, such as match.os"),
    ],
)
def test_a_whole_section_is_no_value_to_override(key, value, said):
    (problem,) = overrides_layer("p", {key: value}).problems
    assert said in str(problem)


def test_config_yaml_says_what_was_meant():
    layer = settings_from(b"models_dir: /x\n", "c.yaml").layer
    assert [each.suggestion for each in layer.problems] == ["models-dir"]
