"""Which releases there are, and which is taken."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from supervisor.download.network import RetryPolicy
from supervisor.engine.catalogue.catalogue import Catalogue, is_settled
from supervisor.engine.catalogue.pins import DEFAULT_TAG, locked
from supervisor.engine.catalogue.releases import REPOSITORY, Release
from supervisor.errors import NetworkError, NoSuitableEngine, NotFound
from tests.fakes.github import FakeGitHub
from tests.fakes.web import Reply, cut

PATIENCE = RetryPolicy(5, 5, (0,), page_seconds=10)
LIST = f"/repos/{REPOSITORY}/releases"


def names(tag: str) -> dict[str, bytes | int]:
    return {f"llama-{tag}-bin-ubuntu-x64.tar.gz": 17_000_000, f"llama-{tag}-bin-win-cpu-x64.zip": 19_000_000}


def usable(release: Release) -> str:
    """Like the real one, for a Linux PC without a GPU."""
    asset = release.find(f"llama-{release.tag}-bin-ubuntu-x64.tar.gz")
    return "" if asset and asset.usable else "it has no complete cpu build"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def github():
    with FakeGitHub() as server:
        yield server


@pytest.fixture
def catalogue(github, tmp_path):
    return Catalogue(github.access(), tmp_path / "cache", PATIENCE)


def fill(github: FakeGitHub, first: int, last: int, **more) -> None:
    for number in range(first, last + 1):
        github.add(f"b{number}", names(f"b{number}"), **more)


# One release by its tag


def test_a_release_has_the_sizes_digests_and_addresses_of_its_assets(github, catalogue):
    github.add("b12001", {"llama-b12001-bin-ubuntu-x64.tar.gz": b"archive"})
    release = catalogue.release("b12001")
    (asset,) = release.assets
    assert (release.tag, release.published, release.origin) == ("b12001", "2026-10-05T18:00:00Z", "GitHub")
    assert (asset.size_bytes, asset.usable) == (7, True)
    assert asset.sha256 == sha256(b"archive").hexdigest()
    assert asset.url == github.web.url(f"/{REPOSITORY}/releases/download/b12001/{asset.name}")


def test_a_mirror_takes_the_place_of_the_addresses_that_github_tells(github, catalogue):
    github.add("b12001", names("b12001"))
    mirrored = replace(catalogue, access=replace(catalogue.access, web="https://mirror.lan/gh"))
    before, after = catalogue.release("b12001"), mirrored.release("b12001")
    assert all(asset.url.startswith("https://mirror.lan/gh/ggml-org/") for asset in after.assets)
    assert [each.sha256 for each in before.assets] == [each.sha256 for each in after.assets]


def test_the_pinned_release_needs_no_github_at_all(github, catalogue):
    github.close()
    release = catalogue.release(DEFAULT_TAG)
    assert release.origin == "lock file"
    assert all(asset.url.startswith(github.web.url()) for asset in release.assets)
    assert release == catalogue.known(DEFAULT_TAG)


def test_a_complete_release_is_asked_for_once_in_its_life(github, catalogue):
    github.add("b12001", names("b12001"))
    first = catalogue.release("b12001")
    again = catalogue.release("b12001")
    assert again.assets == first.assets
    assert len(github.api.requests) == 1
    assert again.origin.startswith("GitHub, ")


def test_an_incomplete_release_is_asked_for_again(github, catalogue):
    github.add("b12001", names("b12001"), complete=False)
    assert [asset.usable for asset in catalogue.release("b12001").assets] == [True, False]
    github.add("b12001", names("b12001"))
    assert all(asset.usable for asset in catalogue.release("b12001").assets)


def test_a_release_of_today_may_still_grow(github, catalogue):
    now = datetime.now(UTC)
    github.add("b12001", {"llama-b12001-bin-ubuntu-x64.tar.gz": 5}, published=now)
    assert len(catalogue.release("b12001").assets) == 1
    github.add("b12001", names("b12001"), published=now)
    assert len(catalogue.release("b12001").assets) == 2


def test_without_a_network_what_is_known_of_a_release_serves(github, catalogue):
    github.add("b12001", names("b12001"), complete=False)
    fresh = catalogue.release("b12001")
    github.close()
    old = catalogue.release("b12001")
    assert old.assets == fresh.assets
    assert "cannot be reached" in old.origin
    assert "using what it said on" in old.origin
    with pytest.raises(NetworkError, match="cannot be reached"):
        catalogue.release("b12002")


def test_what_is_known_asks_nobody(github, catalogue):
    github.add("b12001", names("b12001"))
    assert catalogue.known("b12001") is None
    catalogue.release("b12001")
    asked = len(github.api.requests)
    assert catalogue.known("b12001").assets
    assert len(github.api.requests) == asked


def test_digests_that_are_none_are_no_digests(github, catalogue):
    linux, windows = names("b12001")
    github.add(
        "b12001", names("b12001"), digests={linux: None, windows: "md5:d41d8cd98f00b204e9800998ecf8427e"}
    )
    assert [asset.sha256 for asset in catalogue.release("b12001").assets] == ["", ""]


@pytest.mark.parametrize("tag", ["b99999", "v9", "../../user", "b1/../b2", "", "b1?x=1"])
def test_a_tag_that_does_not_exist_is_said(catalogue, tag):
    with pytest.raises(NotFound, match=r"has no release|is not the tag"):
        catalogue.release(tag)


def test_a_draft_does_not_exist(github, catalogue):
    github.add("b12001", names("b12001"), draft=True)
    with pytest.raises(NotFound):
        catalogue.release("b12001")


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"tag_name": 5}', b'{"tag_name": "b1"}', b"null", b'"b1"'])
def test_json_that_is_no_release_is_refused(github, catalogue, body):
    github.api.serve(f"{LIST}/tags/b1", Reply(body=body))
    with pytest.raises(NetworkError, match="no list of releases"):
        catalogue.release("b1")


def test_an_asset_whose_name_is_a_path_is_left_out(github, catalogue):
    github.add("b12001", {"../evil.zip": 5, "a/b.zip": 5, "llama-b12001-bin-ubuntu-x64.tar.gz": 5})
    assert [asset.name for asset in catalogue.release("b12001").assets] == [
        "llama-b12001-bin-ubuntu-x64.tar.gz"
    ]


# nightly


def test_the_newest_build_is_taken_and_not_the_version_beside_it(github, catalogue):
    fill(github, 12001, 12003)
    github.promote("v0.7.0", "b12001")
    found = catalogue.newest("nightly", usable)
    assert (found.release.tag, found.passed, found.note) == ("b12003", (), "")


def test_what_is_still_being_uploaded_is_passed_over_and_said(github, catalogue):
    fill(github, 12001, 12001)
    github.add("b12002", names("b12002"), uploading=["llama-b12002-bin-ubuntu-x64.tar.gz"])
    github.add("b12003", {})
    github.add("b12004", names("b12004"), draft=True)
    found = catalogue.newest("nightly", usable)
    assert found.release.tag == "b12001"
    assert found.passed == (
        "b12003: it has no complete cpu build",
        "b12002: it has no complete cpu build",
    )


def test_the_order_is_that_of_the_numbers(github, catalogue):
    for number in (12003, 9999, 12010, 12004):
        github.add(f"b{number}", names(f"b{number}"))
    assert [each.tag for each in catalogue.list(9)] == ["b12010", "b12004", "b12003", "b9999"]


def test_further_pages_are_asked_for_only_where_needed(github, catalogue):
    fill(github, 12001, 12035)
    catalogue.newest("nightly", usable)
    assert [each.query["page"] for each in github.api.asked(LIST)] == ["1"]
    found = catalogue.newest("nightly", lambda each: "" if each.tag == "b12003" else "no")
    assert found.release.tag == "b12003"
    assert [each.query["page"] for each in github.api.asked(LIST)] == ["1", "1", "2"]


def test_the_search_ends_after_three_pages(github, catalogue):
    fill(github, 12001, 12130)
    with pytest.raises(
        NoSuitableEngine, match=r"b12130: too new[\s\S]*b12126: too new\n  and 85 more"
    ) as caught:
        catalogue.newest("nightly", lambda _: "too new")
    assert "b12125" not in str(caught.value)
    assert len(github.api.asked(LIST)) == 3


def test_a_repository_without_releases_is_told(catalogue):
    with pytest.raises(NoSuitableEngine, match="GitHub lists none"):
        catalogue.newest("nightly", usable)
    assert catalogue.list(5) == ()


def test_the_list_is_as_long_as_asked_and_costs_no_page_more(github, catalogue):
    fill(github, 12001, 12060)
    assert len(catalogue.list(30)) == 30
    assert len(github.api.requests) == 1
    assert len(catalogue.list(31)) == 31


def test_a_release_from_the_list_is_known_by_its_tag_from_then_on(github, catalogue):
    fill(github, 12001, 12002)
    found = catalogue.newest("nightly", usable)
    github.close()
    assert catalogue.known("b12002").assets == found.release.assets
    assert catalogue.known("b12001") is None


def test_offline_the_old_list_serves_and_that_is_said(github, catalogue):
    fill(github, 12001, 12002)
    catalogue.newest("nightly", usable)
    github.close()
    found = catalogue.newest("nightly", usable)
    assert found.release.tag == "b12002"
    assert "cannot be reached" in found.note
    assert "using what it said on" in found.note


def test_a_used_up_limit_without_anything_known_is_an_error_with_the_time(github, catalogue):
    github.use_up_the_limit(timedelta(minutes=23))
    for ask in (lambda: catalogue.newest("nightly", usable), lambda: catalogue.newest("stable", usable)):
        with pytest.raises(NetworkError, match=r"again at \d\d:\d\d \(in 23 min\)"):
            ask()


@pytest.mark.parametrize("body", [b"{}", b"[5]", b"null"])
def test_json_that_is_no_list_is_refused(github, catalogue, body):
    github.api.serve(LIST, Reply(body=body))
    with pytest.raises(NetworkError, match="no list of releases"):
        catalogue.newest("nightly", usable)


# stable


def test_stable_is_the_build_that_upstream_points_to(github, catalogue):
    fill(github, 12001, 12005)
    github.promote("v0.7.0", "b12003")
    found = catalogue.newest("stable", usable)
    assert (found.release.tag, found.passed, found.note) == ("b12003", (), "")
    assert github.downloads == ["nightly-tag.txt"]


def test_before_august_2026_the_latest_release_was_the_build(github, catalogue):
    fill(github, 10001, 10002, prerelease=False)
    github.latest("b10001")
    assert catalogue.newest("stable", usable).release.tag == "b10001"


def test_a_version_that_points_nowhere_leads_to_the_list(github, catalogue):
    fill(github, 12001, 12002)
    github.promote("v0.7.0", None)
    found = catalogue.newest("stable", usable)
    assert (found.release.tag, found.passed) == ("b12002", ("v0.7.0 names no build",))


def test_a_repository_without_a_version_leads_to_the_list(github, catalogue):
    fill(github, 12001, 12002)
    found = catalogue.newest("stable", usable)
    assert (found.release.tag, found.passed) == ("b12002", ("upstream's latest release names no build",))


def test_an_incomplete_stable_build_gives_way_to_the_one_before_it(github, catalogue):
    fill(github, 12001, 12002)
    github.add("b12003", {"llama-b12003-bin-win-cpu-x64.zip": 5})
    fill(github, 12004, 12005)
    github.promote("v0.7.0", "b12003")
    found = catalogue.newest("stable", usable)
    assert (found.release.tag, found.passed) == ("b12002", ("b12003: it has no complete cpu build",))


def test_the_one_before_it_may_be_many_builds_down_the_list(github, catalogue):
    fill(github, 12001, 12100)
    github.add("b12002", {})
    github.promote("v0.7.0", "b12002")
    assert catalogue.newest("stable", usable).release.tag == "b12001"


def test_a_stable_build_that_does_not_exist_gives_way(github, catalogue):
    fill(github, 12001, 12002)
    github.promote("v0.7.0", "b12003")
    found = catalogue.newest("stable", usable)
    assert (found.release.tag, found.passed) == (
        "b12002",
        ("b12003: v0.7.0 names it, and it does not exist",),
    )


@pytest.mark.parametrize("text", [b"<html>log in</html>", b"main", b"", b"b12001\nb12002"])
def test_a_pointer_that_is_no_tag_is_refused(github, catalogue, text):
    fill(github, 12001, 12002)
    github.promote("v0.7.0", text)
    with pytest.raises(NetworkError, match=r"nightly-tag\.txt"):
        catalogue.newest("stable", usable)


def test_offline_the_old_stable_release_serves(github, catalogue):
    fill(github, 12001, 12002)
    github.promote("v0.7.0", "b12001")
    catalogue.newest("stable", usable)
    github.close()
    found = catalogue.newest("stable", usable)
    assert found.release.tag == "b12001"
    assert "using what it said on" in found.note


def test_a_pointer_that_breaks_off_is_fetched_again(github, catalogue):
    fill(github, 12001, 12001)
    github.promote("v0.7.0", "b12001")
    github.storage.fault(github.stored("v0.7.0", "nightly-tag.txt"), cut(3))
    assert catalogue.newest("stable", usable).release.tag == "b12001"


def test_the_pinned_release_is_also_the_stable_one_without_another_request(github, catalogue):
    github.promote("v0.6.0", DEFAULT_TAG)
    found = catalogue.newest("stable", lambda _: "")
    assert found.release.origin == "lock file"
    assert [asset.name for asset in found.release.assets] == [
        asset.name for asset in locked(DEFAULT_TAG).assets
    ]


@pytest.mark.parametrize(
    ("published", "settled"), [("2026-10-05", True), ("2026-10-07T11:00:00Z", False), ("", False)]
)
def test_a_release_settles_a_day_after_it_was_published(published, settled):
    now = datetime(2026, 10, 7, 12, tzinfo=UTC)
    release = replace(locked(DEFAULT_TAG), published=published)
    assert is_settled(release, now) is settled
    assert is_settled(replace(release, assets=()), now) is False
