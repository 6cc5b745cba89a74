"""The profiles that are shipped: they resolve, say what was reported, and their schema is fresh."""

import json
import re
from pathlib import Path

import pytest

from supervisor.options.meanings import pinned
from supervisor.options.render import render
from supervisor.profile.definition import NAME_PATTERN, ListenSettings, ModelSource
from supervisor.profile.jsonschema import FIRST_LINE, schema_text, settings_schema_text
from supervisor.profile.matching import MODEL_BYTES
from supervisor.profile.resolve import resolve
from supervisor.profile.store import ProfileStore, shipped_folder

from ..fakes.architectures import SHIPPED, true_shapes

STORE = ProfileStore(Path("/nonexistent"))
BASE_20B = ModelSource(repo="ggml-org/gpt-oss-20b-GGUF", file="gpt-oss-20b-mxfp4.gguf")
BASE_120B = ModelSource(repo="ggml-org/gpt-oss-120b-GGUF", file="gpt-oss-120b-mxfp4-00001-of-00003.gguf")

EXPECTED = {
    "demo": (ModelSource(demo=True), "cpu", {"ctx-size": 4096}),
    "gpt-oss-20b": (BASE_20B, None, {"temp": 1.0, "top-p": 1.0}),
    "gpt-oss-120b": (BASE_120B, None, {"temp": 1.0, "top-p": 1.0}),
    "evo-t1-64gb": (
        BASE_120B,
        "vulkan",
        {"cpu-moe": True, "ctx-size": 4096, "load-mode": "mmap", "repack": False},
    ),
    "xg1-370-96gb-cpu": (BASE_120B, "cpu", {"ctx-size": 131072}),
    "rtx4060ti-oculink": (BASE_120B, "cuda", {"n-cpu-moe": 32, "flash-attn": "on"}),
    "m4-max-128gb": (BASE_120B, "metal", {"ctx-size": 131072, "gpu-layers": 99}),
    "ryzen-ai-max-395": (BASE_120B, "vulkan", {"gpu-layers": 99}),
    "zenbook-sora-32gb": (BASE_20B, "cpu", {}),
    "rx9070-20b": (BASE_20B, "vulkan", {"gpu-layers": 99}),
    "rx9070-120b": (BASE_120B, "vulkan", {"gpu-layers": 6}),
    "m4-mini-16gb": (BASE_20B, "metal", {"gpu-layers": 15, "ctx-size": 4096}),
    "m4-pro-32gb": (BASE_20B, "metal", {"gpu-layers": 99}),
}


def _of(repo, file, draft=None, **server):
    return ModelSource(repo=repo, file=file, draft_type=draft), None, server


UD = "Qwen3.6-35B-A3B-UD-Q4_K_M.gguf"  # of the same name in both repositories
OTHER_MODELS = {
    "qwen3.6-35b-a3b": _of("unsloth/Qwen3.6-35B-A3B-GGUF", UD, temp=1.0),
    "qwen3.6-35b-a3b-mtp": _of("unsloth/Qwen3.6-35B-A3B-MTP-GGUF", UD, "mtp", parallel=1, temp=1.0),
    "qwen3.8-27b": _of("unsloth/Qwen3.8-27B-GGUF", "Qwen3.8-27B-UD-Q4_K_M.gguf", temp=1.0),
    "gemma-4-26b-a4b": _of(
        "unsloth/gemma-4-26B-A4B-it-qat-GGUF", "gemma-4-26B-A4B-it-qat-UD-Q4_K_XL.gguf", temp=1.0
    ),
    "gemma-4-e4b": _of("unsloth/gemma-4-E4B-it-qat-GGUF", "gemma-4-E4B-it-qat-UD-Q4_K_XL.gguf", temp=1.0),
    "glm-4.7-flash": _of("unsloth/GLM-4.7-Flash-GGUF", "GLM-4.7-Flash-UD-Q4_K_XL.gguf", temp=1.0),
    "qwen3.5-0.8b": _of("unsloth/Qwen3.5-0.8B-GGUF", "Qwen3.5-0.8B-UD-Q4_K_XL.gguf", reasoning="off"),
    "qwen3-embedding-0.6b": _of(
        "Qwen/Qwen3-Embedding-0.6B-GGUF", "Qwen3-Embedding-0.6B-Q8_0.gguf", embedding=True, pooling="last"
    ),
    "qwen3-reranker-0.6b": _of(
        "ggml-org/Qwen3-Reranker-0.6B-Q8_0-GGUF", "qwen3-reranker-0.6b-q8_0.gguf", rerank=True
    ),
}
EXPECTED |= OTHER_MODELS
OTHER_ENGINES = {"vllm", "mlx-lm", "transformers", "whisper", "stable-diffusion", "text-embeddings"}


def test_these_are_shipped_and_no_others():
    assert set(STORE.names()) == {*EXPECTED, *OTHER_ENGINES, "worker"}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_shipped_profile_says_what_was_reported(name):
    model, flavour, server = EXPECTED[name]
    profile = resolve(name, STORE)
    assert (profile.model, profile.engine.flavour) == (model, flavour)
    assert server.items() <= profile.server.items()
    assert profile.description
    assert profile.aliases
    assert profile.notes == ()
    if name != "rtx4060ti-oculink":
        assert profile.listen == ListenSettings("127.0.0.1", 8080)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_pinned_build_can_do_all_of_it(name):
    assert render(resolve(name, STORE).server, pinned()).problems == ()


def test_the_oculink_profile_is_the_reported_command_line_and_what_every_120b_has():
    profile = resolve("rtx4060ti-oculink", STORE)
    options = {**profile.server, "host": profile.listen.host, "port": profile.listen.port}
    reported = "--ctx-size 32768 --jinja --ubatch-size 4096 --batch-size 4096 --gpu-layers 99 --flash-attn on"
    reported += " --n-cpu-moe 32 --host 0.0.0.0 --port 8080"
    reported += " --cache-ram 2048 --temp 1.0 --top-p 1.0"
    assert _pairs(render(options, pinned()).argv) == _pairs(reported.split())


@pytest.mark.parametrize("name", EXPECTED)
def test_what_old_prompts_may_take_is_said(name):
    """By default it is 8 GiB, of whatever machine."""
    assert "cache-ram" in resolve(name, STORE).server


def _pairs(argv):
    """A set of options with their values."""
    return {" ".join(part.split()) for part in " ".join(argv).replace(" --", "\n--").splitlines()}


@pytest.mark.parametrize("name", OTHER_MODELS)
def test_every_number_of_another_model_has_its_source(name):
    text = (shipped_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    model = resolve(name, STORE).model
    assert f"huggingface.co/{model.repo}" in " ".join(text.replace("\n#", "").split())
    bytes_named = re.search(r"[\d,]{11,}", text)
    if bytes_named:
        assert int(bytes_named[0].replace(",", "")) == MODEL_BYTES[model.repo]
    assert f"{MODEL_BYTES[model.repo] / 10**9:.1f} GB" in text


@pytest.mark.parametrize(("profile", "shape"), SHIPPED.items())
def test_the_shape_that_its_account_is_checked_with_is_as_large_as_the_file(profile, shape):
    """The published files give some tensors more bits than Q4_K_M does."""
    file_bytes = MODEL_BYTES[resolve(profile, STORE).model.repo]
    assert true_shapes()[shape].model.size_bytes == pytest.approx(file_bytes, rel=0.13)


def test_the_account_of_every_model_is_checked_with_a_shape():
    assert set(SHIPPED) == set(OTHER_MODELS)


def test_small_models_next_to_one_for_chats_have_their_roles_and_answer_several_at_once():
    embedding, reranker = (resolve(name, STORE) for name in ("qwen3-embedding-0.6b", "qwen3-reranker-0.6b"))
    assert (embedding.role, reranker.role) == ("embedding", "rerank")
    for each in (embedding, reranker, resolve("qwen3.5-0.8b", STORE)):
        assert (each.server["parallel"], each.server["kv-unified"]) == (4, True)
        assert each.server["cache-ram"] <= 256


@pytest.mark.parametrize("path", sorted(shipped_folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_file_names_the_schema_and_explains_itself(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] + "\n" == FIRST_LINE
    assert lines[1] == "#"
    assert lines[2].startswith("# ")
    assert max(map(len, lines)) <= 110


@pytest.mark.parametrize(
    ("name", "text"), [("schema.json", schema_text), ("config-schema.json", settings_schema_text)]
)
def test_a_shipped_schema_is_fresh(name, text):
    """Else: bin/check --fix"""
    assert (shipped_folder() / name).read_text(encoding="utf-8") == text()


def test_the_schema_completes_what_a_profile_takes():
    schema = json.loads(schema_text())
    server = schema["properties"]["server"]["anyOf"][0]
    assert {"ctx-size", "c", "ngl", "n-cpu-moe", "no-mmap", "mlock", "no-repack", "fa"} <= set(
        server["properties"]
    )
    assert server["properties"]["c"] == server["properties"]["ctx-size"] == {"$ref": "#/$defs/ctx-size"}
    assert "help" not in server["properties"]
    assert {ref["$ref"].removeprefix("#/$defs/") for ref in server["properties"].values()} == set(
        schema["$defs"]
    )
    port = schema["properties"]["listen"]["anyOf"][0]["properties"]["port"]
    assert port["default"] == 8080
    assert schema["properties"]["extends"]["anyOf"][0]["pattern"] == f"^(?:{NAME_PATTERN})$"
