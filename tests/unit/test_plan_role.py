"""What a model is good for: said, by its options, or by its header; and what llama-server is told of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.model.metadata import Model
from supervisor.options.parse import parse_arguments
from supervisor.plan.role import roles_of, with_role
from supervisor.profile.definition import Profile


def model(architecture, **values):
    return Model(
        architecture, {f"{architecture}.{key}": value for key, value in values.items()}, parts=(), tensors=()
    )


CHAT = model("gpt-oss")
BERT = model("bert", pooling_type=2)


def profile(*arguments, **more):
    return Profile("p", server=parse_arguments(arguments).options, **more)


@pytest.mark.parametrize(
    ("arguments", "roles"),
    [
        ((), ()),
        (("--ctx-size", "4096"), ()),
        (("--embedding",), ("embedding",)),
        (("--embeddings",), ("embedding",)),
        (("--pooling", "cls"), ("embedding",)),
        (("--pooling", "none"), ()),
        (("--pooling", "rank"), ("rerank",)),
        (("--rerank",), ("rerank",)),
        (("--reranking", "--embedding"), ("rerank",)),
    ],
)
def test_options_tell_it(arguments, roles):
    assert roles_of(profile(*arguments)) == roles
    assert roles_of(profile(*arguments), CHAT) == (roles or ("chat",))


@pytest.mark.parametrize(
    ("variables", "roles"),
    [
        ({"LLAMA_ARG_EMBEDDINGS": "1"}, ("embedding",)),
        ({"LLAMA_ARG_RERANKING": "true"}, ("rerank",)),
        ({"LLAMA_ARG_EMBEDDINGS": "0"}, ()),
        ({"OTHER": "1"}, ()),
    ],
)
def test_variables_of_llama_server_are_options(variables, roles):
    assert roles_of(profile(env=variables)) == roles


@pytest.mark.parametrize(
    ("header", "role"),
    [
        (CHAT, "chat"),
        (model("qwen3", pooling_type=0), "chat"),
        (model("bert"), "embedding"),
        (BERT, "embedding"),
        (model("nomic-bert-moe"), "embedding"),
        (model("gemma-embedding"), "embedding"),
        (model("qwen3", pooling_type=3), "embedding"),
        (model("qwen3", pooling_type=4), "rerank"),
        (model("bert", pooling_type=4), "rerank"),
        (model("bert", pooling_type="many"), "embedding"),
    ],
)
def test_the_header_tells_it(header, role):
    assert roles_of(profile(), header) == (role,)


def test_what_the_profile_says_comes_first():
    assert roles_of(profile(role="transcription"), BERT) == ("transcription",)
    assert roles_of(profile("--embedding", role="chat"), CHAT) == ("chat", "embedding")


@pytest.mark.parametrize(("role", "option"), [("embedding", "embedding"), ("rerank", "rerank")])
def test_llama_server_gets_the_option_that_the_role_needs(role, option):
    made = with_role(profile("--ctx-size", "512", role=role), CHAT)
    assert (made.role, made.server) == (role, {"ctx-size": 512, option: True})


@pytest.mark.parametrize(("pooling", "option"), [("mean", "embedding"), ("rank", "rerank")])
def test_a_way_of_pooling_is_not_enough_for_llama_server(pooling, option):
    assert with_role(profile("--pooling", pooling), CHAT).server == {"pooling": pooling, option: True}


def test_a_model_that_only_embeds_is_started_for_that():
    assert with_role(profile(), BERT).server == {"embedding": True}


@pytest.mark.parametrize("role", ["chat", "transcription", "speech", "image"])
def test_other_roles_need_none(role):
    assert with_role(profile(role=role), CHAT).server == {}


def test_what_is_said_of_the_option_is_left_alone():
    plain = profile(env={"LLAMA_ARG_EMBEDDINGS": "1"})
    assert with_role(plain, BERT) == replace(plain, role="embedding")
    assert with_role(profile("--embedding"), BERT).server == {"embedding": True}
    off = Profile("p", role="embedding", server={"embedding": False})
    assert with_role(off, BERT).server == {"embedding": False}


@pytest.mark.parametrize(
    ("made", "header", "warns"),
    [
        (profile(role="embedding"), CHAT, True),
        (profile("--embedding"), model("gemma3", pooling_type=0), True),
        (profile("--embedding", "--pooling", "mean"), CHAT, False),
        (profile(role="embedding", env={"LLAMA_ARG_POOLING": "last"}), CHAT, False),
        (profile(role="embedding"), BERT, False),
        (profile(role="embedding"), model("qwen3", pooling_type=3), False),
        (profile(role="rerank"), CHAT, False),
        (profile(), CHAT, False),
    ],
)
def test_a_chat_model_without_a_way_of_pooling_is_told_to_have_its_embeddings_refused(made, header, warns):
    """By b11434 with 400: "Pooling type 'none' is not OAI compatible"."""
    assert ["pooling" in note for note in with_role(made, header).notes] == [True] * warns
