"""An error in a stream is found, and in Anthropic's API put right, however the stream is cut into pieces."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.gateway.api.routes import Trouble, broken_event
from supervisor.gateway.api.stream_errors import AnthropicErrors, error_in
from supervisor.gateway.http_heads import chunk

# As b11434 sent them at ctx-size 512, to eight clients at once.
FULL = b'{"code":500,"message":"Context size has been exceeded.","type":"server_error"}'
ERROR = b"event: error\ndata: " + FULL + b"\n\n"
OPENAI_ERROR = b'data: {"error":' + FULL + b"}\n\n"
MENDED = b'{"type":"error","error":{"type":"api_error","message":"Context size has been exceeded."}}'
BEGUN = (
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":3}}}\n\n',
    b'event: content_block_delta\ndata: {"delta":{"text":"event: error\\ndata: {} 63\\r\\n"}}\n\n',
    b":\n\n",
)
END = b"0\r\n\r\n"


def as_sent(*events, is_chunked=True):
    return b"".join(map(chunk, events)) + END if is_chunked else b"".join(events)


def passed_on(pieces, *, is_chunked=True):
    errors = AnthropicErrors(is_chunked=is_chunked)
    *others, last = pieces
    return [*(errors.take(piece) for piece in others), errors.take(last, is_last=True)]


def events_in(data, *, is_chunked=True):
    """Decoded with the sizes of its chunks, which have to be right."""
    body = b""
    while is_chunked and data:
        size, _, data = data.partition(b"\r\n")
        body += data[: int(size, 16)]
        assert data[int(size, 16) :][:2] == b"\r\n"
        data = data[int(size, 16) + 2 :]
    return (body if is_chunked else data).split(b"\n\n")[:-1]


@pytest.mark.parametrize("is_chunked", [True, False])
@pytest.mark.parametrize("before", [(), BEGUN[:1], BEGUN])
def test_an_error_of_llama_server_gets_the_shape_of_the_api_wherever_it_is_cut(before, is_chunked):
    whole = as_sent(*before, ERROR, is_chunked=is_chunked)
    expected = [event.removesuffix(b"\n\n") for event in before] + [b"event: error\ndata: " + MENDED]
    for first in range(len(whole) + 1):
        for second in {first, min(first + 1, len(whole)), min(first + 7, len(whole)), len(whole)}:
            pieces = [whole[:first], whole[first:second], whole[second:]]
            got = b"".join(passed_on(pieces, is_chunked=is_chunked))
            assert events_in(got, is_chunked=is_chunked) == expected, pieces


def test_what_comes_behind_it_in_the_same_chunk_stays():
    got = b"".join(passed_on([as_sent(ERROR + BEGUN[0])]))
    assert events_in(got) == [b"event: error\ndata: " + MENDED, BEGUN[0].removesuffix(b"\n\n")]


@given(st.lists(st.sampled_from(BEGUN)), st.lists(st.integers(0, 400)), st.booleans(), st.booleans())
def test_however_many_pieces_there_are(before, cuts, is_chunked, fails):
    whole = as_sent(*before, *([ERROR] if fails else []), is_chunked=is_chunked)
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    pieces = [whole[one:other] for one, other in pairwise(places)] or [b""]
    got = b"".join(passed_on(pieces, is_chunked=is_chunked))
    assert got == whole if not fails else events_in(got, is_chunked=is_chunked)[-1].endswith(MENDED)


@given(
    st.lists(st.binary(max_size=30) | st.sampled_from([b"63\r\nevent: error\nda", b"\r\n", END]), min_size=1)
)
def test_nothing_else_is_changed_or_lost(pieces):
    whole = b"".join(pieces)
    if b"event: error\ndata: " not in whole:
        assert b"".join(passed_on(pieces)) == whole
        assert b"".join(passed_on(pieces, is_chunked=False)) == whole


def test_a_piece_that_ends_with_an_event_is_never_held_back():
    pieces = [chunk(event) for event in BEGUN] * 3
    assert passed_on([*pieces, END])[:-1] == pieces


@pytest.mark.parametrize(
    "data",
    [
        MENDED,
        b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}',
        b"[1]",
        b"no json",
        b"",
        b"[" * 100_000,
    ],
)
def test_what_has_the_shape_or_is_no_error_stays_as_it_is(data):
    whole = as_sent(b"event: error\ndata: " + data + b"\n\n")
    assert b"".join(passed_on([whole[:20], whole[20:]])) == whole


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (
            b'{"code":503,"message":"Loading model","type":"unavailable_error"}',
            "overloaded_error",
            "Loading model",
        ),
        (b'{"code":400,"message":"bad"}', "invalid_request_error", "bad"),
        (b'{"error":{"code":500,"message":"a"}}', "api_error", "a"),
        (b'{"error":"a"}', "api_error", "a"),
        (b'{"code":7,"message":"\\u00e9"}', "api_error", "é"),
        (b"{}", "api_error", "an error without a message"),
    ],
)
def test_each_status_has_its_type_there(data, kind, message):
    got = b"".join(passed_on([as_sent(b"event: error\ndata: " + data + b"\n\n")]))
    (event,) = events_in(got)
    assert json.loads(event.partition(b"data: ")[2]) == {
        "type": "error",
        "error": {"type": kind, "message": message},
    }


def test_an_event_without_end_is_not_kept_for_ever():
    endless = b"FFFFF\r\nevent: error\ndata: " + b"x" * 70_000
    assert b"".join(passed_on([endless, b"x", b"y"])) == endless + b"xy"


# --- found


@pytest.mark.parametrize("dialect", ["openai", "responses", "anthropic"])
@pytest.mark.parametrize("event", [ERROR, OPENAI_ERROR, b"event: error\ndata: " + MENDED + b"\n\n"])
def test_an_error_event_is_found_whoever_sent_it(event, dialect):
    assert error_in(as_sent(*BEGUN, event)) == "Context size has been exceeded."
    assert error_in(as_sent(event)) == "Context size has been exceeded."
    assert error_in(b"".join((*BEGUN, event))) == "Context size has been exceeded."
    assert error_in(event) == "Context size has been exceeded."
    assert error_in(chunk(broken_event("It died.", dialect))) == "It died."


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        as_sent(*BEGUN),
        as_sent(
            b'data: {"choices":[{"delta":{"content":"data: {\\"error\\":{}}"}}]}\n\n', b"data: [DONE]\n\n"
        ),
        as_sent(b'data: {"error":null,"choices":[]}\n\n'),
        as_sent(b'data: {"error":{"message"'),
        as_sent(b"event: error\n\n"),
        b'x data: {"error":{"message":"m"}}\n\n',
    ],
)
def test_where_there_is_none_none_is_found(tail):
    assert error_in(tail) == ""


@given(st.binary() | st.lists(st.sampled_from([ERROR, OPENAI_ERROR, b'"', b"}", b"{"])).map(b"".join))
def test_whatever_comes_is_no_error_of_ours(tail):
    assert isinstance(error_in(re.sub(rb"500", b"-1", tail)), str)
    assert Trouble(500, "", error_in(tail)).text == error_in(tail).rstrip()
