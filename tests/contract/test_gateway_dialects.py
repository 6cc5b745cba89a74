"""The real packages of OpenAI and Anthropic understand what we say: the right exception, with our words in it."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager

import anthropic
import openai
import pytest

from supervisor.gateway.api.routes import Trouble, answer, broken_event, waiting_comment
from supervisor.gateway.http_heads import chunk

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHAT_EVENT = (
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}\n\n'
)
COMPLETION_EVENT = (
    b'data: {"id":"1","object":"text_completion","created":1,"model":"m",'
    b'"choices":[{"index":0,"text":"Hel","logprobs":null,"finish_reason":null}]}\n\n'
)
RESPONSES_EVENT = (
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":1,'
    b'"item_id":"i","output_index":0,"content_index":0,"delta":"Hel","logprobs":[]}\n\n'
)
MESSAGES_EVENT = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"Hel"}}\n\n'
)
HELLO = [{"role": "user", "content": "hi"}]
LOST = "The server died in the middle of the answer."


@contextmanager
def serving(said: bytes):
    """A server that answers one request with these bytes and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        thread = threading.Thread(target=_answer_one, args=(listener, said))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            thread.join(20)


def _answer_one(listener, said):
    client, _ = listener.accept()
    with client:
        client.settimeout(20)
        data = b""
        while b"\r\n\r\n" not in data:
            data += client.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        while len(body) < length:
            body += client.recv(65536)
        client.sendall(said)


@contextmanager
def openai_client(said):
    with (
        serving(said) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0, timeout=20) as client,
    ):
        yield client


@contextmanager
def anthropic_client(said):
    with (
        serving(said) as url,
        anthropic.Anthropic(base_url=url, api_key="k", max_retries=0, timeout=20) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (413, openai.APIStatusError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
def test_openais_package_raises_what_the_status_means_and_shows_why(status, error):
    said = answer(
        Trouble(status, "our_code", "What is wrong.", "What next."), "openai", version="1.1", keep_alive=False
    )
    with openai_client(said) as client, pytest.raises(error) as raised:
        client.chat.completions.create(model="m", messages=HELLO)
    assert raised.value.status_code == status
    assert raised.value.code == "our_code"
    assert "What is wrong. What next." in str(raised.value)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
        (403, anthropic.PermissionDeniedError, "permission_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (413, anthropic.APIStatusError, "request_too_large"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (503, anthropic.APIStatusError, "overloaded_error"),
        (504, anthropic.APIStatusError, "timeout_error"),
    ],
)
def test_anthropics_package_does_so_too(status, error, kind):
    said = answer(
        Trouble(status, "c", "What is wrong.", "What next."), "anthropic", version="1.1", keep_alive=False
    )
    with anthropic_client(said) as client, pytest.raises(error) as raised:
        client.messages.create(model="m", max_tokens=1, messages=HELLO)
    assert raised.value.status_code == status
    assert "What is wrong. What next." in str(raised.value)
    assert raised.value.body["error"]["type"] == kind


def broken(dialect, event):
    """A stream that waited, began and broke: no last chunk, as a real one has none."""
    pieces = (waiting_comment("loading 40 %"), event, broken_event(LOST, dialect))
    return STREAM + b"".join(map(chunk, pieces))


def test_a_chat_that_breaks_raises_in_openais_package():
    with (
        openai_client(broken("openai", CHAT_EVENT)) as client,
        client.chat.completions.create(model="m", messages=HELLO, stream=True) as stream,
    ):
        assert next(stream).choices[0].delta.content == "Hel"
        with pytest.raises(openai.APIError, match=LOST):
            next(stream)


def test_a_completion_that_breaks_raises_there_too():
    with (
        openai_client(broken("openai", COMPLETION_EVENT)) as client,
        client.completions.create(model="m", prompt="hi", stream=True) as stream,
    ):
        assert next(stream).choices[0].text == "Hel"
        with pytest.raises(openai.APIError, match=LOST):
            next(stream)


def test_a_response_that_breaks_raises_there_too():
    with (
        openai_client(broken("responses", RESPONSES_EVENT)) as client,
        client.responses.create(model="m", input="hi", stream=True) as stream,
    ):
        assert next(stream).delta == "Hel"
        with pytest.raises(openai.APIError, match=LOST):
            next(stream)


def test_messages_that_break_raise_in_anthropics_package():
    with (
        anthropic_client(broken("anthropic", MESSAGES_EVENT)) as client,
        client.messages.create(model="m", max_tokens=1, messages=HELLO, stream=True) as stream,
    ):
        assert next(stream).delta.text == "Hel"
        with pytest.raises(anthropic.APIError, match=LOST):
            next(stream)


@pytest.mark.parametrize("cut", [1, 40, len(CHAT_EVENT) - 2, len(CHAT_EVENT) - 1])
def test_a_stream_that_was_cut_within_an_event_never_ends_well(cut):
    said = broken("openai", CHAT_EVENT[:cut])
    with (
        openai_client(said) as client,
        client.chat.completions.create(model="m", messages=HELLO, stream=True) as stream,
        pytest.raises((openai.APIError, ValueError)),
    ):
        for _ in stream:
            pass
