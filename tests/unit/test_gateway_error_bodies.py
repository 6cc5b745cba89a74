"""What we say ourselves is said in the words of the API that the client speaks."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.gateway.api.routes import (
    Trouble,
    answer,
    body_of,
    broken_event,
    too_long,
    too_long_in,
    waiting_comment,
)
from supervisor.gateway.endpoints import why_refused
from supervisor.gateway.http_heads import chunk
from supervisor.gateway.scheduler import Refuse, Ticket

DIALECTS = ("openai", "responses", "anthropic")
TOO_LONG = (  # of llama-server b11434
    b'{"error":{"code":400,"message":"request (1290 tokens) exceeds the available context size (1024 tokens), '
    b'try increasing it","type":"exceed_context_size_error","n_prompt_tokens":1290,"n_ctx":1024}}'
)
REJECTED = Trouble(404, "model_not_found", "There is no model gpt-4o.", "Ask /v1/models.")


@pytest.mark.parametrize(
    ("status", "openai", "anthropic"),
    [
        (400, "invalid_request_error", "invalid_request_error"),
        (401, "authentication_error", "authentication_error"),
        (403, "permission_error", "permission_error"),
        (404, "not_found_error", "not_found_error"),
        (405, "invalid_request_error", "invalid_request_error"),
        (413, "invalid_request_error", "request_too_large"),
        (429, "rate_limit_error", "rate_limit_error"),
        (500, "server_error", "api_error"),
        (502, "server_error", "api_error"),
        (503, "unavailable_error", "overloaded_error"),
        (504, "timeout_error", "timeout_error"),
        (529, "server_error", "overloaded_error"),
    ],
)
def test_each_status_has_its_type(status, openai, anthropic):
    trouble = Trouble(status, "code", "Text.")
    assert json.loads(body_of(trouble, "openai"))["error"]["type"] == openai
    assert json.loads(body_of(trouble, "anthropic"))["error"]["type"] == anthropic


def test_a_body_says_what_and_what_next():
    said = "There is no model gpt-4o. Ask /v1/models."
    for dialect in ("openai", "responses"):
        assert json.loads(body_of(REJECTED, dialect)) == {
            "error": {
                "message": said,
                "type": "not_found_error",
                "param": None,
                "code": "model_not_found",
            }
        }
    assert json.loads(body_of(REJECTED, "anthropic")) == {
        "type": "error",
        "error": {"type": "not_found_error", "message": said},
    }


def test_a_prompt_that_is_too_long_is_refused_as_clients_of_each_api_know_it():
    """llama-server's web UI looks for its names of the numbers, and clients of Anthropic's API for the words."""
    for dialect in ("openai", "responses"):
        error = json.loads(body_of(too_long(1290, 1024), dialect))["error"]
        assert error["code"] == "context_length_exceeded"
        assert error["type"] == "invalid_request_error"
        assert (error["n_prompt_tokens"], error["n_ctx"]) == (1290, 1024)
        assert "1290 tokens" in error["message"]
        assert "1024 tokens" in error["message"]
    assert json.loads(body_of(too_long(1290, 1024), "anthropic")) == {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": "prompt is too long: 1290 tokens > 1024 maximum",
        },
    }


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (TOO_LONG, too_long(1290, 1024)),
        (TOO_LONG.replace(b'":', b'": '), too_long(1290, 1024)),
        (TOO_LONG.replace(b"exceed_context_size_error", b"invalid_request_error"), None),
        (b'{"error":{"code":400,"message":"no","type":"exceed_context_size_error"}}', None),
        (b'{"error":{"message":"\\"type\\":\\"exceed_context_size_error\\" n_ctx"}}', None),
        (b"", None),
    ],
)
def test_the_engines_own_refusal_is_known_by_its_type_and_numbers(said, expected):
    assert too_long_in(said) == expected


def test_an_answer_is_whole():
    retry = ((b"retry-after", b"5"),)
    said = answer(
        Trouble(429, "full", "Too many."), "openai", version="1.1", keep_alive=True, extra_headers=retry
    )
    head, body = said.split(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 429 Too Many Requests",
        b"content-type: application/json",
        b"content-length: %d" % len(body),
        b"connection: keep-alive",
        b"retry-after: 5",
    ]
    assert json.loads(body)["error"]["code"] == "full"


def test_an_answer_to_head_has_the_length_and_no_body():
    arguments = {"version": "1.0", "keep_alive": False}
    whole = answer(REJECTED, "openai", **arguments)
    assert answer(REJECTED, "openai", **arguments, without_body=True) == whole[: whole.index(b"{")]
    assert whole.startswith(b"HTTP/1.0 404 Not Found\r\n")
    assert b"connection: close" in whole


def test_a_status_without_a_phrase_is_a_status_all_the_same():
    trouble = Trouble(529, "overloaded", "Later.")
    assert answer(trouble, "anthropic", version="1.1", keep_alive=True).startswith(b"HTTP/1.1 529 \r\n")


@given(st.text(), st.sampled_from(DIALECTS))
def test_no_message_breaks_the_shape(message, dialect):
    message = f"{message}\udcff\r\n\r\ndata: [DONE]"
    event = broken_event(message, dialect)
    assert event.startswith(b"\n\n")
    assert event.endswith(b"\n\n")
    lines = event.strip(b"\n").split(b"\n")
    assert len(lines) == (1 if dialect == "openai" else 2)
    assert b"\r" not in event
    data = json.loads(lines[-1].removeprefix(b"data: "))
    assert data["error"]["message"] == message.rstrip()


def test_a_comment_is_one_line():
    text = "loading\r\n\r\ndata: x\u2028\x85\x0b\x1c40 %"
    assert waiting_comment(text) == b": loading data: x 40 %\n\n"


def test_a_chunk_is_framed_and_nothing_is_no_chunk():
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert chunk(b"") == b""


def test_who_waited_in_vain_for_a_worker_is_told_which_and_when_to_come_again():
    server = SimpleNamespace(hold=None, why="waits for the worker mini2.local:50052: nobody listens there")
    trouble = why_refused(Refuse(Ticket(0.0), "late"), server, 1, 600.0)
    assert (trouble.status, trouble.code) == (503, "not_ready")
    assert trouble.message == (
        "No server was ready within 600 s: waits for the worker mini2.local:50052: nobody listens there."
    )
    assert trouble.retry_seconds
