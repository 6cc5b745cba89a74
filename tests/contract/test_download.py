"""Downloads from a host on loopback that plays along, or does not."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest

from supervisor.download import at_once
from supervisor.download import fetch as fetch_module
from supervisor.download.fetch import Download, fetch
from supervisor.download.network import RetryPolicy
from supervisor.errors import NetworkError, PermissionDenied, SupervisorError, VerificationFailed
from supervisor.progress import Silent
from tests.fakes.web import (
    CHUNK,
    PATIENCE,
    Fault,
    Reply,
    Request,
    SocksProxy,
    Web,
    both,
    corrupt,
    cut,
    file,
    hang,
    held,
    honest,
    redirect,
    slow,
    status,
    told_length,
    unused_port,
    without,
)

BODY = random.Random(3).randbytes(300_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
MODIFIED = "Wed, 21 Oct 2026 07:28:00 GMT"
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")


@dataclass
class Heard(Silent):
    steps: list[str] = field(default_factory=list)
    updates: list[tuple[float | None, str]] = field(default_factory=list)
    first: threading.Event = field(default_factory=threading.Event)

    def step(self, text: str) -> None:
        self.steps.append(text)
        self.first.set()

    def update(self, fraction: float | None, detail: str = "") -> None:
        self.updates.append((fraction, detail))


@dataclass
class Bench:
    """One host with one file, and where it goes to; pauses are noted and not made."""

    web: Web
    target: Path
    heard: Heard = field(default_factory=Heard)
    slept: list[float] = field(default_factory=list)

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def ranges(self) -> list[str | None]:
        return [request.headers.get("range") for request in self.web.requests]

    def item(self, **more: object) -> Download:
        return replace(Download(self.web.url("/a.zip"), len(BODY), SHA256, "a.zip"), **more)

    def fetch(self, item: Download | None = None, *, proxy: str | None = None, stall: float = 20.0) -> bytes:
        retry = RetryPolicy(connect_seconds=5.0, stall_seconds=stall, sleep=self.slept.append)
        fetch(item or self.item(), self.target, self.heard, proxy=proxy, retry=retry)
        assert not self.part.exists()
        assert sorted(each.name for each in self.target.parent.iterdir()) == ["a.zip", "a.zip.lock"]
        return self.target.read_bytes()

    def start(self, after: int, *faults: Fault) -> None:
        """Leave a part of so many bytes behind, as a killed program does."""
        refused = status(403)
        self.web.fault("/a.zip", both(cut(after), *faults), refused)
        with pytest.raises(NetworkError):
            self.fetch()
        assert self.part.stat().st_size == after
        self.web.requests.clear()
        self.heard, self.slept = Heard(), []


@pytest.fixture
def bench(tmp_path, monkeypatch):
    certificates = ("ssl_cert_file", "ssl_cert_dir", "requests_ca_bundle", "curl_ca_bundle")
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", *certificates):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with Web() as web:
        web.serve("/a.zip", file(BODY, last_modified=MODIFIED))
        yield Bench(web, tmp_path / "new" / "a.zip")


# When all goes well


def test_a_file_arrives_whole_and_says_how_far_it_is(bench: Bench) -> None:
    assert bench.fetch() == BODY
    assert bench.heard.steps == ["downloading a.zip from 127.0.0.1"]
    fractions = [fraction for fraction, detail in bench.heard.updates if "verifying" not in detail]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert any(detail.startswith("0.3 of 0.3 MB, ") for _, detail in bench.heard.updates)


def test_what_is_there_is_not_asked_for(bench: Bench) -> None:
    bench.fetch()
    bench.web.requests.clear()
    assert bench.fetch() == BODY
    assert bench.web.requests == []


def test_what_is_there_with_another_size_is_replaced(bench: Bench) -> None:
    bench.target.parent.mkdir()
    bench.target.write_bytes(b"an older one")
    assert bench.fetch() == BODY


def test_a_size_that_nobody_knows_is_no_hindrance(bench: Bench) -> None:
    bench.web.fault("/a.zip", told_length(-1))
    assert bench.fetch(bench.item(size_bytes=None)) == BODY
    assert all(fraction is None for fraction, detail in bench.heard.updates if "MB/s" in detail)


def test_without_a_published_digest_the_size_has_to_do(bench: Bench) -> None:
    assert bench.fetch(bench.item(sha256="")) == BODY


def test_nothing_is_asked_for_compressed_and_no_credentials_are_sent(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with Web() as other:
        bench.web.serve("/moved", redirect(other.serve("/b", file(BODY)).replace("127.0.0.1", "localhost")))
        url = bench.web.url("/moved").replace("http://", "http://user:secret@")
        assert bench.fetch(bench.item(url=url)) == BODY
        asked = [*bench.web.requests, *other.requests]
    assert len(asked) == 2
    for request in asked:
        assert "authorization" not in request.headers
        assert request.headers["accept-encoding"] == "identity"


# What is continued, and what is begun anew


def test_a_download_goes_on_where_it_stopped(bench: Bench) -> None:
    bench.start(100_000)
    assert bench.fetch() == BODY
    (request,) = bench.web.requests
    assert request.headers["range"] == "bytes=100000-"
    assert request.headers["if-range"].startswith('"')
    first = next(fraction for fraction, _ in bench.heard.updates if fraction)
    assert first > 100_000 / len(BODY)


def test_a_part_that_is_whole_is_only_verified(bench: Bench) -> None:
    bench.start(100_000)
    bench.part.write_bytes(BODY)
    assert bench.fetch() == BODY
    assert bench.web.requests == []


def test_with_a_weak_etag_the_date_is_what_is_compared(bench: Bench) -> None:
    bench.web.serve("/a.zip", file(BODY, etag='W/"1"', last_modified=MODIFIED))
    bench.start(100_000)
    assert bench.fetch() == BODY
    assert bench.web.requests[0].headers["if-range"] == MODIFIED


def test_without_anything_to_compare_it_begins_anew(bench: Bench) -> None:
    bench.web.serve("/a.zip", file(BODY, etag='W/"1"'))
    bench.start(100_000)
    assert bench.fetch() == BODY
    assert bench.ranges == [None]


def test_a_file_that_changed_meanwhile_begins_anew(bench: Bench) -> None:
    bench.web.serve("/a.zip", file(bytes(300_000), etag='"old"'))
    bench.start(100_000)
    bench.web.serve("/a.zip", file(BODY, etag='"new"'))
    assert bench.fetch() == BODY
    assert bench.ranges == ["bytes=100000-"]


def test_a_host_that_knows_no_ranges_begins_anew(bench: Bench) -> None:
    bench.start(100_000)
    bench.web.serve("/a.zip", file(BODY, ranges=False))
    assert bench.fetch() == BODY
    assert bench.ranges == ["bytes=100000-"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 5-299999/300000"},
        {"Content-Range": "bytes 100000-299999/300001"},
        {"Content-Range": "bytes */300000"},
        {},
        {"Content-Range": "bytes 100000-299999/300000", "ETag": '"another"'},
    ],
)
def test_a_part_of_something_else_is_not_taken(bench: Bench, headers: dict[str, str]) -> None:
    bench.start(100_000)
    bench.web.fault("/a.zip", lambda _: Reply(206, headers, bytes(200_000)))
    assert bench.fetch() == BODY
    assert bench.ranges == ["bytes=100000-", None]


def test_a_part_that_is_longer_than_the_file_begins_anew(bench: Bench) -> None:
    bench.start(100_000)
    bench.part.write_bytes(BODY + b"more")
    assert bench.fetch() == BODY
    assert bench.ranges == ["bytes=300004-", None]


@pytest.mark.parametrize("note", ["", "{}", "[]", '{"url": 1}', None])
def test_a_part_without_a_note_that_can_be_read_begins_anew(bench: Bench, note: str | None) -> None:
    bench.start(100_000)
    path = bench.part.with_name("a.zip.part.json")
    if note is None:
        path.unlink()
    else:
        path.write_text(note)
    assert bench.fetch() == BODY
    assert bench.ranges == [None]


def test_a_part_of_another_file_begins_anew(bench: Bench) -> None:
    bench.start(100_000)
    bench.web.serve("/b.zip", file(BODY))
    assert bench.fetch(bench.item(url=bench.web.url("/b.zip"))) == BODY
    assert bench.ranges == [None]


# What is tried again


@pytest.mark.parametrize(
    "fault",
    [
        cut(1000),
        cut(0),
        both(told_length(-1), cut(1000)),
        status(500),
        status(503),
        status(408),
        status(429),
        hang(1000),
    ],
)
def test_what_may_pass_is_tried_again(bench: Bench, fault: Fault) -> None:
    bench.web.fault("/a.zip", fault)
    assert bench.fetch(stall=0.5) == BODY
    assert bench.slept == [1.0]
    assert len(bench.web.requests) == 2


def test_a_download_that_stands_still_is_asked_for_from_there(bench: Bench) -> None:
    bench.web.fault("/a.zip", hang(70_000), hang(50_000))
    assert bench.fetch(stall=0.5) == BODY
    assert bench.ranges == [None, "bytes=70000-", "bytes=120000-"]
    assert any(
        "nothing came from 127.0.0.1 for 0.5 s; trying again in 1 s" in d for _, d in bench.heard.updates
    )


def test_a_slow_download_is_not_a_stalled_one(bench: Bench) -> None:
    bench.web.fault("/a.zip", slow(250_000))
    assert bench.fetch(stall=1.0) == BODY
    assert len(bench.web.requests) == 1


def test_pauses_double_and_an_end_comes(bench: Bench) -> None:
    bench.web.fault("/a.zip", *[status(503, {}, b"no\nreally") for _ in range(9)])
    with pytest.raises(NetworkError, match=r"a.zip cannot be downloaded: 127.0.0.1 answered 503 .*: no.$"):
        bench.fetch()
    assert bench.slept == [1.0, 2.0, 4.0, 8.0]
    assert len(bench.web.requests) == 5


def test_tries_that_bring_something_are_not_counted(bench: Bench) -> None:
    body = random.Random(4).randbytes(9 << 20)
    bench.web.serve("/a.zip", file(body))
    bench.web.fault("/a.zip", *[cut(5 << 18) for _ in range(7)])
    big = bench.item(size_bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
    assert bench.fetch(big) == body
    assert bench.slept == [1.0] * 7


def test_tries_that_bring_the_same_again_and_again_are_counted(bench: Bench) -> None:
    body = bytes(2 << 20)
    bench.web.serve("/a.zip", file(body, etag=None))
    bench.web.fault("/a.zip", *[cut((2 << 20) - 1) for _ in range(20)])
    with pytest.raises(NetworkError, match="broke the connection off"):
        bench.fetch(bench.item(size_bytes=len(body)))
    assert len(bench.web.requests) == 5


def test_retry_after_is_honoured(bench: Bench) -> None:
    bench.web.fault("/a.zip", status(429, {"Retry-After": "7"}), status(503, {"Retry-After": "0"}))
    assert bench.fetch() == BODY
    assert bench.slept == [7.0, 2.0]


def test_a_host_that_wants_to_be_left_alone_for_long_is(bench: Bench) -> None:
    bench.web.fault("/a.zip", status(503, {"Retry-After": "86400"}))
    with pytest.raises(NetworkError, match="asks not to come back for 86400 s"):
        bench.fetch()
    assert bench.slept == []


def test_a_date_in_retry_after_is_read(bench: Bench) -> None:
    bench.web.fault("/a.zip", status(503, {"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}))
    with pytest.raises(NetworkError, match="asks not to come back for"):
        bench.fetch()


@pytest.mark.parametrize(
    ("code", "body", "said"),
    [
        (404, b"", "answered 404 Not Found."),
        (403, b"<html><head><title>Access\n denied</title>", "answered 403 Forbidden: Access."),
        (401, b"\n\n  Log in first. \nmore", "answered 401 Unauthorized: Log in first."),
        (410, b"<!DOCTYPE html><p>gone", "answered 410 Gone."),
        (418, b"\x1b[31mred", "Teapot: [31mred."),
    ],
)
def test_what_does_not_pass_is_not_tried_again(bench: Bench, code: int, body: bytes, said: str) -> None:
    bench.web.fault("/a.zip", status(code, {}, body))
    with pytest.raises(NetworkError) as raised:
        bench.fetch()
    assert said in str(raised.value)
    assert "engine.mirror" in raised.value.hint
    assert len(bench.web.requests) == 1


# Whether it is what it should be


def test_a_wrong_digest_is_fetched_once_more_from_the_start(bench: Bench) -> None:
    bench.web.fault("/a.zip", corrupt(1234))
    assert bench.fetch() == BODY
    assert bench.ranges == [None, None]


def test_a_digest_that_stays_wrong_names_both_and_the_host_and_leaves_nothing(bench: Bench) -> None:
    bench.web.fault("/a.zip", corrupt(1), corrupt(2))
    with pytest.raises(VerificationFailed) as raised:
        bench.fetch()
    wrong = bytearray(BODY)
    wrong[2] ^= 0xFF
    said = str(raised.value)
    assert SHA256 in said
    assert hashlib.sha256(wrong).hexdigest() in said
    assert "127.0.0.1" in said
    assert [each.name for each in bench.target.parent.iterdir()] == ["a.zip.lock"]


def test_a_part_that_was_damaged_is_thrown_away(bench: Bench) -> None:
    bench.start(100_000)
    bench.part.write_bytes(bytes(100_000))
    assert bench.fetch() == BODY
    assert bench.ranges == ["bytes=100000-", None]


def test_a_digest_in_capitals_is_the_same(bench: Bench) -> None:
    assert bench.fetch(bench.item(sha256=SHA256.upper())) == BODY


def test_another_size_than_published_is_refused_before_it_is_fetched(bench: Bench) -> None:
    with pytest.raises(VerificationFailed, match="has 300000 bytes, and 300001 were expected"):
        bench.fetch(bench.item(size_bytes=len(BODY) + 1))
    assert not bench.target.exists()


def test_more_than_was_told_is_refused(bench: Bench) -> None:
    bench.web.fault("/a.zip", both(told_length(-1), without("ETag")))
    with pytest.raises(VerificationFailed, match="sends more than the 200000 bytes"):
        bench.fetch(bench.item(size_bytes=200_000))
    assert not bench.part.exists()


# Ways there


def test_a_redirect_to_another_host_is_followed_and_the_part_still_fits(bench: Bench) -> None:
    with Web() as other:
        other.serve("/signed", file(BODY))
        bench.web.serve("/a.zip", redirect(other.url("/signed?key=1", host="localhost")))
        other.fault("/signed", cut(100_000), honest)
        assert bench.fetch() == BODY
        assert [request.headers.get("range") for request in other.requests] == [None, "bytes=100000-"]
    assert len(bench.web.requests) == 2


def test_redirects_without_end_are_an_error(bench: Bench) -> None:
    bench.web.serve("/a.zip", redirect("/a.zip"))
    with pytest.raises(NetworkError, match="redirects more than 8 times"):
        bench.fetch()


def test_a_proxy_that_is_named_is_used(bench: Bench) -> None:
    bench.web.serve("/far.zip", file(BODY))
    url = "http://downloads.invalid/far.zip"
    assert bench.fetch(bench.item(url=url), proxy=bench.web.url()) == BODY
    assert bench.web.requests[0].target == url


def test_a_proxy_of_the_environment_is_used_and_not_for_this_machine(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", bench.web.url())
    bench.web.serve("/far.zip", file(BODY))
    assert bench.fetch(bench.item(url="http://downloads.invalid/far.zip")) == BODY
    with Web() as near:
        bench.target.unlink()
        assert bench.fetch(bench.item(url=near.serve("/near", file(BODY)))) == BODY


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    made = tmp_path / "host.pem"
    words = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout {made} -out {made}.crt"
    names = ("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost")
    subprocess.run([*words.split(), *names], check=True, capture_output=True)
    made.write_text(made.read_text() + made.with_name("host.pem.crt").read_text())
    return made


def test_a_redirect_out_of_https_is_refused(
    bench: Bench, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with Web(certificate=certificate) as safe:
        url = safe.serve("/a.zip", redirect(bench.web.url("/a.zip")))
        with pytest.raises(NetworkError, match=r"redirects to http://127.0.0.1, which is not encrypted"):
            bench.fetch(bench.item(url=url))
        assert bench.web.requests == []
        safe.serve("/a.zip", file(BODY))
        assert bench.fetch(bench.item(url=url)) == BODY


def test_a_certificate_that_is_not_trusted_is_named_and_not_tried_again(
    bench: Bench, certificate: Path
) -> None:
    said = r"no secure connection to 127.0.0.1: self-signed certificate"
    with Web(certificate=certificate) as safe, pytest.raises(NetworkError, match=said) as raised:
        bench.fetch(bench.item(url=safe.serve("/a.zip", file(BODY))))
    assert "SSL_CERT_FILE" in raised.value.hint
    assert bench.slept == []


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_companys_certificate_is_trusted_by_each_variable(
    bench: Bench, certificate: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(certificate))
    with Web(certificate=certificate) as safe:
        assert bench.fetch(bench.item(url=safe.serve("/a.zip", file(BODY)))) == BODY


@pytest.mark.skipif(sys.platform != "linux", reason="only OpenSSL's store can be another one for a test")
def test_what_the_systems_store_trusts_is_trusted(
    bench: Bench, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = ssl.DefaultVerifyPaths(str(certificate), None, "NONE", str(certificate), "NONE", "")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    real = ssl.SSLContext.set_default_verify_paths
    monkeypatch.setattr(
        ssl.SSLContext, "set_default_verify_paths", lambda self: self.load_verify_locations(certificate)
    )
    assert real is not ssl.SSLContext.set_default_verify_paths
    with Web(certificate=certificate) as safe:
        assert bench.fetch(bench.item(url=safe.serve("/a.zip", file(BODY)))) == BODY


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://host.invalid/a", "the name host.invalid cannot be resolved"),
        ("http://127.0.0.1:{port}/a", "127.0.0.1 refuses the connection"),
    ],
)
def test_who_is_not_there_is_asked_twice_and_no_more(bench: Bench, url: str, said: str) -> None:
    url = url.format(port=unused_port())
    with pytest.raises(NetworkError) as raised:
        bench.fetch(bench.item(url=url))
    assert said in str(raised.value)
    assert "HTTPS_PROXY" in raised.value.hint
    assert bench.slept == [1.0]


@pytest.mark.parametrize("url", ["http://far.invalid/", "https://far.invalid/"])
@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
def test_a_proxy_that_is_not_there_is_named(bench: Bench, url: str, scheme: str) -> None:
    port = unused_port()
    proxy = f"{scheme}://user:secret@127.0.0.1:{port}"
    with pytest.raises(NetworkError, match=f"the proxy 127.0.0.1:{port} ") as raised:
        bench.fetch(bench.item(url=url), proxy=proxy)
    assert raised.value.hint == "The proxy is the one of engine.proxy."
    assert "secret" not in str(raised.value)


def test_a_proxy_whose_name_is_unknown_is_what_cannot_be_resolved(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:3128")
    with pytest.raises(NetworkError, match=r"the name of the proxy proxy.invalid:3128 cannot") as raised:
        bench.fetch(bench.item(url="https://far.invalid/"))
    assert "HTTPS_PROXY" in raised.value.hint


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password_is_named_and_not_asked_again(bench: Bench, scheme: str) -> None:
    bench.web.fault("/a", status(407), status(407))
    bench.web.tunnel_refusal = Reply(407)
    with pytest.raises(
        NetworkError, match=f"proxy 127.0.0.1:{bench.web.port} does not let us .*: 407 Proxy"
    ) as raised:
        bench.fetch(bench.item(url=f"{scheme}://far.invalid/a"), proxy=bench.web.url())
    assert "http://USER:PASSWORD@HOST:PORT" in raised.value.hint
    assert bench.slept == []


def test_a_socks_proxy_is_used(bench: Bench) -> None:
    with SocksProxy() as proxy:
        assert bench.fetch(proxy=f"socks5h://127.0.0.1:{proxy.port}") == BODY
    assert proxy.asked == [("127.0.0.1", bench.web.port)]


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1/x", "http://"])
def test_what_is_no_address_is_an_error_in_words(bench: Bench, url: str) -> None:
    with pytest.raises(NetworkError, match="cannot be reached"):
        bench.fetch(bench.item(url=url))
    assert bench.slept == []


def test_a_bundle_of_certificates_that_is_not_there_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
    with pytest.raises(NetworkError, match=r"/nowhere.pem"):
        bench.fetch(bench.item(url=f"https://127.0.0.1:{unused_port()}/"))


# Several connections


@pytest.fixture
def large(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """What counts as large, and the pieces, are small enough for a test: 30 pieces."""
    monkeypatch.setattr(fetch_module, "_MANY_BYTES", 50_000)
    monkeypatch.setattr(fetch_module, "_FIRST_BYTES", 1)
    monkeypatch.setattr(at_once, "PIECE_BYTES", 10_000)
    return bench


def test_a_large_file_comes_over_several_connections_in_one_piece(large: Bench) -> None:
    assert large.fetch() == BODY
    asked = sorted(int(span.split("=")[1].split("-")[0]) for span in large.ranges[1:])
    assert len(asked) > 20
    assert all(later - earlier <= 10_000 for earlier, later in pairwise(asked))
    assert large.heard.updates[-1][0] == 1.0


@pytest.mark.parametrize("fault", [cut(5_000), status(503), status(429), without("ETag", "Content-Range")])
def test_a_connection_of_several_that_fails_is_made_good(large: Bench, fault: Fault) -> None:
    large.web.fault("/a.zip", *[honest] * 8, fault)
    assert large.fetch() == BODY


def test_a_host_that_refuses_a_second_connection_gets_one(large: Bench) -> None:
    busy = threading.Semaphore(1)

    def one_at_a_time(request: Request) -> Reply:
        if not busy.acquire(blocking=False):
            return Reply(429)
        try:
            return file(BODY)(request)
        finally:
            busy.release()

    large.web.serve("/a.zip", one_at_a_time)
    assert large.fetch() == BODY


def test_a_file_that_changes_between_its_pieces_is_fetched_anew(large: Bench) -> None:
    other = random.Random(4).randbytes(len(BODY))

    def changes(request: Request) -> Reply:
        return file(other if len(large.web.requests) < 10 else BODY)(request)

    large.web.serve("/a.zip", changes)
    assert large.fetch() == BODY


@posix
def test_who_is_killed_with_several_connections_leaves_a_part_that_is_continued(large: Bench) -> None:
    gate = threading.Event()
    large.web.fault("/a.zip", *[honest] * 10, *[held(3_000, gate)] * 30)
    several = "import supervisor.download.at_once as a, supervisor.download.fetch as f\n"
    several += "a.PIECE_BYTES, f._MANY_BYTES, f._FIRST_BYTES = 10_000, 50_000, 1\n"
    with child(large, several) as process:
        large.web.wait_for_requests(12)
        process.kill()
    assert large.part.read_bytes() == BODY[: large.part.stat().st_size]
    assert large.part.stat().st_size >= CHUNK
    gate.set()
    assert large.fetch() == BODY


# The disk


def test_more_than_the_disk_has_is_refused_before_anything_is_asked(bench: Bench) -> None:
    with pytest.raises(SupervisorError, match=r"Downloading a.zip needs .* GiB of disk at .* are free"):
        bench.fetch(bench.item(size_bytes=2**60))
    assert bench.web.requests == []


@posix
def test_a_folder_that_may_not_be_written_is_named(bench: Bench) -> None:
    bench.target.parent.parent.joinpath("new").write_text("a file")
    with pytest.raises(SupervisorError, match="cannot be"):
        bench.fetch()
    if os.geteuid() != 0:
        closed = bench.target.parent.parent / "closed"
        closed.mkdir(mode=0o500)
        with pytest.raises(PermissionDenied):
            fetch(bench.item(), closed / "a", Silent())


LIMITED = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))
"""
CHILD = """
import sys
from pathlib import Path
from supervisor.download import at_once
from supervisor.download import fetch as fetch_module
from supervisor.download.fetch import Download, fetch
from supervisor.errors import SupervisorError

class Told:
    def step(self, text):
        print("step", text, flush=True)
    def update(self, fraction, detail=""):
        print("update", fraction, detail, flush=True)

url, size, sha256, target = sys.argv[1:]
try:
    fetch(Download(url, int(size), sha256, "a.zip"), Path(target), Told())
except SupervisorError as error:
    print(type(error).__name__, error, error.hint, flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
else:
    print("done", flush=True)
"""


def child(bench: Bench, first: str = "") -> subprocess.Popen[str]:
    arguments = [bench.web.url("/a.zip"), str(len(BODY)), SHA256, str(bench.target)]
    command = [sys.executable, "-c", first + CHILD, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@posix
def test_a_disk_that_is_full_in_the_middle_keeps_the_part(bench: Bench) -> None:
    with child(bench, LIMITED) as full:
        said = full.communicate(timeout=PATIENCE)[0].splitlines()[-1]
    assert said.startswith(f"SupervisorError {bench.part} cannot be written")
    assert "Free some space" in said
    assert bench.part.stat().st_size == 120_000
    bench.web.requests.clear()
    assert bench.fetch() == BODY
    assert bench.ranges == ["bytes=120000-"]


@posix
def test_a_small_disk_that_is_full_is_named(bench: Bench, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no disk can be mounted here")
    try:
        with pytest.raises(SupervisorError, match=r"needs 64\.3 MiB of disk .* where 2\.0 MiB are free"):
            fetch(bench.item(), disk / "a.zip", Silent())
    finally:
        subprocess.run(["umount", disk], check=True)


# Several, and such as are ended


@posix
@pytest.mark.parametrize("number", [getattr(signal, "SIGKILL", signal.SIGTERM), signal.SIGINT])
def test_who_is_ended_in_the_middle_leaves_a_part_that_is_continued(bench: Bench, number: int) -> None:
    gate = threading.Event()
    bench.web.fault("/a.zip", held(200_000, gate))
    with child(bench) as ended:
        assert ended.stdout is not None
        while not (line := ended.stdout.readline()).startswith("update 0.6"):
            assert line
        ended.send_signal(number)
        ended.wait(PATIENCE)
        if number == signal.SIGINT:
            assert ended.stdout.read().endswith("interrupted\n")
    assert not bench.target.exists()
    there = bench.part.stat().st_size
    assert there > 100_000
    bench.web.requests.clear()
    assert bench.fetch() == BODY
    assert bench.ranges == [f"bytes={there}-"]


def test_a_second_one_waits_says_so_and_finds_the_file(bench: Bench) -> None:
    gate = threading.Event()
    bench.web.fault("/a.zip", held(100_000, gate))
    with child(bench) as first:
        assert first.stdout is not None
        assert first.stdout.readline().startswith("step downloading")
        bench.web.wait_for_requests(1)
        second = threading.Thread(target=bench.fetch)
        second.start()
        assert bench.heard.first.wait(PATIENCE)
        gate.set()
        said = first.communicate(timeout=PATIENCE)[0]
        second.join(PATIENCE)
    assert said.endswith("done\n")
    assert bench.heard.steps == ["waiting: another goss-supervisor is downloading a.zip"]
    assert bench.target.read_bytes() == BODY
    assert len(bench.web.requests) == 1


def test_the_note_of_a_part_says_what_it_is_of(bench: Bench) -> None:
    bench.start(1000)
    note = json.loads(bench.part.with_name("a.zip.part.json").read_text())
    assert (note["url"], note["sha256"], note["size_bytes"]) == (bench.web.url("/a.zip"), SHA256, len(BODY))
