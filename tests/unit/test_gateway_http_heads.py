"""What a request's head may be, what its body is, and that nothing of it is passed on as it came."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis.strategies import binary, composite, integers, lists, sampled_from, text

from supervisor.gateway.http_heads import BadRequest, parse_head, upstream_head
from supervisor.gateway.relay.chunked import ChunkedBody
from supervisor.server.probe_target import ProbeTarget

TARGET = ProbeTarget("/run/x.sock", 0, unix=True)


def head(*lines, first=b"POST /v1/x?y=1 HTTP/1.1"):
    return b"\r\n".join([first, b"Host: a", *lines]) + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (head(b"Content-Length: 5", b"Transfer-Encoding: chunked"), 400),
        (head(b"Transfer-Encoding: chunked", b"Content-Length: 5"), 400),
        (head(b"Content-Length: 5", b"Content-Length: 5"), 400),
        (head(b"Content-Length: 5", b"Content-Length: 6"), 400),
        (head(b"Content-Length: 5, 5"), 400),
        (head(b"Content-Length: +5"), 400),
        (head(b"Content-Length: -1"), 400),
        (head(b"Content-Length: 0x5"), 400),
        (head(b"Content-Length: 99999999999999999999999"), 400),
        (head(b"Content-Length : 5"), 400),
        (head(b"Transfer-Encoding : chunked"), 400),
        (head(b"Transfer-Encoding: xchunked"), 400),
        (head(b"Transfer-Encoding: chunked, identity"), 400),
        (head(b"Transfer-Encoding: gzip, chunked"), 501),
        (head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
        (head(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0"), 400),
        (head(b"X: a", b" folded"), 400),
        (head(b"X\0: a"), 400),
        (head(b"X: a\0b"), 400),
        (head(b"Host: b"), 400),
        (head(b"Authorization: Bearer a", b"Authorization: Bearer b"), 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 505),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\n", 400),
        (b"GET http://other/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
    ],
)
def test_what_two_readers_could_take_differently_is_refused(data, status):
    with pytest.raises(BadRequest) as refused:
        parse_head(data)
    assert refused.value.status == status


def test_a_head_is_what_it_says():
    found = parse_head(head(b"Content-Length: 5", b"X-A:  b ", b"Expect: 100-Continue"))
    assert (found.method, found.target, found.path, found.version) == ("POST", b"/v1/x?y=1", "/v1/x", "1.1")
    assert found.headers == (
        (b"host", b"a"),
        (b"content-length", b"5"),
        (b"x-a", b"b"),
        (b"expect", b"100-Continue"),
    )
    assert (found.length, found.keep_alive, found.expects_continue) == (5, True, True)
    assert parse_head(head(b"Connection: close")).keep_alive is False
    assert parse_head(head(b"Transfer-Encoding: chunked")).length is None
    assert parse_head(b"GET / HTTP/1.0\r\n\r\n").keep_alive is False


def test_an_offered_upgrade_is_not_taken_and_no_reason_to_refuse():
    found = parse_head(head(b"Connection: upgrade, HTTP2-Settings", b"Upgrade: h2c", b"Content-Length: 2"))
    assert b"upgrade" not in upstream_head(found, length=2, target=TARGET)


def test_what_goes_on_is_written_anew_with_our_key_and_a_length_that_is_right():
    came = head(
        b"Authorization: Bearer theirs",
        b"X-Api-Key: theirs",
        b"Connection: close, X-Secret",
        b"X-Secret: 1",
        b"Accept: */*",
        b"Expect: 100-continue",
        b"Transfer-Encoding: chunked",
    )
    target = ProbeTarget("127.0.0.1", 9, host_header="127.0.0.1:9", headers={"Authorization": "Bearer ours"})
    assert upstream_head(parse_head(came), length=12, target=target) == (
        b"POST /v1/x?y=1 HTTP/1.1\r\naccept: */*\r\nhost: 127.0.0.1:9\r\n"
        b"Authorization: Bearer ours\r\ncontent-length: 12\r\n\r\n"
    )


def verdict(data):
    """200, or the status that it is refused with."""
    try:
        parse_head(data)
    except BadRequest as bad:
        return bad.status
    return 200


@given(binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(data):
    assert verdict(data + b"\r\n\r\n") in {200, 400, 501, 505}


_NAMES = sampled_from([b"Accept", b"X-A", b"Content-Type", b"Cookie", b"Connection", b"User-Agent", b"TE"])
_VALUES = text("abcABC019 ,;=/\t\"'%", max_size=20).map(str.encode)


@given(lists(_NAMES, max_size=8), lists(_VALUES, min_size=8, max_size=8), integers(0, 10**6))
def test_what_goes_on_can_be_read_as_one_request_with_that_length(names, values, length):
    lines = [name + b": " + value for name, value in zip(names, values, strict=False)]
    try:
        came = parse_head(head(*lines, b"Content-Length: %d" % length))
    except BadRequest:
        return
    again = parse_head(upstream_head(came, length=length, target=TARGET))
    assert again.length == length
    assert (again.method, again.target) == (came.method, came.target)


# --- bodies in chunks


@composite
def chunked_bodies(draw):
    pieces = draw(lists(binary(min_size=1, max_size=40), max_size=6))
    extension = draw(sampled_from([b"", b";a=b", b' ; q="x"']))
    trailer = draw(sampled_from([b"", b"X-T: 1\r\n"]))
    framed = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces)
    return b"".join(pieces), framed + b"0\r\n" + trailer + b"\r\n"


@given(chunked_bodies(), binary(max_size=20), lists(integers(0, 400), max_size=8))
def test_any_split_of_a_chunked_body_gives_the_same_body_and_rest(body, rest, cuts):
    whole, framed = body
    data = framed + rest
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    taken = ChunkedBody(10_000)
    after = b""
    for start, end in pairwise(places):
        if taken.done:
            after += data[start:end]
        else:
            taken.feed(data[start:end])
    assert taken.done
    assert bytes(taken.body) == whole
    assert taken.rest + after == rest


@pytest.mark.parametrize(
    "data",
    [
        b"0x5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"-5\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"\r\n",
        b"g\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloX\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"5" * 300,
        b"5;" + b"a" * 300,
        b"5;a\nb\r\nhello\r\n",
    ],
)
def test_a_chunk_that_two_readers_could_take_differently_is_refused(data):
    with pytest.raises(BadRequest) as refused:
        ChunkedBody(10_000).feed(data)
    assert refused.value.status in {400, 413}


def test_a_chunked_body_that_is_too_long_is_refused_by_its_size_line():
    with pytest.raises(BadRequest) as refused:
        ChunkedBody(10).feed(b"5\r\nhello\r\n6\r\n")
    assert refused.value.status == 413


def test_trailers_without_an_end_are_refused():
    taken = ChunkedBody(10)
    with pytest.raises(BadRequest) as refused:
        taken.feed(b"0\r\n" + b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 300)
    assert refused.value.status == 431


def test_a_body_of_countless_tiny_chunks_is_refused():
    with pytest.raises(BadRequest) as refused:
        ChunkedBody(10_000_000).feed(b"1\r\nx\r\n" * 5000)
    assert "tiny" in refused.value.message
