"""A profile's own command: what it may say, what becomes of it, and what its death means."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.engine.adapters.adapter import question_for
from supervisor.engine.adapters.command_program import build_of
from supervisor.engine.adapters.known import adapter_of
from supervisor.errors import ConfigError, NotFound
from supervisor.hardware.hardware import Cpu, Gpu, Hardware
from supervisor.memory.engine_figures import keep_measured, measured_memory
from supervisor.memory.fitting import fit_known
from supervisor.paths import Paths
from supervisor.plan.make import ModelAtHand, make_plan
from supervisor.plan.plan_json import from_json, to_json
from supervisor.profile.definition import Engine, GatewaySettings, Profile
from supervisor.profile.load_layers import load, overrides_layer
from supervisor.profile.matching import rank_stored
from supervisor.profile.resolve import resolve, resolve_layer
from supervisor.profile.store import ProfileStore
from supervisor.profile.yaml_text import render, rows_of_profile
from supervisor.server.cause_of_death import diagnose
from supervisor.server.process import ExitStatus

STORE = ProfileStore(Path("/nonexistent"))
SHIPPED = ("vllm", "mlx-lm", "transformers", "whisper", "stable-diffusion", "text-embeddings")
SHELL = "cmd" if sys.platform == "win32" else "sh"
COMMAND = (SHELL, "-c", "serve {model}", "--host", "{host}", "--port={port}", '{"a": 1}')
ENGINE = Engine(source="command", command=COMMAND, upstream_model="{model}")
PROFILE = Profile("p", engine=ENGINE, aliases=("small",))
MODEL = ModelAtHand("owner/name")
GIB = 1024**3
ADAPTER = adapter_of("command")


def plan_of(profile=PROFILE, model=MODEL):
    return make_plan(profile, build_of(profile.engine), model)


def profile_of(text, **overrides):
    return resolve_layer(load(text.encode(), "p", "p.yaml"), STORE, overrides)


def problems(text):
    with pytest.raises(ConfigError) as error:
        profile_of(text)
    return str(error.value).splitlines()


WHOLE = """
model: {repo: owner/name}
engine:
  command: [vllm, serve, "{model}", --port, "{port}", --max-model-len, 32768]
  ready: {path: /up, question: off}
  upstream-model: "{model}"
  memory: {RAM: 2 GiB, CUDA0: 14 GiB}
stop: {signal: INT}
"""


def test_a_command_says_what_it_is():
    profile = profile_of(WHOLE)
    engine = profile.engine
    assert engine.source == "command"
    assert engine.command == ("vllm", "serve", "{model}", "--port", "{port}", "--max-model-len", "32768")
    assert (engine.ready_path, engine.ready_question, engine.upstream_model) == ("/up", False, "{model}")
    assert engine.memory == {"RAM": 2 * GIB, "CUDA0": 14 * GIB}
    assert profile.stop.signal == "INT"
    assert profile.can_start


def test_what_is_shown_of_it_is_the_same_again():
    profile = profile_of(WHOLE)
    again = profile_of(render(rows_of_profile(profile)))
    assert (again.engine, again.stop, again.model) == (profile.engine, profile.stop, profile.model)


def test_a_path_alone_says_when_it_is_ready():
    assert profile_of("engine: {command: [x], ready: /v1/models}").engine.ready_path == "/v1/models"


def test_set_takes_a_list_and_a_memory():
    given = {"engine.command": "[x, '{port}']", "engine.memory.RAM": "3 GiB", "engine.ready": "/a"}
    engine = profile_of("description: x", **given).engine
    assert (engine.command, engine.memory, engine.ready_path) == (("x", "{port}"), {"RAM": 3 * GIB}, "/a")
    assert not overrides_layer("p", given).problems


def test_who_names_a_command_means_not_the_inherited_engine_and_the_other_way_round():
    mine = "extends: mlx-lm\nengine: {path: /opt/llama-server, ready: null, upstream-model: null}"
    assert profile_of(f"{mine}\nmodel: demo").engine.source == "path"
    assert profile_of(
        "extends: demo\nserver: {ctx-size: null, cache-ram: null}\nengine: {command: [x]}"
    ).engine.command


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("engine: {source: command}", "engine.command is missing"),
        ("engine: {command: vllm serve x}", "must be a list of words: [vllm, serve, x, …]"),
        ("engine: {command: []}", "names no program"),
        ("engine: {command: [x]}\nserver: {ctx-size: 4096}", "server.ctx-size: is llama-server's"),
        ("engine: {source: release, command: [x]}", "is for source: command only"),
        ("model: demo\nengine: {ready: /up}", "is for source: command only"),
        ("model: demo\nengine: {memory: {RAM: 1 GiB}}", "is for source: command only"),
        ("engine: {command: [x], memory: {VRAM: 1 GiB}}", "is no name for a memory"),
        ("engine: {command: [x], memory: {RAM: much}}", "must be a size"),
        ("engine: {command: [x], ready: health}", "must be a path such as /health"),
        ("engine: {command: [x]}\nstop: {signal: KILL}", "must be one of TERM, INT, QUIT"),
        ("model: {file: x}", "model.repo is missing"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(text, problem):
    [line] = problems(text)
    assert problem in line
    assert line.startswith("p.yaml:")


def test_a_plan_survives_its_way_to_the_daemon():
    plan = plan_of()
    assert plan.question is not None
    assert from_json(json.loads(json.dumps(to_json(plan)))) == plan


@pytest.mark.parametrize(
    ("profile", "problem"),
    [
        (replace(PROFILE, engine=replace(ENGINE, command=(SHELL,))), "must hold {port}"),
        (replace(PROFILE, engine=replace(ENGINE, command=(SHELL, "{port}", "{key}"))), "must not hold {key}"),
        (
            replace(PROFILE, env={"K": "{key}"}, gateway=GatewaySettings(mode="off")),
            "only behind the gateway",
        ),
    ],
)
def test_a_command_that_could_not_be_reached_is_refused(profile, problem):
    with pytest.raises(ConfigError, match=problem):
        plan_of(profile)


def test_a_model_that_is_filled_in_has_to_be_named():
    with pytest.raises(ConfigError, match="names no model"):
        plan_of(model=ModelAtHand(""))


def test_a_program_that_is_missing_is_an_error_for_a_start_and_a_word_in_a_plan():
    engine = replace(ENGINE, command=("no-such-program", "{port}"))
    with pytest.raises(NotFound, match="no-such-program"):
        build_of(engine)
    assert "not installed" in build_of(engine, at_hand=False).reason


@pytest.mark.parametrize(
    ("role", "path"),
    [("chat", "/v1/chat/completions"), ("embedding", "/v1/embeddings"), ("rerank", "/v1/rerank")],
)
def test_a_role_has_its_question(role, path):
    question = question_for("m", role)
    assert question.path == path
    assert json.loads(question.body)["model"] == "m"


@pytest.mark.parametrize("role", ["transcription", "speech", "image"])
def test_or_none(role):
    assert question_for("m", role) is None


def test_the_question_uses_the_engines_own_name():
    assert json.loads(plan_of().question.body)["model"] == "owner/name"
    asked = plan_of(replace(PROFILE, engine=replace(ENGINE, upstream_model=None))).question
    assert json.loads(asked.body)["model"] == "small"


def test_a_plan_has_the_question_and_the_role_of_its_profile():
    plan = plan_of(replace(PROFILE, role="embedding"))
    assert (plan.question.path, plan.roles) == ("/v1/embeddings", ("embedding",))
    assert plan_of(replace(PROFILE, role="image")).question is None


@pytest.mark.parametrize(
    ("line", "kind", "again"),
    [
        ("OSError: [Errno 98] Address already in use", "bind-failed", False),
        (
            "ERROR: [Errno 98] error while attempting to bind on address ('127.0.0.1', 80)",
            "bind-failed",
            False,
        ),
        ("vllm: error: unrecognized arguments: --nope", "bad-argument", False),
        ("error: unexpected argument '--nope' found", "bad-argument", False),
        ("ModuleNotFoundError: No module named 'vllm'", "missing-library", False),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "gpu-memory", True),
        ("RuntimeError: MPS backend out of memory (MPS allocated: 9 GB)", "gpu-memory", True),
        ("RuntimeError: DefaultCPUAllocator: can't allocate memory", "memory", True),
        (
            "OSError: nope is not a local folder and is not a valid model identifier listed on",
            "model-missing",
            False,
        ),
        ("Temporary failure in name resolution", "download-failed", True),
    ],
)
def test_the_last_words_of_such_programs_are_understood(line, kind, again):
    found = diagnose(ExitStatus(code=1), "starting", ["...", line, ""], ADAPTER, "vllm")
    assert (found.kind, found.retryable) == (kind, again)
    assert found.hint
    assert "{" not in found.message


def test_an_exit_without_words_names_the_program_and_is_final_before_it_was_ready():
    found = diagnose(ExitStatus(code=2), "starting", [], ADAPTER, "vllm")
    assert (found.message, found.retryable) == ("vllm ended before it was ready (exit code 2).", False)
    assert diagnose(ExitStatus(code=2), "serving", [], ADAPTER, "vllm").retryable
    assert "vllm was killed" in diagnose(ExitStatus(signal=9), "serving", [], ADAPTER, "vllm").message


MACHINE = Hardware(
    os="linux",
    arch="x86_64",
    cpu=Cpu(),
    ram_bytes=32 * GIB,
    available_bytes=20 * GIB,
    gpus=(Gpu("nvidia", "RTX 4090", memory_bytes=24 * GIB, free_bytes=23 * GIB, integrated=False),),
)


@pytest.mark.parametrize(
    ("declared", "status"),
    [
        ({"RAM": 2 * GIB}, "fits"),
        ({"RAM": 2 * GIB, "CUDA0": 14 * GIB}, "fits"),
        ({"CUDA0": 25 * GIB}, "does not fit"),
        ({"RAM": 21 * GIB}, "does not fit"),
        ({"CUDA7": 1 * GIB}, "unknown"),
    ],
)
def test_a_declared_memory_is_judged_like_a_counted_one(declared, status):
    fitted = fit_known(declared, "declared", PROFILE, MACHINE)
    assert fitted.verdict.status == status
    assert fitted.held == {"RAM": 0, **declared}
    assert not fitted.is_final


def test_what_the_one_before_gives_back_counts_as_free():
    known = {"RAM": 25 * GIB}
    assert fit_known(known, "declared", PROFILE, MACHINE, held={"RAM": 10 * GIB}).verdict.allowed


def test_it_takes_no_more_of_a_memory_than_is_ours():
    known, leave = {"CUDA0": 14 * GIB}, {"CUDA0": 8 * GIB}
    assert fit_known(known, "declared", PROFILE, MACHINE).verdict.allowed
    profile = replace(PROFILE, leave_bytes=leave)
    fitted = fit_known(known, "declared", profile, MACHINE, stays={"CUDA0": 6 * GIB})
    assert fitted.verdict.refused
    assert fitted.ours == {"CUDA0": MACHINE.gpus[0].memory_bytes - 8 * GIB}


def test_the_most_that_was_measured_is_kept(tmp_path):
    paths = Paths.under(tmp_path)
    for size in (5, 9, 7):
        keep_measured(paths, "digest", "RAM", size)
    assert measured_memory(paths) == {"digest": {"RAM": 9}}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_command_makes_a_plan(name):
    profile = resolve(name, STORE)
    plan = make_plan(profile, build_of(profile.engine, at_hand=False), ModelAtHand("owner/name"))
    assert profile.description
    assert profile.aliases
    assert not any("{model}" in word or "{host}" in word for word in plan.argv)
    assert "{port}" in plan.argv
    assert plan.parameters.public_model == profile.aliases[0]


@pytest.mark.parametrize(
    ("name", "role", "path"),
    [
        ("whisper", "transcription", None),
        ("stable-diffusion", "image", None),
        ("text-embeddings", "embedding", "/v1/embeddings"),
    ],
)
def test_what_is_no_chat_says_so(name, role, path):
    profile = resolve(name, STORE)
    plan = make_plan(profile, build_of(profile.engine, at_hand=False), ModelAtHand("owner/name"))
    assert (plan.roles, plan.question and plan.question.path) == ((role,), path)


def test_a_program_that_is_not_installed_is_nobodys_default(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    ranking = rank_stored(STORE, MACHINE)
    assert ranking.best.name not in SHIPPED
    unfit = {each.name: each.reasons for each in ranking.unfit}
    assert unfit["vllm"] == ("vllm is not installed",)


def test_nor_one_that_is(monkeypatch, tmp_path):
    for program in ("vllm", "mlx_lm.server", "transformers"):
        made = tmp_path / (f"{program}.exe" if sys.platform == "win32" else program)
        made.write_text("#!/bin/sh\n")
        made.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    ranking = rank_stored(STORE, MACHINE)
    assert ranking.best.name not in SHIPPED
    assert {"vllm", "mlx-lm", "transformers"} <= {fit.name for fit in ranking.others}
