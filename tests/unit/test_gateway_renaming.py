"""Another name of the model in JSON that comes in pieces: nothing else changes, and nothing is lost."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.gateway.api.body import needs_rewrite, rewrite
from supervisor.gateway.api.routes import route_of
from supervisor.gateway.relay.answer import ModelName, Renamer
from supervisor.plan.launch import Parameters

NAME = ModelName("/models/tïny", "small")
CHAT = route_of("POST", "/v1/chat/completions")
GIVEN = Parameters(upstream_model="/models/tiny", public_model="small")


def renamed(*pieces, name=NAME):
    renamer = Renamer(name)
    return b"".join([*map(renamer.feed, pieces), renamer.end()])


def text(value, **more):
    return json.dumps(value, **more).encode()


@pytest.mark.parametrize(
    "said",
    [
        text({"model": NAME.upstream}),
        text({"model": NAME.upstream}, ensure_ascii=False),
        text({"model": NAME.upstream}, separators=(",", ":")),
        text({"model": NAME.upstream}).replace(b"/", b"\\/"),
        text({"model": f"{NAME.upstream}@main"}),  # transformers serve, of a model of the hub
    ],
)
def test_however_it_is_written(said):
    assert json.loads(renamed(said)) == {"model": "small"}


@pytest.mark.parametrize(
    "said",
    [
        text({"model": "another"}),
        text({"model": None, "models": [NAME.upstream]}),
        text({"content": text({"model": NAME.upstream}).decode()}),  # the model writes JSON
        b'"model":',
        b'{"model": "/models',
        b"",
    ],
)
def test_nothing_else_is_touched(said):
    assert renamed(said) == said


@given(
    st.lists(
        st.sampled_from(
            [text({"model": NAME.upstream}), b'"model"', b"model", b'"m', b"data: x\n\n", b'": "']
        )
    ),
    st.lists(st.integers(0, 200)),
)
def test_where_it_is_cut_makes_no_difference(parts, cuts):
    whole = b"".join(parts)
    places = sorted({min(cut, len(whole)) for cut in cuts} | {0, len(whole)})
    pieces = [whole[start:end] for start, end in itertools.pairwise(places)]
    assert renamed(*pieces) == renamed(whole)


def test_a_whole_event_is_never_kept_back():
    event = b'data: {"model": "/models/t\xc3\xafny", "choices": []}\n\n'
    assert Renamer(NAME).feed(event).endswith(b"\n\n")


@pytest.mark.parametrize("body", [b"{}", b'{"model":"x","a":[1]}', b'{"a":1,"mod\\u0065l":"x"}'])
def test_every_request_names_the_engines_model(body):
    assert needs_rewrite(body, GIVEN, None, CHAT)
    assert json.loads(rewrite(body, GIVEN, None, CHAT)) == {**json.loads(body), "model": "/models/tiny"}


def test_counting_tokens_does_as_well():
    assert needs_rewrite(b"{}", GIVEN, None, route_of("POST", "/v1/messages/count_tokens"))


def test_a_form_names_it_in_its_field_and_nowhere_else():
    head = b'--X\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
    body = head % b"prompt" + b"the model is whisper-1\r\n" + head % b"model" + b"whisper-1\r\n--X--\r\n"
    route, kind = route_of("POST", "/v1/audio/transcriptions"), b"multipart/form-data; boundary=X"
    assert needs_rewrite(body, GIVEN, None, route)
    form = rewrite(body, GIVEN, None, route, kind)
    assert form == body.replace(b"\r\nwhisper-1\r\n", b"\r\n/models/tiny\r\n")


def test_a_body_that_is_neither_passes_as_it_is():
    for kind in (None, b"audio/wav", b"multipart/form-data; boundary=X"):
        assert rewrite(b"RIFF....model", GIVEN, None, CHAT, kind) == b"RIFF....model"
