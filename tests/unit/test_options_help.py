"""What a build accepts, read from its own --help."""

from __future__ import annotations

import json

import pytest

from supervisor.errors import VerificationFailed
from supervisor.options.help import Capabilities, parse_help, parse_version
from supervisor.options.meanings import pinned

from .options_builds import era, help_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 6100 (65c797c4)\nbuilt with cc", (6100, "65c797c4", "6100")),
        (
            "load_backend: loaded CPU\nversion: 0.6.0-dev (build 11434, commit abc1)",
            (11434, "abc1", "0.6.0-dev"),
        ),
        ("version: 0.6.0-dev (build 0, commit unknown)", (None, "", "0.6.0-dev")),
        ("version: 0 (unknown)", (None, "", "0")),
        ("", (None, "", "")),
        ("Segmentation fault", (None, "", "")),
    ],
)
def test_versions_of_all_eras_are_read_and_unknown_is_unknown(text, expected):
    assert parse_version(text) == expected


def test_positive_and_negative_spellings_are_kept_apart():
    option = pinned().find("--kv-offload")
    assert option.names == ("-kvo", "--kv-offload")
    assert option.negative_names == ("-nkvo", "--no-kv-offload")
    assert not option.takes_value


def test_a_switch_that_is_listed_only_as_a_negative_is_found_by_it():
    assert era(6100).find("--no-mmap").names == ("--no-mmap",)
    assert pinned().find("--no-host").names == ("--no-host",)


def test_a_long_option_column_has_its_help_on_the_next_line():
    option = pinned().find("-otd")
    assert option.names == ("--spec-draft-override-tensor", "-otd", "--override-tensor-draft")
    assert option.value_hint == "<tensor name pattern>=<buffer type>,..."
    assert option.summary == "override tensor buffer type for draft model"
    assert option.arity == 1


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("--flash-attn", ("on", "off", "auto")),
        ("--split-mode", ("none", "layer", "row", "tensor")),
        ("--cpu-strict", ("0", "1")),
        ("--cache-type-k", ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")),
        ("--load-mode", ("auto", "none", "mmap", "mlock", "mmap+mlock", "dio")),
        ("--reasoning-format", ("none", "deepseek", "deepseek-legacy", "auto")),
        ("--numa", ("distribute", "isolate", "numactl")),
        ("--verbosity", ()),
        ("--reasoning-effort", ()),
        ("--tensor-split", ()),
        ("--device", ()),
    ],
)
def test_allowed_values_are_read_where_help_lists_all_of_them(name, allowed):
    assert pinned().find(name).allowed == allowed


def test_words_beside_a_number_are_read():
    assert pinned().find("-ngl").words == ("auto", "all")
    assert era(6100).find("-ngl").words == ()


@pytest.mark.parametrize(
    ("build", "name", "many"),
    [
        (6100, "--lora", "repeat"),
        (6100, "--override-kv", "repeat"),
        (6100, "--rpc", "comma"),
        (11549, "--device", "comma"),
        (6100, "--host", ""),
    ],
)
def test_how_several_values_are_given_is_read(build, name, many):
    assert era(build).find(name).many == many


def test_options_of_two_words_are_told_from_hints_with_blanks():
    assert era(6100).find("--lora-scaled").arity == 2
    assert pinned().find("--control-vector-layer-range").arity == 2
    assert pinned().find("-ot").arity == 1
    assert pinned().find("--jinja").arity == 0


def test_environment_variables_and_defaults_are_read():
    option = pinned().find("--port")
    assert option.env == ("LLAMA_ARG_PORT",)
    assert option.default == "8080"
    assert pinned().find("--split-mode").default == "layer"
    assert pinned().find("--fit").default == "on"


def test_what_is_listed_only_to_say_that_it_was_removed_is_not_accepted():
    assert "--draft-max" in help_text(9925)
    assert era(9925).find("--draft-max") is None
    assert era(6100).find("--draft-max") is not None


def test_long_options_are_found_with_underscores_and_short_ones_are_taken_literally():
    assert pinned().find("--ctx_size") is pinned().find("-c")
    assert pinned().find("-C") is not pinned().find("-c")
    assert pinned().find("ctx-size") is None


@pytest.mark.parametrize("build", [6100, 7500, 9925, 11549])
def test_capabilities_survive_the_cache(build):
    stored = json.loads(json.dumps(era(build).to_json()))
    assert Capabilities.from_json(stored) == era(build)
    assert Capabilities.from_json(stored).find("--model") == era(build).find("--model")


@pytest.mark.parametrize("stored", [{}, {"options": [{"nonsense": 1}]}, {"options": 3}, {"options": [None]}])
def test_a_broken_cache_is_named_and_no_traceback(stored):
    with pytest.raises(VerificationFailed, match="capabilities"):
        Capabilities.from_json(stored)


@pytest.mark.parametrize(
    "text", ["", "usage: ls [OPTION]", "-m,    --model FNAME                    model path\n"]
)
def test_a_text_that_is_no_help_of_a_llama_server_is_refused(text):
    with pytest.raises(VerificationFailed, match="--port"):
        parse_help(text)


def test_windows_line_ends_and_noise_before_the_help_change_nothing():
    noisy = "ggml_cuda_init: found 1 CUDA devices:\r\n" + help_text(7500).replace("\n", "\r\n")
    assert parse_help(noisy).options == era(7500).options
