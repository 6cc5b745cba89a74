"""The client: what it sends to whom, what it remembers, and what it says when something else comes back."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from supervisor.download.network import RetryPolicy
from supervisor.engine.catalogue.github import API, WEB, GitHubAccess
from supervisor.engine.catalogue.github_client import Answers, GitHubClient
from supervisor.engine.catalogue.releases import REPOSITORY
from supervisor.errors import ConfigError, NetworkError, NotFound
from tests.fakes.github import FakeGitHub
from tests.fakes.web import Reply, Web, both, cut, hang, redirect, slow, status, told_length, unused_port

PATIENCE = RetryPolicy(5, 5, (0,), page_seconds=10)
TOKEN = "ghp_0123456789abcdef"
TAG = "b12001"
PATH = f"/repos/{REPOSITORY}/releases/tags/{TAG}"


@pytest.fixture
def github():
    with FakeGitHub() as server:
        server.add(TAG, {"llama-b12001-bin-ubuntu-x64.tar.gz": b"archive"})
        yield server


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture
def client(github, tmp_path):
    return GitHubClient(github.access(), Answers(tmp_path / "cache"), PATIENCE)


def ask(client: GitHubClient, tag: str = TAG):
    return client.api(f"releases/tags/{tag}")


def failure(client: GitHubClient) -> NetworkError:
    with pytest.raises(NetworkError) as caught:
        ask(client)
    return caught.value


# Where


def test_the_addresses_are_githubs_own_unless_told_otherwise():
    access = GitHubAccess.of(None, None, {})
    assert (access.api, access.web, access.token, access.proxy) == (API, WEB, "", None)


def test_a_mirror_has_the_downloads_and_not_the_api():
    access = GitHubAccess.of("https://mirror.lan/github/", None, {})
    assert access.api == API
    assert (
        access.asset_url("b1", "a b.zip")
        == f"https://mirror.lan/github/{REPOSITORY}/releases/download/b1/a%20b.zip"
    )


def test_the_environment_has_the_last_word():
    environ = {"GOSS_SUPERVISOR_GITHUB": "http://here", "GOSS_SUPERVISOR_GITHUB_API": "http://there/"}
    access = GitHubAccess.of("https://mirror.lan", None, environ)
    assert (access.web, access.api) == ("http://here", "http://there")


@pytest.mark.parametrize("address", ["mirror.lan", "ftp://mirror.lan", "https://", "http://[::1"])
def test_an_address_that_is_none_is_refused_by_its_name(address):
    with pytest.raises(ConfigError, match=r"engine\.mirror is"):
        GitHubAccess.of(address, None, {})
    with pytest.raises(ConfigError, match="GOSS_SUPERVISOR_GITHUB_API is"):
        GitHubAccess.of(None, None, {"GOSS_SUPERVISOR_GITHUB_API": address})


# The token


def test_the_token_goes_to_the_api_and_nowhere_else(github, tmp_path):
    github.promote("v1.0.0", TAG)
    client = GitHubClient(github.access(GITHUB_TOKEN=TOKEN), Answers(tmp_path), PATIENCE)
    ask(client)
    assert client.download(client.access.asset_url("v1.0.0", "nightly-tag.txt")).text == "b12001\n"
    assert github.tokens == [f"Bearer {TOKEN}"]
    assert github.downloads == ["nightly-tag.txt"]
    assert github.leaked == []


def test_the_token_does_not_follow_a_redirect_to_another_host(github, tmp_path):
    with Web() as other:
        github.api.serve(PATH, redirect(other.serve("/elsewhere", Reply(body=b"{}"))))
        ask(GitHubClient(github.access(GH_TOKEN=TOKEN), Answers(tmp_path), PATIENCE))
        assert github.tokens == [f"Bearer {TOKEN}"]
        assert "authorization" not in other.requests[0].headers


def test_a_token_is_not_sent_where_others_could_read_it():
    assert GitHubAccess(api="http://api.lan", token=TOKEN).api_token == ""
    assert GitHubAccess(api="https://api.lan", token=TOKEN).api_token == TOKEN
    assert GitHubAccess(api="http://127.0.0.1:80", token=TOKEN).api_token == TOKEN


def test_a_token_that_was_not_sent_is_not_asked_for_when_the_limit_is_reached(tmp_path):
    with Web() as web:
        web.serve(PATH, Reply(429, {"Retry-After": "60"}))
        access = GitHubAccess(api="http://api.invalid", token=TOKEN, proxy=web.url())
        with pytest.raises(NetworkError) as raised:
            ask(GitHubClient(access, Answers(tmp_path), PATIENCE))
    assert "not sent: http://api.invalid is not encrypted" in raised.value.hint
    assert "GITHUB_TOKEN" not in raised.value.hint


def test_the_first_token_of_two_is_taken_and_no_text_shows_it():
    access = GitHubAccess.of(None, None, {"GITHUB_TOKEN": f" {TOKEN}\n", "GH_TOKEN": "other"})
    assert access.token == TOKEN
    assert TOKEN not in repr(access)
    with pytest.raises(ConfigError, match="GH_TOKEN holds characters") as caught:
        GitHubAccess.of(None, None, {"GH_TOKEN": "two words"})
    assert "two words" not in f"{caught.value}{caught.value.hint}"


def test_a_token_that_is_not_accepted_is_named_by_its_variable(github, tmp_path):
    github.api.fault(PATH, status(401, body=b'{"message": "Bad credentials"}'))
    error = failure(GitHubClient(github.access(GITHUB_TOKEN=TOKEN), Answers(tmp_path), PATIENCE))
    assert "GITHUB_TOKEN" in str(error)
    assert TOKEN not in str(error)


def test_what_stands_in_netrc_is_not_sent(github, client, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    ask(client)
    assert github.tokens == [None]


# What is remembered


def test_an_answer_is_asked_for_again_with_its_etag(github, client):
    first, _ = ask(client)
    second, note = ask(client)
    assert (first, note) == (second, "")
    etags = [request.headers.get("if-none-match") for request in github.api.asked(PATH)]
    assert etags[0] is None
    assert etags[1]


def test_what_changed_replaces_what_was_remembered(github, client):
    ask(client)
    github.add(TAG, {"another.zip": b"archive"})
    assert ask(client)[0]["assets"][0]["name"] == "another.zip"
    github.close()
    assert ask(client)[0]["assets"][0]["name"] == "another.zip"


def test_without_a_network_the_old_answer_serves_and_that_is_said(github, client):
    fresh, _ = ask(client)
    github.close()
    old, note = ask(client)
    assert old == fresh
    assert re.match(
        r"GitHub cannot be reached: 127\.0\.0\.1 refuses the connection; using what it said on \d", note
    )


def test_a_login_page_does_not_replace_what_was_remembered(github, client):
    fresh, _ = ask(client)
    github.api.fault(PATH, lambda _: Reply(body=b"<html><title>Log in</title>"))
    old, note = ask(client)
    assert old == fresh
    assert "Log in" in note
    assert ask(client) == (fresh, "")


def test_a_broken_memory_is_no_memory(github, client, tmp_path):
    fresh, _ = ask(client)
    (file,) = (tmp_path / "cache").iterdir()
    file.write_text(file.read_text()[:-20])
    assert ask(client) == (fresh, "")
    assert "if-none-match" not in github.api.requests[-1].headers


def test_a_folder_that_cannot_be_written_costs_nothing_but_requests(github, tmp_path):
    (tmp_path / "cache").write_text("a file")
    client = GitHubClient(github.access(), Answers(tmp_path / "cache"), PATIENCE)
    assert ask(client) == ask(client)


def test_nothing_half_written_stays_in_the_memory(client, tmp_path):
    ask(client)
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".json"]


# What goes wrong


def test_the_limit_is_told_with_the_time_when_it_ends(github, client):
    github.use_up_the_limit(timedelta(minutes=23))
    error = failure(client)
    assert str(error).startswith(
        "GitHub allows 60 requests an hour without a token and they are used up; again at "
    )
    assert str(error).endswith(" (in 23 min).")
    assert "GITHUB_TOKEN" in error.hint
    assert len(github.api.requests) == 1, "asking again would only make it worse"


def test_the_limit_of_a_token_is_another_one(github, tmp_path):
    github.use_up_the_limit(timedelta(minutes=5), status=429, limit=5000)
    error = failure(GitHubClient(github.access(GITHUB_TOKEN=TOKEN), Answers(tmp_path), PATIENCE))
    assert "allows 5000 requests an hour with this token" in str(error)


def test_the_limit_does_not_matter_to_who_knows_the_answer(github, client):
    fresh, _ = ask(client)
    github.use_up_the_limit(timedelta(minutes=23))
    old, note = ask(client)
    assert old == fresh
    assert "(in 23 min); using what it said on" in note


def test_a_request_to_wait_is_told(github, client):
    github.api.fault(PATH, status(403, {"Retry-After": "90"}))
    assert str(failure(client)).startswith("GitHub asks us to wait; again at ")
    github.api.fault(PATH, status(429, {"Retry-After": "soon"}))
    assert str(failure(client)) == "GitHub asks us to wait."


def test_another_refusal_is_told_in_githubs_words(github, client):
    github.api.fault(PATH, status(403, body=b'{"message": "Forbidden by\\n administrative rules."}'))
    assert str(failure(client)).endswith(f"{PATH} answered 403 (Forbidden by administrative rules).")


def test_what_does_not_exist_is_not_a_network_error(client):
    with pytest.raises(NotFound):
        ask(client, "b99999")


@pytest.mark.parametrize(
    "fault",
    [status(500), status(503), cut(10), both(told_length(9000), cut(20))],
    ids=["500", "503", "cut", "short"],
)
def test_a_passing_fault_is_tried_once_more(github, client, fault):
    github.api.fault(PATH, fault)
    assert ask(client)[0]["tag_name"] == TAG
    github.api.fault(PATH, fault, fault)
    ask_again = GitHubClient(client.access, Answers(Path("/nonexistent")), PATIENCE)
    failure(ask_again)
    assert len(github.api.asked(PATH)) == 4


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<!DOCTYPE html><title>Caf\xc3\xa9\n Wi-Fi</title>", "the web page “Café Wi-Fi”"),
        (b"<html></html>", "a web page"),
        (b"Welcome\x1b[2J!", "“Welcome [2J!”"),
        (b"", "nothing"),
        (b'{"tag_name": ', '“{"tag_name":”'),
    ],
)
def test_what_came_instead_of_json_is_said(github, client, body, words):
    github.api.fault(PATH, lambda _: Reply(body=body))
    error = failure(client)
    assert f"answered with {words}, not with the JSON of GitHub" in str(error)
    assert "login" in error.hint


def test_a_login_page_on_another_host_is_told_with_that_host(github, client):
    with Web() as portal:
        portal.serve("/", Reply(body=b"<title>Pay here</title>"))
        github.api.fault(PATH, lambda _: redirect(portal.url("/", host="localhost"))(None))
        assert "“Pay here” of localhost" in str(failure(client))


def test_a_server_that_does_not_answer_is_given_up(github, tmp_path):
    github.api.fault(PATH, hang(), hang())
    impatient = RetryPolicy(5, 0.2, (0,), page_seconds=10)
    assert str(failure(GitHubClient(github.access(), Answers(tmp_path), impatient))) == (
        "GitHub cannot be reached: nothing came from 127.0.0.1 for 0.2 s."
    )


def test_an_answer_that_comes_drop_by_drop_is_given_up(github, tmp_path):
    github.add(TAG, {f"{number}.zip": number for number in range(1, 1000)})
    github.api.fault(PATH, slow(20_000), slow(20_000))
    impatient = RetryPolicy(5, 5, (0,), page_seconds=0.3)
    assert "takes too long" in str(failure(GitHubClient(github.access(), Answers(tmp_path), impatient)))


def test_redirects_in_circles_end(github, client):
    github.api.serve(PATH, redirect(github.api.url(PATH)))
    assert "redirects more than 8 times" in str(failure(client))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_a_certificate_that_is_not_trusted_is_the_reason(tmp_path):
    certificate = tmp_path / "both.pem"
    new = [
        "openssl",
        "req",
        "-x509",
        "-nodes",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-subj",
        "/CN=here",
        "-keyout",
    ]
    subprocess.run(
        [*new, str(certificate), "-out", str(tmp_path / "chain.pem")], check=True, capture_output=True
    )
    with certificate.open("a") as file:
        file.write((tmp_path / "chain.pem").read_text())
    with Web(certificate=certificate) as web:
        access = GitHubAccess(api=web.url(), web=web.url())
        assert "certificate" in str(failure(GitHubClient(access, Answers(tmp_path), PATIENCE)))


# The proxy


def test_the_proxy_of_the_settings_is_used(github, tmp_path):
    with Web() as proxy:
        proxy.serve(PATH, Reply(body=b'{"through": "the proxy"}'))
        access = GitHubAccess(api="http://api.invalid", web=WEB, proxy=proxy.url())
        assert ask(GitHubClient(access, Answers(tmp_path), PATIENCE))[0] == {"through": "the proxy"}
        assert proxy.requests[0].target == f"http://api.invalid{PATH}"


def test_the_proxy_of_the_environment_is_used_where_none_is_set(tmp_path, monkeypatch):
    with Web() as proxy:
        proxy.serve(PATH, Reply(body=b"{}"))
        monkeypatch.setenv("HTTP_PROXY", proxy.url())
        assert ask(GitHubClient(GitHubAccess(api="http://api.invalid"), Answers(tmp_path), PATIENCE)) == (
            {},
            "",
        )


def test_a_proxy_that_is_not_there_is_the_reason_and_its_password_is_not_shown(tmp_path):
    access = GitHubAccess(api="http://api.invalid", proxy=f"http://me:secret@127.0.0.1:{unused_port()}")
    error = failure(GitHubClient(access, Answers(tmp_path), PATIENCE))
    assert re.fullmatch(r"GitHub cannot be reached: the proxy 127\.0\.0\.1:\d+ refuses .*\.", str(error))
    assert "secret" not in f"{error}{error.hint}"


# Texts of the download host


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe"])
def test_a_text_that_is_none_is_refused(github, client, body):
    url = github.web.serve("/pointer", Reply(body=body))
    with pytest.raises(NetworkError, match="pointer answered with"):
        client.download(url)
