"""The canonical meaning of any spelling, and options as users write them."""

from __future__ import annotations

import pytest

from supervisor.options.meanings import SECRETS, canonical, describe, nearest, pinned
from supervisor.options.parse import normalise


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("ctx-size", "ctx-size"),
        ("ctx_size", "ctx-size"),
        ("--ctx-size", "ctx-size"),
        ("--ctx_size", "ctx-size"),
        ("c", "ctx-size"),
        ("-c", "ctx-size"),
        ("ngl", "gpu-layers"),
        ("n-gpu-layers", "gpu-layers"),
        ("ncmoe", "n-cpu-moe"),
        ("fa", "flash-attn"),
        ("ub", "ubatch-size"),
        ("C", "cpu-mask"),
        ("no-host", "no-host"),
        ("host", "host"),
        ("nkvo", "kv-offload"),
        ("no-jinja", "jinja"),
        ("no-mmap", "load-mode"),
        ("mlock", "load-mode"),
        ("draft-max", "spec-draft-n-max"),
        ("draft", "spec-draft-n-max"),
        ("md", "spec-draft-model"),
        ("ctx-size-draft", "ctx-size-draft"),
        ("ctx", None),
        ("-ctx-size", None),
        ("", None),
        ("--", None),
    ],
)
def test_any_spelling_has_one_canonical_name(key, name):
    assert canonical(key) == name


def test_every_canonical_name_describes_itself():
    for option in pinned().options:
        name = option.long_name.removeprefix("--")
        assert canonical(name) == name
        assert describe(name) == option


def test_a_misspelt_option_gets_the_nearest_one_and_nonsense_gets_none():
    assert nearest("ctx-sise") == "ctx-size"
    assert nearest("--n_cpu_mo") == "n-cpu-moe"
    assert nearest("flash-attention") == "flash-attn"
    assert nearest("xyzzy") == ""


def test_secrets_are_known_options_and_their_variables_are_those_of_the_help():
    assert {name: (variable,) for name, variable in SECRETS.items()} == {
        name: describe(name).env for name in SECRETS
    }


@pytest.mark.parametrize(
    ("written", "meaning"),
    [
        ({"c": 4096}, {"ctx-size": 4096}),
        ({"-ngl": "99"}, {"gpu-layers": 99}),
        ({"ngl": "all"}, {"gpu-layers": "all"}),
        ({"flash_attn": True}, {"flash-attn": "on"}),
        ({"fa": "off"}, {"flash-attn": "off"}),
        ({"fa": 1}, {"flash-attn": "on"}),
        ({"jinja": "on"}, {"jinja": True}),
        ({"no-jinja": True}, {"jinja": False}),
        ({"no-jinja": False}, {"jinja": True}),
        ({"no-mmap": True}, {"load-mode": "none"}),
        ({"no-mmap": False}, {"load-mode": "mmap"}),
        ({"mlock": True}, {"load-mode": "mmap+mlock"}),
        ({"mlock": True, "no-mmap": True}, {"load-mode": "mlock"}),
        ({"mlock": False}, {"load-mode": "auto"}),
        ({"direct-io": True, "no-mmap": True}, {"load-mode": "dio"}),
        ({"no-direct-io": True}, {"load-mode": "auto"}),
        ({"draft-max": 16}, {"spec-draft-n-max": 16}),
        ({"temp": 1}, {"temp": 1.0}),
        ({"alias": 120}, {"alias": "120"}),
        ({"cpu-strict": True}, {"cpu-strict": 1}),
        ({"tensor-split": ("3", "1")}, {"tensor-split": "3,1"}),
        ({"lora": ("a.gguf", "b.gguf")}, {"lora": "a.gguf,b.gguf"}),
        ({"logit-bias": ("1+1", "2-3")}, {"logit-bias": ("1+1", "2-3")}),
        ({"logit-bias": ("1+1",)}, {"logit-bias": "1+1"}),
        ({"control-vector-layer-range": ("3", "9")}, {"control-vector-layer-range": ("3", "9")}),
        ({"spec-type": ("draft-mtp", "ngram-mod")}, {"spec-type": "draft-mtp,ngram-mod"}),
        ({"seed": 4294967295}, {"seed": 4294967295}),
    ],
)
def test_options_as_written_become_meanings(written, meaning):
    folded = normalise(written)
    assert folded.problems == ()
    assert folded.options == meaning


@pytest.mark.parametrize(
    ("written", "option", "message"),
    [
        ({"ctx-sise": 1}, "ctx-sise", "no option"),
        ({"ctx-size": "many"}, "ctx-size", "whole number"),
        ({"ctx-size": 4.5}, "ctx-size", "whole number"),
        ({"ctx-size": True}, "ctx-size", "whole number"),
        ({"ctx-size": 2**31}, "ctx-size", "32 bits"),
        ({"ngl": "most"}, "ngl", "'auto', 'all'"),
        ({"jinja": "maybe"}, "jinja", "true or false"),
        ({"no-jinja": 3}, "no-jinja", "true or false"),
        ({"fa": "yep"}, "fa", "on, off, auto"),
        ({"split-mode": "diagonal"}, "split-mode", "none, layer, row, tensor"),
        ({"spec-type": "draft-mtp,magic"}, "spec-type", "draft-simple"),
        ({"alias": True}, "alias", "takes a value"),
        ({"temp": "hot"}, "temp", "takes a number"),
        ({"temp": float("nan")}, "temp", "takes a number"),
        ({"temp": float("inf")}, "temp", "takes a number"),
        ({"alias": "a\0b"}, "alias", "NUL"),
        ({"port": ("1", "2")}, "port", "not a list"),
        ({"lora": ()}, "lora", "at least one"),
        ({"control-vector-layer-range": ("1",)}, "control-vector-layer-range", "START END"),
        ({"control-vector-layer-range": "1 2"}, "control-vector-layer-range", "2 values"),
        ({"version": True}, "version", "print something and exit"),
        ({"c": 1, "ctx-size": 2}, "ctx-size", "the same option"),
        ({"load-mode": "none", "no-mmap": True}, "no-mmap", "the same option"),
    ],
)
def test_what_cannot_be_is_a_problem_that_names_the_key_as_written(written, option, message):
    (problem,) = normalise(written).problems
    assert problem.option == option
    assert message in problem.message


def test_all_problems_come_at_once_and_the_rest_is_still_there():
    folded = normalise({"ctx-sise": 1, "ngl": 99, "fa": "x"})
    assert [problem.option for problem in folded.problems] == ["ctx-sise", "fa"]
    assert folded.problems[0].suggestion == "ctx-size"
    assert folded.options == {"gpu-layers": 99}


def test_a_rename_is_recorded_with_its_source():
    (translation,) = normalise({"no-mmap": True}).translations
    assert translation.option == "no-mmap"
    assert translation.rendered == ("--load-mode", "none")
    assert "b10105" in translation.source
