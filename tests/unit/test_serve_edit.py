"""Entries of ``serve`` come and go, and all else that people wrote in config.yaml stays as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import ConfigError, NotFound, UsageError
from supervisor.profile.load_layers import settings_from
from supervisor.profile.serve_edit import with_pinned, with_served, without_served
from supervisor.profile.served_profile import ServedProfile

FILE = "config.yaml"
BLOCK = """\
# mine
engine: {channel: nightly}   # the newest

serve:
  - big        # for work
  # for embeddings:
  - profile: small
    pinned: true   # never goes

# the rest
gateway:
  idle-unload: 30m
"""


def served(text):
    found = settings_from(text.encode(), FILE)
    assert not found.layer.problems
    return [replace(each, origin=None) for each in found.serve]


def test_the_first_entry_makes_the_section():
    assert with_served("", FILE, ServedProfile("big")) == "serve:\n  - big\n"
    assert with_served("# mine\nengine: {channel: nightly}", FILE, ServedProfile("big")) == (
        "# mine\nengine: {channel: nightly}\nserve:\n  - big\n"
    )


def test_terms_are_written_in_a_line_as_a_person_would():
    text = with_served("", FILE, ServedProfile("a", False, True, 5, 600))
    expected = "{profile: a, load: false, pinned: true, priority: 5, idle-unload: 10m}"
    assert text == f"serve:\n  - {expected}\n"
    assert with_served("", FILE, ServedProfile("a", idle_unload_seconds=0)).endswith("idle-unload: off}\n")


def test_an_entry_comes_last_and_all_comments_stay():
    lines = BLOCK.splitlines(keepends=True)
    assert with_served(BLOCK, FILE, ServedProfile("third")) == "".join(
        [*lines[:8], "  - third\n", *lines[8:]]
    )


def test_an_entry_goes_with_its_lines_and_nothing_else():
    lines = BLOCK.splitlines(keepends=True)
    assert without_served(BLOCK, FILE, "small") == "".join([*lines[:6], *lines[8:]])
    assert without_served(BLOCK, FILE, "big") == "".join([*lines[:4], *lines[5:]])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("serve: []\n", "serve: [x]\n"),
        ("serve: [a, b]  # mine\n", "serve: [a, b, x]  # mine\n"),
        ("serve: [\n  a,\n  b  # last\n]\n", "serve: [\n  a,\n  b, x  # last\n]\n"),
        ("serve:   # nothing yet\nengine: {channel: nightly}\n", None),
        ("serve:\n- a\n", "serve:\n- a\n- x\n"),
        ("serve:\n    - a", "serve:\n    - a\n    - x\n"),
        ("serve:\r\n  - a\r\n", "serve:\r\n  - a\r\n  - x\r\n"),
    ],
)
def test_the_list_keeps_its_form(before, after):
    expected = "serve:   # nothing yet\n  - x\nengine: {channel: nightly}\n" if after is None else after
    assert with_served(before, FILE, ServedProfile("x")) == expected


@pytest.mark.parametrize(
    ("before", "name", "after"),
    [
        ("serve: [a, b, c]\n", "a", "serve: [b, c]\n"),
        ("serve: [a, b, c]\n", "b", "serve: [a, c]\n"),
        ("serve: [a, b, c]  # mine\n", "c", "serve: [a, b]  # mine\n"),
        ("serve: [a]\n", "a", "serve: []\n"),
        ("serve:  # mine\n  - a\n# end\n", "a", "serve: []  # mine\n# end\n"),
    ],
)
def test_what_goes_leaves_the_form_alone(before, name, after):
    assert without_served(before, FILE, name) == after


def test_what_is_served_already_is_told_with_its_place():
    with pytest.raises(UsageError, match=r"big is served already: config\.yaml:5:5"):
        with_served(BLOCK, FILE, ServedProfile("big"))


def test_what_is_not_served_cannot_go():
    with pytest.raises(NotFound, match=r"does not serve smal\. Did you mean small"):
        without_served(BLOCK, FILE, "smal")


def test_a_broken_file_is_told_and_not_changed():
    with pytest.raises(ConfigError, match=r"config\.yaml:1:9: engine"):
        with_served("engine: 5\n", FILE, ServedProfile("x"))


@pytest.mark.parametrize(
    "text",
    [
        "{engine: {channel: nightly}}\n",
        "serve: ~\n",
        "serve: [&one a, {profile: b}]\ngateway: {models: [*one]}\n",
        "serve:\n  -\n    profile: a\n  - b\n",
    ],
)
def test_an_unusual_form_is_changed_rightly_or_refused(text):
    """Never to something else than what was meant."""
    before, x = served(text), ServedProfile("x")
    assert_changed_or_refused(lambda: with_served(text, FILE, x), [*before, x])
    for gone in before:
        left = [each for each in before if each != gone]
        assert_changed_or_refused(lambda gone=gone: without_served(text, FILE, gone.profile), left)


def assert_changed_or_refused(change, meant):
    try:
        after = change()
    except ConfigError as refused:
        problem = str(refused)
    else:
        problem = ""
        assert served(after) == meant
    assert not problem or "cannot change" in problem


def test_a_refusal_says_what_to_write():
    with pytest.raises(ConfigError, match="cannot change") as refused:
        with_served("{engine: {channel: nightly}}\n", FILE, ServedProfile("x", pinned=True))
    assert refused.value.hint == "Write it there: - {profile: x, pinned: true}"


NAMES = st.sampled_from(["a", "b", "c", "null", "on", "3", "1.5", "x-y"])
ENTRIES = st.builds(
    ServedProfile,
    NAMES,
    st.none() | st.booleans(),
    st.booleans(),
    st.integers(-1000, 1000),
    st.none() | st.integers(0, 86400),
)


@given(st.lists(ENTRIES, unique_by=lambda each: each.profile), st.data())
def test_whatever_comes_and_goes_again_leaves_the_rest(entries, data):
    text = BLOCK
    for each in entries:
        text = with_served(text, FILE, each)
    assert served(text) == [*served(BLOCK), *entries]
    for each in data.draw(st.permutations(entries)):
        text = without_served(text, FILE, each.profile)
    assert text == BLOCK


@pytest.mark.parametrize(
    ("entry", "pinned", "unpinned"),
    [
        ("  - a  # mine\n", "  - {profile: a, pinned: true}  # mine\n", "  - {profile: a, pinned: false}  # mine\n"),
        ("  - {profile: a, priority: 2}\n", "  - {profile: a, priority: 2, pinned: true}\n", None),
        ("  - {pinned: false, profile: a}\n", "  - {pinned: true, profile: a}\n", "  - {pinned: false, profile: a}\n"),
        ("  - profile: a  # mine\n    priority: 2\n", "  - profile: a  # mine\n    pinned: true\n    priority: 2\n", None),
        ("  - profile: a\n    pinned: off  # why\n", "  - profile: a\n    pinned: true  # why\n", None),
    ],
)  # fmt: skip
def test_an_entry_is_pinned_where_it_stands(entry, pinned, unpinned):
    text = f"# head\nserve:\n  - other\n{entry}# rest\n"
    changed = with_pinned(text, FILE, "a", pinned=True)
    assert changed == f"# head\nserve:\n  - other\n{pinned}# rest\n"
    assert [each.pinned for each in served(changed)] == [False, True]
    assert served(with_pinned(changed, FILE, "a", pinned=False))[1].pinned is False
    if unpinned:
        assert with_pinned(text, FILE, "a", pinned=False) == text.replace(entry, unpinned)
    assert (
        with_pinned("serve: [other, a]\n", FILE, "a", pinned=True)
        == "serve: [other, {profile: a, pinned: true}]\n"
    )
    with pytest.raises(NotFound, match="does not serve b"):
        with_pinned(text, FILE, "b", pinned=True)
