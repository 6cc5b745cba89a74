"""What a client's ``model`` means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.gateway.api.routes import route_of
from supervisor.gateway.api.served_models import Meant, Names
from supervisor.plan.listen import Offer

OFFERS = (
    Offer("mini", ("gpt-oss-120b", "mini")),
    Offer("small", ("gpt-oss-20b", "small", "mini", "odd:high")),
)


@pytest.mark.parametrize(
    ("model", "meant"),
    [
        ("gpt-oss-120b", Meant("mini")),
        ("GPT-OSS-120B", Meant("mini")),
        ("gpt-oss-120b:high", Meant("mini", "high")),
        ("gpt-oss-20b:Low", Meant("small", "low")),
        ("small:medium", Meant("small", "medium")),
        ("mini", Meant("mini")),  # the first that has a name keeps it
        ("odd:high", Meant("small")),  # a name as a whole
        ("odd:high:low", Meant("small", "low")),
        (None, Meant(None)),
        ("", Meant(None)),
    ],
)
@pytest.mark.parametrize("unknown", ["active", "reject"])
def test_a_name_that_is_offered_is_understood(model, meant, unknown):
    assert Names(OFFERS, unknown).meant(model) == meant


@pytest.mark.parametrize(
    ("model", "meant"),
    [
        ("gpt-4o", Meant(None, is_unknown=True)),
        ("claude-opus-4-1:high", Meant(None, "high", is_unknown=True)),
        ("gpt-oss-120b:xhigh", Meant(None, is_unknown=True)),
        ("gpt-oss-120b:", Meant(None, is_unknown=True)),
        (":high", Meant(None, "high", is_unknown=True)),
        ("high", Meant(None, is_unknown=True)),
    ],
)
def test_an_unknown_name_is_the_active_profile_or_nobody(model, meant):
    assert Names(OFFERS, "active").meant(model) == meant
    assert Names(OFFERS, "reject").meant(model) is None


@given(st.text(), st.sampled_from(["active", "reject"]))
def test_any_text_means_an_offer_the_active_one_or_nobody(model, unknown):
    meant = Names(OFFERS, unknown).meant(model)
    assert meant is None or meant.profile in {None, "mini", "small"}


# --- roles

EMBEDS = Offer("embeds", ("bge", "embeds"), roles=("embedding",))
HEARS = Offer("hears", ("whisper-1", "hears"), roles=("transcription",))
CHATS = Offer("chats", ("gpt-oss", "chats"), roles=("chat",))
BOTH = Offer("both", ("both",), roles=("chat", "embedding"))
UNKNOWN = Offer("unknown", ("unknown",))


@pytest.mark.parametrize("model", [None, "", "text-embedding-3-small"])
def test_who_names_no_known_model_gets_the_first_of_the_role(model):
    names = Names((CHATS, UNKNOWN, EMBEDS, BOTH, HEARS))
    is_unknown = bool(model)
    for role, profile in {
        "embedding": "embeds",
        "transcription": "hears",
        "rerank": None,
        None: None,
    }.items():
        assert names.meant(model, role) == Meant(profile, is_unknown=is_unknown)


def test_a_known_model_is_meant_whatever_its_role():
    names = Names((CHATS, EMBEDS), "reject")
    assert names.meant("gpt-oss", "embedding") == Meant("chats")
    assert names.meant("text-embedding-3-small", "embedding") is None
    assert names.meant(None, "embedding") == Meant("embeds")


@pytest.mark.parametrize(
    ("path", "profiles"),
    [
        ("/v1/chat/completions", {"chats", "both", "embeds", "hears", "unknown"}),
        ("/v1/embeddings", {"embeds", "both", "unknown"}),
        ("/embedding", {"embeds", "both", "unknown"}),
        ("/v1/rerank", {"unknown"}),
        ("/reranking", {"unknown"}),
        ("/v1/audio/transcriptions", {"hears", "chats", "both", "unknown"}),
        ("/v1/audio/translations", {"hears"}),
        ("/v1/audio/speech", set()),
        ("/images/edits", set()),
    ],
)
def test_who_can_answer_is_known_by_the_roles(path, profiles):
    offers = (CHATS, EMBEDS, BOTH, HEARS, UNKNOWN)
    names = Names(offers)
    route = route_of("POST", path)
    assert {offer.profile for offer in offers if names.can(offer.profile, route)} == profiles
    assert names.can("nobody", route) == ("unknown" in profiles)
