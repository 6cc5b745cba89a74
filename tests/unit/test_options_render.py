"""Meanings in the spelling of one build: b6100, b7500, b9925, b11434 (the pinned one) and b11549."""

from __future__ import annotations

import dataclasses

import pytest

from supervisor.options import dialect
from supervisor.options.meanings import canonical, pinned
from supervisor.options.render import render

from .options_builds import ARTICLE, era


def line(options, capabilities):
    rendered = render(options, capabilities)
    assert rendered.problems == ()
    return " ".join(rendered.argv)


def test_the_article_on_the_pinned_build():
    assert line(ARTICLE, pinned()) == (
        "--model gpt-oss-120b.gguf --ctx-size 32768 --jinja --ubatch-size 4096 --batch-size 4096 "
        "--gpu-layers 99 --flash-attn on --n-cpu-moe 32 --host 0.0.0.0 --port 8080"
    )


def test_the_article_on_the_build_of_its_days():
    assert line(ARTICLE, era(6100)) == (
        "--model gpt-oss-120b.gguf --ctx-size 32768 --jinja --ubatch-size 4096 --batch-size 4096 "
        "--gpu-layers 99 --flash-attn --n-cpu-moe 32 --host 0.0.0.0 --port 8080"
    )


@pytest.mark.parametrize(
    ("options", "b6100", "b7500", "b9925", "b11434"),
    [
        ({"load-mode": "none"}, "--no-mmap", "--no-mmap", "--no-mmap --no-direct-io", "--load-mode none"),
        ({"load-mode": "mmap"}, "", "--mmap", "--mmap --no-direct-io", "--load-mode mmap"),
        ({"load-mode": "auto"}, "", "", "--no-direct-io", "--load-mode auto"),
        (
            {"load-mode": "mlock"},
            "--mlock --no-mmap",
            "--mlock --no-mmap",
            "--mlock --no-mmap --no-direct-io",
            "--load-mode mlock",
        ),
        (
            {"load-mode": "mmap+mlock"},
            "--mlock",
            "--mlock --mmap",
            "--mlock --mmap --no-direct-io",
            "--load-mode mmap+mlock",
        ),
        ({"load-mode": "dio"}, None, None, "--direct-io", "--load-mode dio"),
        ({"flash-attn": "on"}, "--flash-attn", "--flash-attn on", "--flash-attn on", "--flash-attn on"),
        ({"flash-attn": "off"}, "", "--flash-attn off", "--flash-attn off", "--flash-attn off"),
        ({"flash-attn": "auto"}, "", "--flash-attn auto", "--flash-attn auto", "--flash-attn auto"),
        ({"log-colors": "on"}, "--log-colors", "--log-colors on", "--log-colors on", "--log-colors on"),
        ({"gpu-layers": "all"}, "--gpu-layers 99", "--gpu-layers 99", "--gpu-layers all", "--gpu-layers all"),
        ({"gpu-layers": "auto"}, "", "", "--gpu-layers auto", "--gpu-layers auto"),
        (
            {"spec-draft-n-max": 16},
            "--draft-max 16",
            "--draft-max 16",
            "--spec-draft-n-max 16",
            "--spec-draft-n-max 16",
        ),
        (
            {"spec-draft-model": "d.gguf"},
            "--model-draft d.gguf",
            "--model-draft d.gguf",
            "--spec-draft-model d.gguf",
            "--spec-draft-model d.gguf",
        ),
        ({"jinja": True}, "--jinja", "--jinja", "--jinja", "--jinja"),
        ({"jinja": False}, "", "--no-jinja", "--no-jinja", "--no-jinja"),
        ({"warmup": False}, "--no-warmup", "--no-warmup", "--no-warmup", "--no-warmup"),
        ({"warmup": True}, "", "--warmup", "--warmup", "--warmup"),
        ({"kv-offload": False}, "--no-kv-offload", "--no-kv-offload", "--no-kv-offload", "--no-kv-offload"),
        ({"escape": False}, "--no-escape", "--no-escape", "--no-escape", "--no-escape"),
        ({"ui": False}, "--no-webui", "--no-webui", "--no-webui", "--no-ui"),
        ({"kv-unified": False}, "", "", "", "--no-kv-unified"),
        ({"metrics": False}, "", "", "", ""),
        ({"cache-ram": 0}, "", "--cache-ram 0", "--cache-ram 0", "--cache-ram 0"),
        ({"cache-ram": 512}, None, "--cache-ram 512", "--cache-ram 512", "--cache-ram 512"),
        ({"fit": "off"}, "", "--fit off", "--fit off", "--fit off"),
        ({"fit": "on"}, None, "--fit on", "--fit on", "--fit on"),
        ({"reasoning-effort": "high"}, None, None, None, "--reasoning-effort high"),
        ({"reasoning-effort": "default"}, "", "", "", "--reasoning-effort default"),
        ({"split-mode": "tensor"}, None, None, None, "--split-mode tensor"),
        ({"parallel": -1}, None, "--parallel -1", "--parallel -1", "--parallel -1"),
        ({"parallel": 4}, "--parallel 4", "--parallel 4", "--parallel 4", "--parallel 4"),
        ({"ctx-size-draft": 512}, "--ctx-size-draft 512", None, None, None),
        ({"moe-cache-mib": 64}, None, None, None, None),
    ],
)
def test_one_meaning_in_four_eras(options, b6100, b7500, b9925, b11434):
    builds = {6100: era(6100), 7500: era(7500), 9925: era(9925), 11434: pinned()}
    for (number, build), expected in zip(builds.items(), (b6100, b7500, b9925, b11434), strict=True):
        rendered = render(options, build)
        if expected is None:
            assert rendered.problems, number
            assert f"b{number}" in rendered.problems[0].message
        else:
            assert (" ".join(rendered.argv), rendered.problems) == (expected, ()), number


def test_an_option_newer_than_the_pinned_build_is_rendered_where_it_is_listed():
    assert line({"moe-cache-mib": 64}, era(11549)) == "--moe-cache-mib 64"


@pytest.mark.parametrize("number", [11434, 11435, 11450, 11479])
def test_builds_before_the_cache_of_experts_have_none(number):
    before = dataclasses.replace(pinned(), build=number)
    assert line({"moe-cache-mib": 0}, before) == ""
    (problem,) = render({"moe-cache-mib": 64}, before).problems
    assert "came with b11480" in problem.message


def test_every_translation_says_why_and_where_from():
    (translation,) = render({"load-mode": "none"}, era(6100)).translations
    assert translation.rendered == ("--no-mmap",)
    assert "word for it" in translation.reason
    assert "#20834" in translation.source
    (omitted,) = render({"flash-attn": "auto"}, era(6100)).translations
    assert omitted.rendered == ()
    assert omitted.reason


def test_what_is_said_as_written_is_no_translation():
    assert render(ARTICLE, pinned()).translations == ()


def test_a_thing_that_an_unknown_build_does_not_list_is_not_guessed_to_be_old():
    unknown = dataclasses.replace(era(6100), build=None)
    (problem,) = render({"fit": "off"}, unknown).problems
    assert "this build cannot do fit: off" in problem.message


def test_a_build_that_hides_an_option_is_not_taken_for_one_that_came_before_it():
    hiding = dataclasses.replace(
        era(11549), options=tuple(o for o in era(11549).options if "--fit" not in o.names)
    )
    assert render({"fit": "off"}, hiding).problems


def test_a_value_that_this_build_does_not_allow_is_a_problem_with_what_it_allows():
    (problem,) = render({"split-mode": "tensor"}, era(7500)).problems
    assert "none, layer, row" in problem.message


def test_a_gone_option_comes_with_advice():
    (problem,) = render({"spec-ngram-size-n": 12}, pinned()).problems
    assert "--spec-ngram-simple-size-n" in problem.message


def test_the_nearest_option_of_the_build_is_suggested():
    (problem,) = render({"spec-draft-n-maxx": 4}, pinned()).problems
    assert problem.suggestion == "spec-draft-n-max"


@pytest.mark.parametrize(
    ("options", "b6100", "b11434"),
    [
        ({"lora": "a,b"}, "--lora a --lora b", "--lora a,b"),
        ({"lora": ("a", "b")}, "--lora a --lora b", "--lora a,b"),
        ({"lora-scaled": "a:0.5,b:1"}, "--lora-scaled a 0.5 --lora-scaled b 1", "--lora-scaled a:0.5,b:1"),
        ({"override-kv": "a=int:1,b=int:2"}, "--override-kv a=int:1 --override-kv b=int:2", None),
        ({"override-tensor": "x=CPU,y=CPU"}, "--override-tensor x=CPU,y=CPU", None),
        ({"device": "CUDA0,CUDA1"}, "--device CUDA0,CUDA1", None),
        ({"logit-bias": ("1+1", "2-1")}, "--logit-bias 1+1 --logit-bias 2-1", None),
        ({"alias": "one"}, "--alias one", None),
    ],
)
def test_several_values_are_given_as_the_build_wants_them(options, b6100, b11434):
    assert line(options, era(6100)) == b6100
    assert line(options, pinned()) == (b11434 or b6100.replace("a=int:1 --override-kv b", "a=int:1,b"))


def test_a_list_where_this_build_takes_one_value_is_a_problem():
    (problem,) = render({"host": "127.0.0.1,::1"}, era(6100)).problems
    assert "takes one value for --host" in problem.message
    assert render({"alias": "a,b"}, era(7500)).problems


def test_secrets_never_stand_in_the_argument_list():
    rendered = render({"api-key": "hunter2", "hf-token": "hf_x", "port": 1}, pinned())
    assert rendered.argv == ("--port", "1")
    assert [t.option for t in rendered.translations] == ["api-key", "hf-token"]
    assert "LLAMA_API_KEY" in rendered.translations[0].reason
    assert "hunter2" not in repr(rendered)


def test_an_action_is_refused():
    assert render({"list-devices": True}, pinned()).problems


def test_every_row_of_the_table_is_about_known_options():
    for row in (*dialect.ROWS, *dialect.REFUSED):
        assert canonical(row.meaning) == row.meaning
        assert row.reason
        assert row.source
        for word in (*row.says, *row.lists):
            assert not word.startswith("--") or canonical(word) is not None
    for name, meaning in dialect.LEGACY.items():
        assert canonical(name) == meaning
