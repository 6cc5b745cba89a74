"""Raw option lists, as pasted from articles of any era."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supervisor.options import meanings
from supervisor.options.meanings import pinned
from supervisor.options.option_types import plain_number
from supervisor.options.parse import PRESETS, parse_arguments
from supervisor.options.render import render

from .options_builds import ARTICLE as MEANT

HELP = Path(meanings.__file__).with_name("data") / "b11434.help.txt"
ARTICLE = (
    "-m gpt-oss-120b.gguf --ctx-size 32768 --jinja -ub 4096 -b 4096 -ngl 99 -fa --n-cpu-moe 32 "
    "--host 0.0.0.0 --port 8080"
)


def meaning(text):
    folded = parse_arguments(text.split())
    assert folded.problems == ()
    return folded.options


def test_the_line_of_the_article_is_understood():
    folded = parse_arguments(ARTICLE.split())
    assert folded.problems == ()
    assert folded.options == MEANT
    (translation,) = folded.translations
    assert (translation.option, translation.rendered) == ("-fa", ("-fa", "on"))
    assert "#15434" in translation.source
    assert render(folded.options, pinned()).problems == ()


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("-fa", {"flash-attn": "on"}),
        ("-fa on", {"flash-attn": "on"}),
        ("-fa 0 --jinja", {"flash-attn": "off", "jinja": True}),
        ("--no-mmap", {"load-mode": "none"}),
        ("--no-mmap --mlock", {"load-mode": "mlock"}),
        ("--no_mmap", {"load-mode": "none"}),
        ("-nkvo", {"kv-offload": False}),
        ("-n -1 --temp -0.5", {"predict": -1, "temp": -0.5}),
        ("--draft-max 8 -md d.gguf", {"spec-draft-n-max": 8, "spec-draft-model": "d.gguf"}),
        ("--ctx-size=4096", {"ctx-size": 4096}),
        ("-ngl=99", {"gpu-layers": 99}),
        ("--jinja=false", {"jinja": False}),
        ("-ot exps=CPU", {"override-tensor": "exps=CPU"}),
        ("-ot a=CPU -ot b=CPU", {"override-tensor": "a=CPU,b=CPU"}),
        ("--lora a --lora b", {"lora": "a,b"}),
        ("--lora-scaled a.gguf 0.5 -c 1", {"lora-scaled": "a.gguf:0.5", "ctx-size": 1}),
        ("--lora-scaled a.gguf:0.5", {"lora-scaled": "a.gguf:0.5"}),
        ("-l 1+1 -l 2-3 -l 4+1", {"logit-bias": ("1+1", "2-3", "4+1")}),
        ("--control-vector-layer-range 3 9", {"control-vector-layer-range": ("3", "9")}),
        ("\u2013fa \u2013ngl 99 \u2014jinja", {"flash-attn": "on", "gpu-layers": 99, "jinja": True}),
        ("\u2013ctx-size 4096 \u2013-port 1", {"ctx-size": 4096, "port": 1}),
        ("\u2014temp=0.5", {"temp": 0.5}),
        ("", {}),
    ],
)
def test_old_new_and_mistyped_forms_come_to_the_same(text, options):
    assert meaning(text) == options


def test_the_last_of_duplicates_wins_and_it_is_said():
    folded = parse_arguments(["-c", "1", "--ctx-size", "2"])
    assert folded.options == {"ctx-size": 2}
    (translation,) = folded.translations
    assert "1 is dropped" in translation.reason


def test_repairs_are_said():
    assert [t.reason for t in parse_arguments(["--port=1"]).translations] == ["--option=value is not taken"]
    assert "typographic" in parse_arguments(["\u2014jinja"]).translations[0].reason


def test_no_secret_stands_in_a_translation():
    folded = parse_arguments(["--api-key=hunter2", "--hf-token", "hunter3", "\u2014hf-token=hunter4"])
    assert folded.options == {"api-key": "hunter2", "hf-token": "hunter4"}
    assert "hunter" not in repr(folded.translations)


@pytest.mark.parametrize(
    ("text", "option", "message", "suggestion"),
    [
        ("--ctx-sise 4096", "--ctx-sise", "no option", "ctx-size"),
        ("--xyzzy 1 2", "--xyzzy", "no option", ""),
        ("foo", "foo", "not an option", ""),
        ("--seed", "--seed", "needs a value", ""),
        ("--seed --jinja", "--seed", "needs a value", ""),
        ("--model --jinja", "--model", "needs a value", ""),
        ("--control-vector-layer-range 3", "--control-vector-layer-range", "START END", ""),
        ("-c many", "-c", "whole number", ""),
        ("--split-mode x", "--split-mode", "none, layer", ""),
        ("--version", "--version", "exit", ""),
        ("--port=", "--port", "whole number", ""),
    ],
)
def test_what_cannot_be_understood_is_one_problem(text, option, message, suggestion):
    (problem,) = parse_arguments(text.split()).problems
    assert problem.option == option
    assert message in problem.message
    assert problem.suggestion == suggestion


def test_a_problem_does_not_hide_the_rest():
    folded = parse_arguments(["--xyzzy", "1", "-ngl", "99", "foo", "--jinja"])
    assert [p.option for p in folded.problems] == ["--xyzzy", "foo"]
    assert folded.options == {"gpu-layers": 99, "jinja": True}


def test_every_preset_that_brings_a_model_is_known():
    helped = HELP.read_text(encoding="utf-8")
    found = re.findall(r"^--(\S+) [^(]*\(note:\s+can\s+download\s+weights", helped, re.MULTILINE)
    assert set(found) == set(PRESETS)
    for words in PRESETS.values():
        parsed = parse_arguments(words)
        assert parsed.problems == ()
        assert "hf-repo" in parsed.options


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("16,384", "16384"),
        ("1 048 576", "1048576"),
        ("16_384", "16384"),
        ("16k", "16384"),
        ("1,5", ""),
        ("x", ""),
    ],
)
def test_a_number_as_people_write_it_has_a_plain_form(text, number):
    assert plain_number(text) == number
