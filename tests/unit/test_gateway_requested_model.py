"""The model that a request names: in a JSON object, or in a form as audio is sent."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from urllib3.filepost import encode_multipart_formdata

from supervisor.gateway.api.body import requested_model

AUDIO = ("a.wav", b"RIFF\r\n--\r\n" + bytes(range(256)) * 9, "audio/wav")
FORM = b"multipart/form-data; boundary=x"


def asked(fields, boundary=None):
    body, kind = encode_multipart_formdata(fields, boundary)
    return requested_model(body, kind.encode())


def part(head, value=b"whisper", boundary=b"x"):
    return b"--" + boundary + b"\r\n" + head + b"\r\n\r\n" + value + b"\r\n"


NAMED = b'Content-Disposition: form-data; name="model"'
END = b"--x--\r\n"


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model": "a"}', "a"),
        (b' \n{"x": 1, "model": "b:high"}', "b:high"),
        (b'{"model": 1}', ""),
        (b"", ""),
    ],
)
def test_a_json_object_says_it_whatever_its_content_type(body, model):
    for kind in (None, b"application/json", b"text/plain", FORM):
        assert requested_model(body, kind) == model


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200).map(str.strip),
    st.permutations(["model", "file", "language"]),
    st.sampled_from([None, "x", "----WebKitFormBoundary7MA4YWxk", "a'()+_,-./:=? b"[:13]]),
)
def test_a_form_says_it_wherever_the_file_is(model, order, boundary):
    fields = {"model": model, "file": AUDIO, "language": "en"}
    assert asked({name: fields[name] for name in order}, boundary) == model


@pytest.mark.parametrize(
    "kind",
    [
        b"multipart/form-data; boundary=x",
        b'Multipart/Form-Data; charset=utf-8; boundary="x"; more=1',
        b"multipart/form-data;boundary=x;charset=utf-8",
    ],
)
@pytest.mark.parametrize(
    "head",
    [
        NAMED,
        b"Content-Type: text/plain\r\n" + NAMED + b"\r\nX-More: 1",
        b"content-disposition:form-data;name=model",
        b'CONTENT-DISPOSITION: form-data; charset=x; name="model"',
    ],
)
def test_clients_write_it_in_several_ways(kind, head):
    assert requested_model(part(head) + END, kind) == "whisper"
    assert requested_model(b"preamble\r\n" + part(head) + END, kind) == "whisper"


@pytest.mark.parametrize(
    "body",
    [
        part(NAMED + b'; filename="model.txt"') + END,
        part(b'Content-Disposition: form-data; name="a"; filename="; name=model"') + END,
        part(b'Content-Disposition: attachment; name="model"') + END,
        part(b'X: form-data; name="model"') + END,
        part(b"", NAMED) + END,
        part(NAMED, b"w" * 2000) + END,
        part(NAMED + b" " * 5000) + END,
        part(b'Content-Disposition: form-data; name="a"') * 64 + part(NAMED) + END,
        part(NAMED),  # has no end
        part(NAMED, boundary=b"y") + END,
        b"--x",
        b"--x\r\n",
        b"--x--\r\n" + NAMED,
        b"\r\n--x\r\n" + NAMED,
        NAMED + b"\r\n\r\nwhisper",
    ],
)
def test_what_does_not_say_it_rightly_says_nothing(body):
    assert requested_model(body, FORM) == ""


@pytest.mark.parametrize(
    "kind",
    [None, b"", b"multipart/form-data", b"multipart/form-data; boundary=", b"multipart/mixed; boundary=x"],
)
def test_without_a_boundary_there_is_no_form(kind):
    assert requested_model(part(NAMED) + END, kind) == ""


_PIECES = st.sampled_from(
    [b"--x", b"--", b"\r\n", b"\n", NAMED, b"; filename=", b"model", b'"', b"\xff", b"Content-Disposition:"]
)


@given(st.lists(_PIECES, max_size=30).map(b"".join) | st.binary())
@example(b"--x\r\n" + NAMED + b"\r\n\r\n\r\n--x")
def test_nothing_that_is_sent_is_an_error(body):
    assert len(requested_model(body, FORM)) <= len(body)


def test_a_large_upload_is_passed_over_quickly():
    body = part(b'Content-Disposition: form-data; name="file"; filename="a"', b"\r\n-" * 20_000_000)
    began = time.process_time()
    assert requested_model(body + part(NAMED) + END, FORM) == "whisper"
    assert time.process_time() - began < 2
