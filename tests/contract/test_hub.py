"""The Hugging Face hub, played on loopback: its lists, its refusals, and headers read by pieces."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.download.network import RetryPolicy
from supervisor.errors import ConfigError, NetworkError, NotFound, UsageError, VerificationFailed
from supervisor.model.hub import ENDPOINT, Hub, HubFile, choose, is_inside
from supervisor.model.open import open_model
from supervisor.model.remote import FIRST_BYTES, LARGEST_BYTES, RemoteSource, hub_model
from tests.fakes.hub import SPLIT, FakeHub, split_demo
from tests.fakes.web import Reply, cut, file, hang, status, unused_port

REPO = "me/demo-GGUF"
TOKEN = "hf_secret"
ROOM = HubFile("a/tiny-Q4_K_M.gguf", 5, "0" * 64)
FILES = (
    ROOM,
    HubFile("tiny-Q8_0-00001-of-00002.gguf", 7, ""),
    HubFile("tiny-Q8_0-00002-of-00002.gguf", 8, ""),
    HubFile("mmproj-tiny-Q8_0.gguf", 1, ""),
    HubFile("README.md", 3, ""),
)


@dataclass
class Bench:
    fake: FakeHub
    slept: list[float] = field(default_factory=list)

    def hub(self, token: str = "", stall: float = 20.0) -> Hub:
        return Hub(self.fake.api.url(), token, RetryPolicy(stall_seconds=stall, sleep=self.slept.append))


@pytest.fixture
def bench(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with FakeHub(page_size=2) as fake:
        fake.add(REPO, {"README.md": b"hello", **split_demo(tmp_path / "parts")})
        yield Bench(fake)


# Who is asked, and with what


def test_the_endpoint_and_the_token_are_the_environments(tmp_path):
    hub = Hub.of({"HF_ENDPOINT": "https://mirror.example/", "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path)})
    assert (hub.endpoint, hub.token) == ("https://mirror.example", TOKEN)
    assert Hub.of({"HF_HOME": str(tmp_path)}) == Hub(ENDPOINT, "")
    assert TOKEN not in repr(hub)


def test_the_token_that_hf_auth_login_wrote_is_found(tmp_path):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert Hub.of({"HF_HOME": str(tmp_path)}).token == TOKEN
    (tmp_path / "other").write_text("hf_other")
    environ = {"HF_HOME": str(tmp_path), "HF_TOKEN_PATH": str(tmp_path / "other")}
    assert Hub.of(environ).token == "hf_other"
    assert Hub.of(environ | {"HF_TOKEN": "hf_third"}).token == "hf_third"


def test_a_token_never_goes_unencrypted_over_a_network(tmp_path):
    environ = {"HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path)}
    assert Hub.of({**environ, "HF_ENDPOINT": "http://mirror.example"}).token == ""
    assert Hub.of({**environ, "HF_ENDPOINT": "http://127.0.0.1:9"}).token == TOKEN


@pytest.mark.parametrize(
    ("status", "headers"),
    [(401, {"x-error-code": "GatedRepo"}), (401, {}), (403, {}), (404, {"x-error-code": "RepoNotFound"})],
)
def test_a_token_that_was_not_sent_is_not_asked_for(tmp_path, status, headers):
    """Whoever has set HF_TOKEN must not be told to set it."""
    mirror = {"HF_ENDPOINT": "http://mirror.example", "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path)}
    error = Hub.of(mirror).refusal(REPO, status, headers)
    said = f"{error} {error.hint}"
    assert "not sent" in said
    assert "http://mirror.example is not encrypted" in said
    assert "HF_TOKEN" not in said


@pytest.mark.parametrize(
    "environ", [{"HF_ENDPOINT": "huggingface"}, {"HF_ENDPOINT": "http://[x"}, {"HF_TOKEN": "a b"}]
)
def test_settings_that_cannot_be_are_refused_without_showing_a_token(environ, tmp_path):
    with pytest.raises(ConfigError) as raised:
        Hub.of({"HF_HOME": str(tmp_path), **environ})
    assert "a b" not in str(raised.value)


# Lists of files


def test_all_pages_of_a_list_are_read(bench):
    files = bench.hub().files(REPO)
    assert [file.path for file in files] == ["README.md", *SPLIT]
    assert [len(file.sha256) for file in files] == [0, 64, 64]
    assert len(bench.fake.api.requests) == 2


def test_a_list_that_goes_on_at_another_host_is_not_followed(bench):
    elsewhere = {"Link": '<http://other.example/x>; rel="next"'}
    bench.fake.api.fault(bench.fake.tree(REPO), lambda _: Reply(200, elsewhere, b"[]"))
    with pytest.raises(NetworkError, match="at another host"):
        bench.hub(TOKEN).files(REPO)


@pytest.mark.parametrize("path", ["../x.gguf", "/x.gguf", "a/../../x.gguf", "a\\..\\x.gguf", "C:x.gguf", ""])
def test_a_file_that_would_lie_elsewhere_is_as_if_not_there(bench, path):
    assert not is_inside(path)
    entry = {"type": "file", "path": path, "size": 1}
    bench.fake.api.fault(bench.fake.tree(REPO), lambda _: Reply(200, {}, json.dumps([entry]).encode()))
    assert bench.hub().files(REPO) == ()


@given(st.text(alphabet="a./\\\\:C ", max_size=12))
def test_no_path_that_is_taken_leads_out_of_the_folder(path):
    folder = Path("/models/me/demo")
    if is_inside(path):
        assert folder in Path(os.path.normpath(folder / path)).parents
        assert PureWindowsPath("D:/models").joinpath(path).is_relative_to("D:/models")
        assert ".." not in PureWindowsPath(path).parts


@pytest.mark.parametrize(
    "body", [b"<html>Log in", b"{}", b"[1]", b"", b"[", b"\xff"], ids=["page", "{}", "[1]", "", "[", "ff"]
)
def test_a_list_that_is_none_is_said(bench, body):
    bench.fake.api.fault(bench.fake.tree(REPO), lambda _: Reply(200, {}, body))
    with pytest.raises(NetworkError, match="not with a list of files"):
        bench.hub().files(REPO)


@pytest.mark.parametrize("repo", ["gpt-oss", "a/b/c", "../a", "a/..", "a b/c", ""])
def test_what_is_no_repository_is_not_asked_for(bench, repo):
    with pytest.raises(UsageError):
        bench.hub().files(repo)
    assert bench.fake.api.requests == []


# Refusals


def test_what_passes_is_tried_once_more(bench):
    bench.fake.api.fault(bench.fake.tree(REPO), status(503))
    assert len(bench.hub().files(REPO)) == 3
    bench.fake.api.fault(bench.fake.tree(REPO), cut(5))
    assert len(bench.hub().files(REPO)) == 3
    assert bench.slept == [1.0, 1.0]


def test_a_repository_that_is_not_there_may_be_private(bench):
    with pytest.raises(NotFound) as raised:
        bench.hub().files("me/nothing")
    assert "no repository me/nothing" in str(raised.value)
    assert "HF_TOKEN" in raised.value.hint


def test_a_token_that_does_not_help_is_said(bench):
    bench.fake.api.fault(bench.fake.tree(REPO), status(401, {"X-Error-Message": "Invalid\x1b credentials."}))
    with pytest.raises(NetworkError, match=r"does not accept the token for .* \(Invalid credentials\)\."):
        bench.hub(TOKEN).files(REPO)


def test_a_limit_says_when_again(bench):
    bench.fake.api.fault(bench.fake.tree(REPO), status(429, {"RateLimit": '"api";r=0;t=140'}))
    with pytest.raises(
        NetworkError, match=r"too many requests from here; again at \d\d:\d\d \(in 3 min\)"
    ) as r:
        bench.hub().files(REPO)
    assert "HF_TOKEN" in r.value.hint


def test_who_is_offline_is_told_which_settings_there_are():
    nobody = Hub(f"http://127.0.0.1:{unused_port()}", retry=RetryPolicy(sleep=lambda _: None))
    with pytest.raises(NetworkError, match="refuses the connection") as raised:
        nobody.files(REPO)
    assert "HTTPS_PROXY" in raised.value.hint
    assert "engine." not in raised.value.hint


def test_a_hub_that_does_not_answer_is_given_up(bench):
    bench.fake.api.fault(bench.fake.tree(REPO), hang(), hang())
    with pytest.raises(NetworkError, match=r"nothing came from 127.0.0.1 for 0.2 s"):
        bench.hub(stall=0.2).files(REPO)


# Which model is meant


@pytest.mark.parametrize(
    "wanted", ["a/tiny-Q4_K_M.gguf", "a/tiny-Q4_K_M", "tiny-Q4_K_M", "tiny-Q4_K_M.gguf", "q4_k_m"]
)
def test_a_model_can_be_named_in_many_ways(wanted):
    assert choose(REPO, FILES, wanted) == (ROOM,)


@pytest.mark.parametrize("wanted", [FILES[1].path, FILES[2].path, "tiny-Q8_0", "Q8_0"])
def test_a_split_model_is_all_its_parts(wanted):
    assert choose(REPO, FILES, wanted) == FILES[1:3]


def test_the_only_model_needs_no_name():
    assert choose(REPO, FILES[1:], None) == FILES[1:3]


def test_several_models_are_listed():
    with pytest.raises(UsageError) as raised:
        choose(REPO, FILES, None)
    assert str(raised.value).splitlines()[1:] == ["  a/tiny-Q4_K_M: 0.0 MB", "  tiny-Q8_0: 0.0 MB in 2 files"]


def test_a_name_that_is_wrong_gets_the_nearest():
    with pytest.raises(NotFound, match=r"has no tiny-Q5_K_M\. It has:\n  a/tiny-Q4_K_M"):
        choose(REPO, FILES, "tiny-Q5_K_M")
    with pytest.raises(NotFound, match="no GGUF"):
        choose(REPO, FILES[-1:], None)


def test_an_upload_that_is_not_complete_is_not_begun():
    with pytest.raises(VerificationFailed, match=r"only 1 of the 2 parts: no tiny-Q8_0-00001-of-00002\.gguf"):
        choose(REPO, FILES[2:], "tiny-Q8_0")


# Headers by pieces


def test_a_model_of_the_hub_is_the_one_that_lies_on_disk(bench, tmp_path):
    there = hub_model(REPO, None, bench.hub())
    here = open_model(tmp_path / "parts" / SPLIT[0])
    assert (there.values, there.tensors) == (here.values, here.tensors)
    assert [part.size_bytes for part in there.parts] == [part.size_bytes for part in here.parts]


def test_a_header_is_fetched_once(bench, tmp_path):
    first = hub_model(REPO, None, bench.hub(), tmp_path / "cache")
    asked = len(bench.fake.storage.requests)
    assert hub_model(REPO, None, bench.hub(), tmp_path / "cache") == first
    assert len(bench.fake.storage.requests) == asked


def source(bench: Bench, body: bytes) -> RemoteSource:
    bench.fake.add("me/big", {"big.gguf": body})
    (found,) = bench.hub().files("me/big")
    return RemoteSource(bench.hub(), "me/big", found)


def test_pieces_grow_and_no_byte_comes_twice(bench):
    body = bytes(range(256)) * (40 << 10)  # 10 MiB
    big = source(bench, body)
    at = 0
    while at < len(body):
        assert big.read(at, 300_000) == body[at : at + 300_000]
        at += 299_000  # as a walk does that has half an element at its window's end
    assert big.fetched_bytes == len(body)
    spans = [each.removeprefix("bytes=").split("-") for each in bench.fake.ranges("big.gguf")]
    sizes = [int(last) - int(first) + 1 for first, last in spans]
    assert sizes[0] == FIRST_BYTES
    assert max(sizes) == LARGEST_BYTES
    assert big.read(len(body), 10) == b""


def test_a_host_without_ranges_will_do_for_the_first_piece_and_no_further(bench):
    body = bytes(range(256)) * (8 << 10)  # 2 MiB
    big = source(bench, body)
    bench.fake.storage.serve(bench.fake.stored("me/big", "big.gguf"), file(body, ranges=False))
    assert big.read(0, 100) == body[:100]
    with pytest.raises(NetworkError, match="cannot be read in pieces"):
        big.read(FIRST_BYTES, 100)


def test_a_file_of_the_hub_that_is_no_model_is_named(bench):
    bench.fake.add("me/page", {"page.gguf": b"<!DOCTYPE html><title>Sorry"})
    with pytest.raises(VerificationFailed, match=r"me/page:page\.gguf is an HTML page"):
        hub_model("me/page", None, bench.hub())


def test_a_gated_model_is_told_with_what_to_do(bench):
    bench.fake.gate(REPO, TOKEN)
    with pytest.raises(NetworkError, match="is gated: its owner wants to know") as raised:
        hub_model(REPO, None, bench.hub())
    assert f"/{REPO}" in raised.value.hint
    with pytest.raises(NetworkError, match="the account of your token has no access"):
        hub_model(REPO, None, bench.hub("hf_wrong"))
    assert hub_model(REPO, None, bench.hub(TOKEN)).layers == 2
    assert all("authorization" not in request.headers for request in bench.fake.storage.requests)
