"""A draft and a projector: their keys in a profile, whether they belong to the model, and what they take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.engine.local_engines import promised
from supervisor.errors import ConfigError
from supervisor.memory.accounts import Pool
from supervisor.memory.companions import ALONE, Companions, draft_options, head_of, with_companions
from supervisor.memory.ledger import account
from supervisor.memory.memory_settings import settings_of
from supervisor.model.gguf import KINDS, ValueType
from supervisor.model.header import Array, TensorInfo
from supervisor.model.metadata import Model, draft_misfit, draft_type_of, projector_misfit
from supervisor.options.parse import parse_arguments
from supervisor.prepare.model_at_hand import with_little_cache
from supervisor.profile.load_layers import load
from supervisor.profile.resolve import resolve, resolve_layer
from supervisor.profile.store import ProfileStore
from tests.fakes.architectures import true_shapes

GIB, MIB = 1024**3, 1024**2
F16 = KINDS[1]


# Keys


@pytest.fixture
def resolved(tmp_path):
    """The profile of a text; ``over`` is one that extends it."""

    def of(text, over=""):
        (tmp_path / "base.yaml").write_text(text)
        store = ProfileStore(tmp_path, tmp_path / "none")
        name, text = ("over", f"extends: base\n{over}") if over else ("base", text)
        return resolve_layer(load(text.encode(), name, f"{name}.yaml"), store)

    return of


DRAFTED = "model: {path: /m.gguf, draft: {path: /d.gguf, type: simple}}\n"


@pytest.mark.parametrize(
    ("over", "draft"),
    [
        ("server: {ctx-size: 4096}", ("/d.gguf", None, None, "simple")),
        ("model: {draft: mtp}", (None, None, None, "mtp")),
        ("model: {draft: null}", (None, None, None, None)),
        ("model: {draft: off}", (None, None, None, None)),
        ("model: {draft: false}", (None, None, None, None)),
        ("model: {draft: {repo: 'o/r:Q8_0'}}", (None, "o/r", "Q8_0", "simple")),
        ("server: {hfd: 'o/r:Q8_0'}", (None, "o/r", "Q8_0", "simple")),
        ("server: {md: null}", (None, None, None, "simple")),
        ("server: {spec-type: null}", ("/d.gguf", None, None, None)),
        ("args: --spec-type draft-eagle3", ("/d.gguf", None, None, "eagle3")),
        ("model: {path: /other.gguf}", (None, None, None, None)),
    ],
)
def test_an_inherited_draft_is_replaced_as_a_whole_or_in_a_part(resolved, over, draft):
    found = resolved(DRAFTED, over).model
    path = found.draft_path and found.draft_path.as_posix()
    assert (path, found.draft_repo, found.draft_quant, found.draft_type) == draft


def test_a_projector_that_was_switched_off_comes_back_by_its_name_and_goes_by_off(resolved):
    off = "model: {path: /m.gguf, projector: off}\n"
    assert resolved(off).server == {"mmproj-auto": False}
    again = resolved(off, "model: {projector: /p.gguf}")
    assert (again.server, again.model.projector_path.as_posix()) == ({}, "/p.gguf")
    gone = resolved("model: {path: /m.gguf, projector: /p.gguf}\n", "model: {projector: off}")
    assert (gone.server, gone.model.projector_path) == ({"mmproj-auto": False}, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "model: {path: /m, draft: {path: /d, repo: o/r}}",
            "model.draft.repo or model.draft.file is given too",
        ),
        ("model: {path: /m, draft: {file: d.gguf}}", "model.draft.repo is missing"),
        ("model: {path: /m, draft: {quant: Q8_0}}", "a quantisation is one of a repository's files"),
        ("model: {repo: o/r, draft: {repo: o/d, file: a.gguf, quant: Q8_0}}", "already names the file"),
        ("model: {repo: o/r, projector: {repo: o/p}}", "model.projector.file is missing"),
        (
            "model: {path: /m, projector: /p}\nserver: {no-mmproj: on}",
            "path: model.projector is off (no-mmproj)",
        ),
        ("model: {path: /m, projector: on}", "model.projector: must be a file, or off, not the text 'on'"),
        ("model: {path: /m, draft: true}", "must be mtp, a file, or off, not the truth value true"),
        ("model: {path: /m, draft: {type: fast}}", "model.draft.type: must be one of simple, mtp"),
        (
            "model: {path: /m}\nserver: {spec-type: 'draft-mtp,draft-simple'}",
            "a model can have only one draft",
        ),
    ],
)
def test_what_contradicts_itself_is_said(resolved, text, said):
    with pytest.raises(ConfigError) as raised:
        resolved(text + "\n")
    assert said in str(raised.value)


# Belonging


def model(architecture="llama", tensors=(), **values):
    named = {key.replace("__", "."): value for key, value in values.items()}
    infos = tuple(TensorInfo(name, shape, F16, 0, 2) for name, shape in tensors)
    return Model(architecture, named, infos, ())


def words(count, kind="gpt2", **more):
    tokens = {"tokenizer__ggml__tokens": Array(ValueType.STRING, count), "tokenizer__ggml__model": kind}
    return model(**tokens, **{f"tokenizer__ggml__{key}": value for key, value in more.items()})


@pytest.mark.parametrize(
    ("target", "draft", "said"),
    [
        (words(151936), words(151900), ""),
        (words(151936), words(151936, bos_token_id=1), ""),  # which nobody adds
        (words(151936), words(49152), "a vocabulary of 49152 tokens, but the model has one of 151936"),
        (words(100), words(100, "llama"), "tokenizer.ggml.model is llama, that of the model is gpt2"),
        (
            words(100, add_bos_token=True, bos_token_id=1),
            words(100, bos_token_id=2),
            "tokenizer.ggml.bos_token_id is 2, that of the model is 1",
        ),
        (model(), words(100), ""),  # the header tells nothing
    ],
)
def test_a_small_model_drafts_for_one_of_the_same_vocabulary(target, draft, said):
    found = draft_misfit(target, draft, "simple")
    assert found.endswith(said)
    assert bool(found) == bool(said)


def test_a_head_in_a_file_is_for_states_of_one_width():
    target = model("gemma4", gemma4__embedding_length=2816)
    head = model("gemma4-assistant", **{"gemma4-assistant__embedding_length_out": 2816})
    other = model("gemma4-assistant", **{"gemma4-assistant__embedding_length_out": 2560})
    assert draft_misfit(target, head, "mtp") == ""
    assert "states 2560 wide, but those of this model are 2816 wide" in draft_misfit(target, other, "mtp")


def test_a_projector_has_the_width_of_the_embeddings_somewhere():
    target = model(llama__embedding_length=2048)
    assert projector_misfit(target, model("clip", [("mm.2.weight", (4608, 2048))])) == ""
    assert projector_misfit(target, model("clip", clip__vision__projection_dim=2048)) == ""
    assert "nothing in it is as wide as this model's embeddings (2048)" in projector_misfit(
        target, model("clip", [("mm.2.weight", (64, 512))])
    )
    assert "is not a projector but a model (llama)" in projector_misfit(target, model())


@pytest.mark.parametrize(
    ("draft", "kind"),
    [
        (model(llama__block_count=2), "simple"),
        (model("qwen35", [("blk.1.nextn.eh_proj.weight", (8, 4))], qwen35__block_count=2, qwen35__nextn_predict_layers=1), "mtp"),
        (model("gemma4-assistant"), "mtp"),
        (model("eagle3"), "eagle3"),
        (model("dflash"), "dflash"),
        (model("dflash", [("markov_w1.weight", (8, 4))]), "dspark"),
    ],
)  # fmt: skip
def test_the_file_of_a_draft_tells_its_type(draft, kind):
    assert draft_type_of(draft) == kind


# Memory


RAM = (Pool("RAM", None, None),)


def ledger(name, options, pools=RAM, *, beside=ALONE):
    target, given = true_shapes()[name].model, parse_arguments(options.split()).options

    def alone(which, options):
        settings = settings_of(options, 11434, which)
        return account(which, settings, pools, cpu_features=["avx2"], flavour="cuda")

    return with_companions(alone(target, given), target, beside, given, alone)


ENGINE_SAYS = (
    ("qwen3.6-35b-a3b", "-c 16384 -np 2", 32 + 68),
    ("qwen3.6-35b-a3b", "-c 65536 -np 1", 128 + 104),
    ("qwen3.6-35b-a3b", "-c 16384 -np 1 -ub 2048", 32 + 272),
    ("qwen3.6-35b-a3b", "-c 16384 -np 1 -fa off", 32 + 578),
    ("qwen3.6-35b-a3b", "-c 16384 -np 1 -ctkd q8_0 -ctvd q8_0", 17 + 68),
    ("qwen3.5-27b", "-c 16384 -np 2", 64 + 130),
    ("qwen3.5-27b", "-c 65536 -np 4 -kvu", 256 + 132),
    ("qwen3.5-27b", "-c 16384 -np 1 -ub 2048", 64 + 592),
    ("glm-4.5-air", "-c 16384 -np 1", 64 + 154),
    ("glm-4.7-flash", "-c 16384 -np 1", 18 + 80),
)
"""MiB of context and buffer of the second context, as the --fit pass of b11434 prints them (bench)."""


@pytest.mark.parametrize(("name", "options", "told"), ENGINE_SAYS)
def test_what_a_head_inside_the_model_keeps_and_computes_is_what_the_engine_says(name, options, told):
    target = true_shapes()[name].model
    given = parse_arguments(f"{options} --spec-type draft-mtp".split()).options
    head = head_of(target)
    settings = settings_of(draft_options(given, in_file=False), 11434, head)
    pools = [Pool("RAM", None, None)]
    (ram,) = account(head, settings, pools, cpu_features=["avx2"], flavour="cpu").accounts
    assert (ram.context.bytes + ram.compute.bytes) / MIB == pytest.approx(told, rel=0.1)


def test_all_of_it_is_on_the_card_next_to_the_model_and_named():
    card = (Pool("CUDA0", 24 * GIB, 24 * GIB), Pool("RAM", 64 * GIB, 64 * GIB))
    name, options = "qwen3.5-4b", "-c 16384 -np 1 -ngl 99 --cache-ram 0"
    small, eyes = true_shapes()["qwen3-0.6b"].model, _eyes()
    alone, with_both = (ledger(name, options, card, beside=each) for each in (ALONE, Companions(small, eyes)))
    in_ram = ledger(name, f"{options} --no-mmproj-offload -ngld 0", card, beside=Companions(small, eyes))
    weights = sum(tensor.size_bytes for tensor in small.tensors)
    more = [with_both.accounts[0].needed_bytes, in_ram.accounts[0].needed_bytes]
    more = [each - alone.accounts[0].needed_bytes for each in more]
    assert more[0] > weights + 858 * MIB > more[1]
    assert in_ram.accounts[1].needed_bytes - alone.accounts[1].needed_bytes > weights + 858 * MIB
    assert any(note.startswith("the projector takes 1.3 GiB on CUDA0, ") for note in with_both.notes)
    assert any(note.startswith("the draft model takes ") for note in with_both.notes)


def _eyes():
    """Of Qwen3.6-35B-A3B: 857.6 MiB of weights and 248.1 of buffers in a log of the pull request 23269."""
    vision = {"patch_size": 16, "image_size": 768, "embedding_length": 1152, "feed_forward_length": 4304}
    values = {f"clip.vision.{key}": value for key, value in {**vision, "spatial_merge_size": 2}.items()}
    tensor = TensorInfo("v.all", (2048, 1), F16, 0, int(857.6 * MIB))
    return Model("clip", {**values, "clip.projector_type": "qwen3vl_merger"}, (tensor,), ())


def test_embeddings_of_each_layer_that_stay_in_the_file_need_no_memory():
    name, tensor = "gemma-4-e4b", "per_layer_token_embd.weight"
    by_default, lazy = (ledger(name, f"-c 4096 -np 1 {more}") for more in ("", "-lzm on"))
    (size,) = (each.size_bytes for each in true_shapes()[name].model.tensors if each.name == tensor)
    assert by_default.accounts[0].needed_bytes - lazy.accounts[0].needed_bytes == size
    assert lazy.accounts[0].weights == by_default.accounts[0].weights  # as the engine counts them
    assert lazy.accounts[0].anonymous_bytes == by_default.accounts[0].anonymous_bytes
    assert any(note.startswith(f"{tensor} (") and "stays in the file" in note for note in lazy.notes)
    unmapped = ledger(name, "-c 4096 -np 1 -lzm on --load-mode none").accounts[0]
    assert unmapped.anonymous_bytes == unmapped.needed_bytes == lazy.accounts[0].needed_bytes


def test_four_gib_of_them_stay_there_by_themselves():
    target = true_shapes()["gemma-4-e4b"].model
    wide = tuple(replace(each, size_bytes=5 * GIB) if each.name.startswith("per_layer_tok") else each for each in target.tensors)  # fmt: skip

    def lazy_bytes(options):
        settings = settings_of(parse_arguments(options.split()).options, 11434, target)
        pools = [Pool("RAM", None, None)]
        return account(replace(target, tensors=wide), settings, pools, cpu_features=[], flavour="cpu").accounts[0].lazy_bytes  # fmt: skip

    assert (lazy_bytes("-c 4096"), lazy_bytes("-c 4096 -lzm off")) == (5 * GIB, 0)


# Old prompts


@pytest.mark.parametrize(
    ("name", "more", "weights", "kept"),
    [
        ("helper", "", 600 * MIB, 600),
        ("helper", "", 4 * MIB, 256),
        ("helper", "", 2 * GIB, None),
        ("helper", "", None, None),
        ("helper", "server: {cache-ram: 8192}", 600 * MIB, 8192),
        ("helper", "env: {LLAMA_ARG_CACHE_RAM: '8192'}", 600 * MIB, None),
        ("first", "", 600 * MIB, None),
        ("alone", "", 600 * MIB, None),
    ],
)
def test_a_small_model_next_to_others_keeps_no_more_old_prompts_than_its_own_size(
    tmp_path, name, more, weights, kept
):
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    for each in ("first", "helper", "alone"):
        (profiles / f"{each}.yaml").write_text(f"model: demo\n{more}\n")
    (tmp_path / "config.yaml").write_text("serve: [first, helper]\n")
    profile = resolve(name, ProfileStore(profiles))
    assert with_little_cache(profile, weights, promised("")).server.get("cache-ram") == kept
