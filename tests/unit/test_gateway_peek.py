"""The top level of a body is found without parsing what lies below it."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisor.gateway.api.body import is_streaming, members, text_of, top_level

_KEYS = st.sampled_from(["model", "stream", "messages", 'say "model', "a\\", "model\\", "é", ""])
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.sampled_from(['"model":1', 'x"model": {', "\\", '\\"', "}]", "model"]),
)
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner) | st.dictionaries(_KEYS | st.text(), inner), max_leaves=20
)
_OBJECTS = st.dictionaries(_KEYS, _VALUES)
_PIECES = st.sampled_from([*'{}[]":,\\ 1xn', '"model"', '"model":', "\\u0065", '\\"', "true", "\n"])


@given(_OBJECTS, st.booleans(), st.sampled_from([None, 1]))
def test_it_finds_what_a_parser_finds(document, ascii_only, indent):
    body = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    found = members(body)
    assert found is not None
    assert [json.loads(body[where]) for where in found.values()] == list(document.values())
    for name in ("model", "stream", "absent"):
        value = top_level(body, name.encode())
        assert (value is None) == (name not in document)
        assert value is None or json.loads(value) == document[name]


@given(st.one_of(st.binary(), st.lists(_PIECES).map("".join).map(str.encode)))
@example(b'{"model"')
@example(b'{"model":')
@example(b'{"model":"')
@example(b'{"model":"\\')
@example(b'"model":1')
@example(b"{")
@example(b"")
def test_nothing_that_is_sent_is_an_error_here(body):
    """And what is found lies within it."""
    places = (members(body) or {}).values()
    assert all(0 <= place.start <= place.stop <= len(body) for place in places)
    assert (top_level(body, b"model") or b"") in body
    assert is_streaming(body) == (top_level(body, b"stream") == b"true")
    assert len(text_of(body) or "") <= len(body)


@given(st.lists(_PIECES, max_size=12).map("".join))
def test_both_ways_agree_where_a_parser_finds_an_object(body):
    try:
        document = json.loads(body)
    except ValueError:
        return
    found = members(body.encode())
    if not isinstance(document, dict):
        assert found is None
        return
    value = (found or {}).get(b"model")
    assert top_level(body.encode(), b"model") == (None if value is None else body.encode()[value])


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"model":"a","model":"b"}', b'"b"'),  # as nlohmann's parser takes it
        (b'{"model":"a","x":{"model":"b"}}', b'"a"'),
        (b'{"x":{"model":"b"},"model":"a"}', b'"a"'),
        (b'{"x":[{"model":"b"}]}', None),
        (b'[{"model":"b"}]', None),
        (b'{"say \\"model":"b"}', None),
        (b'{"x":"\\"model\\":1"}', None),
        (b'{"x":"\\\\","model":"a"}', b'"a"'),
        (b'{"x":"\\\\\\"}","model":"a"}', b'"a"'),
        (b'{"x":"model","y":"model"}', None),
        (b'\xef\xbb\xbf { "model" \n:\t"a" } ', b'"a"'),
        (b'{"model":{"a":[1,{"b":"}"}]}}', b'{"a":[1,{"b":"}"}]}'),
        (b'{"model":"q\\"}"}', b'"q\\"}"'),
        (b'{"mod\\u0065l":"a"}', None),  # another key here: see the module
        (b'{"model":-0.0}', b"-0.0"),
    ],
)
def test_the_key_at_the_top_is_the_one(body, value):
    assert top_level(body, b"model") == value
    where = (members(body) or {}).get(b"model")
    assert (None if where is None else body[where]) == value


def test_one_key_in_many_places_is_found_all_the_same():
    inner = ",".join('{"model":1}' for _ in range(100))
    assert top_level(f'{{"model":"a","x":[{inner}]}}'.encode(), b"model") == b'"a"'
    assert top_level(f'{{"x":[{inner}]}}'.encode(), b"model") is None


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"a":1,}', b'{"a":1} x', b'{"a":1}{', b"[]", b"null", b'{"a":[}', b"{,}", b'{"a" 1}'],
)
def test_what_is_no_object_has_no_members(body):
    assert members(body) is None


def test_an_empty_object_has_none_too():
    assert members(b" { } ") == {}


@pytest.mark.parametrize("piece", [b"[", b'{"a":', b'"', b'\\"', b'"model":', b'"model":{', b"[]"])
def test_a_body_made_to_be_slow_is_read_in_steps_not_squares(piece):
    """A quadratic way would take minutes for these."""
    body = b'{"model":' + piece * 200_000
    assert members(body) is None or list(members(body)) == [b"model"]
    assert (top_level(body, b"model") or b"") in body


def test_streaming_is_asked_for_with_true_alone():
    assert is_streaming(b'{"stream": true}')
    for body in (b'{"stream": false}', b'{"stream": "true"}', b"{}", b'{"x":{"stream":true}}'):
        assert not is_streaming(body)


def test_the_text_of_a_value():
    assert text_of(b'"a\\u0065"') == "ae"
    for value in (None, b"1", b"null", b'"\xff"', b'"', b'"a" b'):
        assert text_of(value) is None
