"""The list of models, for OpenAI's clients and for llama-server's web UI."""

from __future__ import annotations

from supervisor.gateway.api.served_models import context_in, model_document, models_document
from supervisor.plan.listen import Offer

MINI = Offer("mini", ("gpt-oss-120b", "mini"), "the large one", roles=("embedding",))
SMALL = Offer("small", ("gpt-oss-20b", "MINI", "small"), context_tokens=4096)
UPSTREAM = {  # shortened from what b11434 says
    "models": [
        {"name": "/m/a.gguf", "model": "/m/a.gguf", "capabilities": ["completion"], "details": {"a": 1}}
    ],
    "object": "list",
    "data": [
        {
            "id": "/m/a.gguf",
            "aliases": ["/m/a.gguf"],
            "tags": [],
            "object": "model",
            "architecture": {"input_modalities": ["text"]},
            "created": 5,
            "owned_by": "llamacpp",
            "meta": {"n_ctx": 2048},
        }
    ],
}


def test_each_offer_is_a_model_under_its_first_free_name():
    document = models_document((MINI, SMALL), {"mini": "ready"}, {}, 1000.9)
    assert document["object"] == "list"
    assert document["data"] == [
        {
            "id": "gpt-oss-120b",
            "object": "model",
            "created": 1000,
            "owned_by": "goss-supervisor",
            "aliases": ["mini"],
            "profile": "mini",
            "description": "the large one",
            "role": "embedding",
            "context": None,
            "state": "ready",
            "status": {"value": "loaded", "args": []},
        },
        {
            "id": "gpt-oss-20b",
            "object": "model",
            "created": 1000,
            "owned_by": "goss-supervisor",
            "aliases": ["small"],  # "MINI" is taken
            "profile": "small",
            "description": "",
            "role": "chat",
            "context": 4096,
            "state": "unloaded",
            "status": {"value": "unloaded", "args": []},
        },
    ]


def test_the_active_one_stands_first_for_the_web_ui():
    document = models_document((MINI, SMALL), {"small": "loading"}, {"small": UPSTREAM}, 0)
    assert [entry["id"] for entry in document["data"]] == ["gpt-oss-20b", "gpt-oss-120b"]
    assert [entry["state"] for entry in document["data"]] == ["loading", "unloaded"]
    assert [(entry["name"], entry["model"]) for entry in document["models"]] == [
        ("gpt-oss-20b", "gpt-oss-20b"),
        ("gpt-oss-120b", "gpt-oss-120b"),
    ]


def test_what_llama_server_tells_of_its_model_is_kept():
    document = models_document((MINI, SMALL), {"mini": "ready"}, {"mini": UPSTREAM}, 0)
    first, second = document["data"]
    assert first["meta"] == {"n_ctx": 2048}
    assert first["architecture"] == {"input_modalities": ["text"]}
    assert (first["id"], first["owned_by"], first["aliases"]) == ("gpt-oss-120b", "goss-supervisor", ["mini"])
    assert "meta" not in second
    assert document["models"][0]["capabilities"] == ["completion"]
    assert "/m/a.gguf" not in repr(document)
    assert UPSTREAM["data"][0]["id"] == "/m/a.gguf"


def test_the_context_is_what_the_server_had_when_it_last_ran():
    document = models_document((MINI, SMALL), {"mini": "sleeping"}, {}, 0, contexts={"mini": 2048})
    assert [entry["context"] for entry in document["data"]] == [2048, 4096]
    assert context_in(UPSTREAM) == 2048
    for upstream in ({}, {"data": [{}]}, {"data": [{"meta": 1}]}, {"data": [{"meta": {"n_ctx": 0}}]}):
        assert context_in(upstream) is None


def test_whatever_else_llama_server_tells_is_no_error():
    for upstream in ({}, {"data": None, "models": 3}, {"data": [], "models": [1]}, {"data": {"id": 1}}):
        assert (
            models_document((MINI,), {"mini": "ready"}, {"mini": upstream}, 0)["data"][0]["id"]
            == "gpt-oss-120b"
        )


def test_an_offer_without_a_name_of_its_own_is_left_out():
    document = models_document((MINI, Offer("other", ("Mini",))), {"other": "ready"}, {}, 0)
    assert [entry["profile"] for entry in document["data"]] == ["mini"]
    assert document["data"][0]["state"] == "unloaded"


def test_of_several_servers_one_that_serves_comes_first_and_those_that_sleep_before_those_that_never_ran():
    third = Offer("third", ("third",))
    document = models_document((MINI, SMALL, third), {"small": "sleeping", "third": "ready"}, {}, 0)
    listed = [(entry["profile"], entry["state"]) for entry in document["data"]]
    assert listed == [("third", "ready"), ("small", "sleeping"), ("mini", "unloaded")]


def test_a_load_that_came_to_nothing_is_told_until_the_model_serves():
    for states, failed in (({}, True), ({"mini": "sleeping"}, True), ({"mini": "ready"}, False)):
        document = models_document((MINI,), states, {}, 0, failed={"mini"})
        assert document["data"][0]["status"].get("failed", False) is failed


def test_one_model_is_found_by_any_of_its_names():
    document = models_document((MINI, SMALL), {"mini": "ready"}, {"mini": UPSTREAM}, 0)
    assert model_document(document, "gpt-oss-120b") is document["data"][0]
    assert model_document(document, "Mini") is document["data"][0]
    assert model_document(document, "small") is document["data"][1]
    assert model_document(document, "gpt-4o") is None
