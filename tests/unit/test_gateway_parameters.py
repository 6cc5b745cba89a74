"""The body that llama-server gets says what the profile and the model's name say, and nothing else is touched."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.gateway.api.body import needs_rewrite, rewrite
from supervisor.gateway.api.routes import route_of
from supervisor.plan.launch import Parameters

CHAT, RESPONSES, MESSAGES, EMBEDDINGS = (
    route_of("POST", path)
    for path in ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/embeddings")
)
ALL = (CHAT, RESPONSES, MESSAGES, EMBEDDINGS)
LOW = Parameters(reasoning_effort="low")


def rewritten(document, settings=Parameters(), effort=None, route=CHAT):  # noqa: B008 - frozen
    body = json.dumps(document).encode()
    result = rewrite(body, settings, effort, route)
    if result != body:
        assert needs_rewrite(body, settings, effort, route)
    return json.loads(result)


def test_nearly_all_requests_pass_as_they_are():
    body = b'{ "model":"x", "messages":[], "temperature":1.0 }'
    for route in ALL:
        assert not needs_rewrite(body, Parameters(), None, route)
        assert rewrite(body, Parameters(), None, route) == body


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings", "/v1/rerank", "/reranking"])
def test_where_llama_server_repeats_the_name_it_gets_the_models_own(path):
    route, settings = route_of("POST", path), Parameters(public_model="bge:Q8")
    assert rewritten({"input": "x", "model": "ada"}, settings, route=route) == {
        "input": "x",
        "model": "bge:Q8",
    }
    for body in (b'{"input": "x"}', b'{ "model": "bge:Q8" }', b"", b"[]", b'{"model": "ada"'):
        assert rewrite(body, settings, None, route) == body
    for body in (b'{"input": "x"}', b'{ "model": "bge:Q8" }', b"", b"[]"):
        assert not needs_rewrite(body, settings, None, route)


def test_everywhere_else_the_name_stays():
    for route in (CHAT, RESPONSES, MESSAGES, route_of("POST", "/v1/audio/transcriptions")):
        assert not needs_rewrite(b'{"model": "ada"}', Parameters(public_model="bge"), None, route)
        assert (
            rewrite(b'{"model": "ada"}', Parameters(public_model="bge"), None, route) == b'{"model": "ada"}'
        )


def test_parameters_are_taken_out_and_put_in():
    settings = Parameters(strip_params=("top_k", "absent"), set_params={"temperature": 0.5, "stop": ["é"]})
    document = {"top_k": 1, "temperature": 2, "x": {"top_k": 3}}
    for route in ALL:
        assert rewritten(document, settings, route=route) == {
            "x": {"top_k": 3},
            "temperature": 0.5,
            "stop": ["é"],
        }


def test_an_escaped_twin_does_not_win_over_what_is_put_in():
    body = b'{"temperature":1,"temper\\u0061ture":2}'
    result = rewrite(body, Parameters(set_params={"temperature": 0.5}), None, CHAT)
    assert json.loads(result) == {"temperature": 0.5}


def test_only_work_for_the_model_is_rewritten():
    settings = Parameters(set_params={"a": 1}, strip_params=("b",), reasoning_effort="low")
    for path in ("/tokenize", "/v1/chat/completions/control", "/props", "/v1/messages/count_tokens"):
        assert not needs_rewrite(b'{"b":1}', settings, "high", route_of("POST", path))
    assert not needs_rewrite(b"", settings, "high", CHAT)


def test_an_effort_of_the_profile_stands_where_llama_server_looks_for_it():
    assert rewritten({"a": 1}, LOW) == {
        "a": 1,
        "reasoning_effort": "low",
        "chat_template_kwargs": {"reasoning_effort": "low"},
    }
    assert rewritten({"reasoning": {"summary": "auto"}}, LOW, route=RESPONSES) == {
        "reasoning": {"summary": "auto", "effort": "low"},
        "chat_template_kwargs": {"reasoning_effort": "low"},
    }
    thinking = {"thinking": {"type": "enabled"}}
    assert rewritten(thinking, LOW, route=MESSAGES) == thinking | {
        "chat_template_kwargs": {"reasoning_effort": "low"}
    }
    assert rewritten({"input": "x"}, LOW, route=EMBEDDINGS) == {"input": "x"}
    assert not needs_rewrite(b'{"input":"x"}', LOW, None, EMBEDDINGS)


@pytest.mark.parametrize(
    ("route", "document"),
    [
        (CHAT, {"reasoning_effort": "high"}),
        (CHAT, {"reasoning_effort": "none"}),
        (CHAT, {"chat_template_kwargs": {"reasoning_effort": "high"}}),
        (RESPONSES, {"reasoning": {"effort": "high"}}),
        (RESPONSES, {"reasoning_effort": "high"}),
        (MESSAGES, {"chat_template_kwargs": {"reasoning_effort": "high"}}),
    ],
)
def test_what_a_request_says_itself_stands(route, document):
    assert rewritten(document, LOW, route=route) == document


@pytest.mark.parametrize("nothing", [None, [], "high", 3])
def test_null_says_nothing_and_a_wrong_kind_neither(nothing):
    document = {"chat_template_kwargs": nothing}
    assert rewritten(document, LOW)["chat_template_kwargs"] == {"reasoning_effort": "low"}
    assert rewritten({"reasoning_effort": None}, LOW)["reasoning_effort"] == "low"


@pytest.mark.parametrize(("asked", "given"), [("medium", "medium"), ("max", "high"), ("odd", "low")])
def test_the_effort_of_anthropics_api_is_translated(asked, given):
    document = {"output_config": {"effort": asked, "format": 1}}
    result = rewritten(document, LOW, route=MESSAGES)
    assert result == document | {"chat_template_kwargs": {"reasoning_effort": given}}


def test_without_a_default_it_is_translated_too():
    document = {"output_config": {"effort": "max"}}
    result = rewritten(document, route=MESSAGES)
    assert result["chat_template_kwargs"] == {"reasoning_effort": "high"}
    assert rewritten(document, route=CHAT) == document


def test_the_suffix_of_a_name_wins_and_comes_off():
    document = {
        "model": "Any/Näme:HIGH",
        "reasoning_effort": "none",
        "chat_template_kwargs": {"reasoning_effort": "low", "enable_thinking": True},
    }
    assert rewritten(document, LOW, "high") == {
        "model": "Any/Näme",
        "reasoning_effort": "high",
        "chat_template_kwargs": {"reasoning_effort": "high", "enable_thinking": True},
    }
    assert rewritten({"model": "x:high"}, Parameters(), "high", EMBEDDINGS) == {"model": "x"}
    assert rewritten({"model": "x:high"}, LOW)["model"] == "x:high"  # a name as a whole


def test_what_the_profile_puts_in_counts_as_said():
    settings = Parameters(reasoning_effort="low", set_params={"reasoning_effort": "medium"})
    assert rewritten({"reasoning_effort": "high"}, settings) == {"reasoning_effort": "medium"}
    assert rewritten({}, settings, "high")["reasoning_effort"] == "high"


@pytest.mark.parametrize("number", ["1e400", "-0.0", "123456789012345678901234567890", "0.1000", "NaN", "01"])
def test_numbers_arrive_as_they_were_sent(number):
    body = f'{{"x":{number},"y":[{number}]}}'.encode()
    assert rewrite(body, LOW, None, CHAT).startswith(body[:-1])


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"a":', b"--boundary\r\n", b'{"a":1}}', b"\xff\xfe"])
def test_what_is_no_object_passes_unchanged(body):
    assert rewrite(body, Parameters(set_params={"a": 1}, reasoning_effort="low"), "high", CHAT) == body


@pytest.mark.parametrize("model", [b'"\\ud800:high"', b'"\xff:high"', b'":high"', b'"high"', b"1"])
def test_a_strange_name_is_no_error(model):
    assert rewrite(b'{"model":%s}' % model, Parameters(), "high", CHAT).startswith(b'{"model":')


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), _JSON), st.sampled_from(ALL))
def test_all_else_is_untouched(document, route):
    result = rewritten(document, LOW, "high", route)
    ours = {"model", "reasoning", "reasoning_effort", "chat_template_kwargs"}
    assert {key: value for key, value in result.items() if key not in ours} == {
        key: value for key, value in document.items() if key not in ours
    }
