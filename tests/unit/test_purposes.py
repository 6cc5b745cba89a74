"""Which profiles are for chats, for code and for embeddings."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.profile.purposes import options_for, suitable
from supervisor.profile.resolve import resolve
from supervisor.profile.store import ProfileStore

SHIPPED = ProfileStore(Path("/nonexistent"))
FIT = ("m4-mini-16gb", "glm-4.7-flash", "gemma-4-e4b", "qwen3-embedding-0.6b", "qwen3-reranker-0.6b", "demo")


def names(purpose, profiles):
    return [each.name for each in suitable(purpose, [resolve(name, SHIPPED) for name in profiles])]


@pytest.mark.parametrize(
    ("purpose", "meant"),
    [
        ("chat", ["m4-mini-16gb", "glm-4.7-flash", "gemma-4-e4b"]),
        ("code", ["m4-mini-16gb", "glm-4.7-flash"]),
        ("embedding", ["qwen3-embedding-0.6b"]),
    ],
)
def test_those_that_suit_the_machine_keep_their_order(purpose, meant):
    assert names(purpose, FIT) == meant


def test_where_none_is_good_at_code_any_for_chats_will_do_and_the_demo_where_there_is_nothing_else():
    assert names("code", ["gemma-4-e4b", "demo"]) == ["gemma-4-e4b"]
    assert names("chat", ["qwen3-embedding-0.6b", "demo"]) == ["demo"]
    assert names("embedding", ["gemma-4-e4b", "demo"]) == []


def test_what_makers_recommend_for_code_is_an_option_of_the_server():
    qwen, gemma = resolve("qwen3.6-35b-a3b-mtp", SHIPPED), resolve("gemma-4-26b-a4b", SHIPPED)
    assert options_for("code", qwen) == {"temp": 0.6, "presence-penalty": 0.0}
    assert qwen.server.keys() >= options_for("code", qwen).keys()
    assert not options_for("chat", qwen)
    assert not options_for("code", gemma)
