"""What a client's ``model`` means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        ("gpt-4o", Meant(None)),
        ("claude-opus-4-1:high", Meant(None, "high")),
        ("gpt-oss-120b:xhigh", Meant(None)),
        ("gpt-oss-120b:", Meant(None)),
        (":high", Meant(None, "high")),
        ("high", Meant(None)),
    ],
)
def test_an_unknown_name_is_the_active_profile_or_nobody(model, meant):
    assert Names(OFFERS, "active").meant(model) == meant
    assert Names(OFFERS, "reject").meant(model) is None


@given(st.text(), st.sampled_from(["active", "reject"]))
def test_any_text_means_an_offer_the_active_one_or_nobody(model, unknown):
    meant = Names(OFFERS, unknown).meant(model)
    assert meant is None or meant.profile in {None, "mini", "small"}
