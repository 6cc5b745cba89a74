"""What clients of the daemon may have it run: no word of theirs is an option, and no argument is unchecked."""

from __future__ import annotations

import re

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.cli.app import program
from supervisor.daemon.job_commands import JOB_COMMANDS, checked_command
from supervisor.errors import PermissionDenied, UsageError

RIGHT = {
    "profile": "mine",
    "profiles": ["mine", "other"],
    "server": "mine",
    "model": "owner/name:Q4_K_M",
    "scenario": ["chat"],
    "goal": "balanced",
    "budget": "20m",
    "seconds": "30",
    "fix": ["threads"],
    "vary": ["ubatch-size=512,1024"],
    "since": "2026-11-01",
    "by": "key",
    "query": "qwen coder 7b",
    "id": "mine-1",
    "tag": "b11429",
    "a": "mine-1",
    "b": "mine",
    "text": "model: demo\n",
    "based_on": "0" * 64,
    "from": "demo",
}


def command_of(words):
    """The command that these words begin with, and the words behind it."""
    group: click.Command = program
    words = list(words)
    while isinstance(group, click.Group) and words and not words[0].startswith("-"):
        found = group.get_command(click.Context(group), words[0])
        if found is None:
            break
        group, words = found, words[1:]
    return group, words


@pytest.mark.parametrize("name", JOB_COMMANDS)
def test_each_command_is_one_of_the_program_and_takes_what_it_is_given(name):
    arguments = {
        each: True if not about.pattern else RIGHT[each]
        for each, about in JOB_COMMANDS[name].arguments.items()
    }
    asked = checked_command(name, arguments)
    command, words = command_of(asked.words)
    context = command.make_context(command.name, words, resilient_parsing=False)
    assert context.params.get("as_json") is True
    assert not {"--", "--json"} & set(asked.shown.split())
    needed = {each: RIGHT[each] for each, about in JOB_COMMANDS[name].arguments.items() if about.needed}
    checked_command(name, needed)
    for each in needed:
        with pytest.raises(UsageError, match=f"needs the argument {each}"):
            checked_command(name, {key: value for key, value in needed.items() if key != each})


def test_names_follow_the_options_and_people_see_the_command_as_they_would_type_it():
    asked = checked_command("bench", {"profiles": ["a", "b"], "scenario": ["chat"], "polite": True})
    assert asked.words == ("bench", "--json", "--scenario=chat", "--polite", "--", "a", "b")
    assert asked.shown == "bench --scenario=chat --polite a b"
    assert checked_command("tune", {"profile": "a"}).words == ("tune", "--json", "--yes", "--", "a")
    assert checked_command("load", {"profile": "a", "alone": False}).words == ("load", "--json", "--", "a")


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        ("rm", {}, "There is no command 'rm'"),
        ("load", {}, "load needs the argument profile"),
        ("load", {"profile": "a", "force": True}, "load has no argument 'force'"),
        ("load", {"profile": "a", "alone": "yes"}, "alone must be true or false"),
        ("load", {"profile": ["a"]}, "profile must be the name of a profile"),
        ("load", {"profile": "../a"}, "profile must be the name of a profile"),
        ("load", {"profile": "a" * 101}, "profile must be the name of a profile"),
        ("load", {"profile": "a\n"}, "profile must be the name of a profile"),
        ("bench", {"profiles": "a"}, "profiles must be a list of at most 20 texts"),
        ("bench", {"profiles": ["a"] * 21}, "profiles must be a list of at most 20 texts"),
        ("bench", {"profiles": []}, "profiles must be a list that is not empty"),
        ("bench", {"profiles": ["a", 1]}, "profiles must be the name of a profile"),
        ("tune", {"profile": "a", "budget": "--yes"}, "budget must be a time"),
        ("tune", {"profile": "a", "vary": ["a=1\n"]}, "vary must be KEY"),
        ("pull", {"model": "a" * 301}, "model must be a repository"),
        ("search", {"query": "-x"}, "query must be a text of one line"),
    ],
)
def test_what_is_not_in_the_table_is_refused_with_a_sentence(name, arguments, why):
    with pytest.raises(UsageError, match=re.escape(why)):
        checked_command(name, arguments)


def test_who_may_not_edit_writes_no_profile():
    text = {"profile": "a", "text": "model: demo", "based_on": "0" * 64}
    for name, arguments in (("profile-save", text), ("profile-new", {"profile": "a", "from": "b"})):
        checked_command(name, arguments)
        with pytest.raises(PermissionDenied, match="needs a session"):
            checked_command(name, arguments, can_edit=False)
    checked_command("profile-check", {"profile": "a", "text": ""}, can_edit=False)


@given(st.sampled_from(sorted(JOB_COMMANDS)), st.data())
def test_no_text_of_a_client_becomes_an_option(name, data):
    text = st.text(max_size=30) | st.text("-=a/.\n\0 ", max_size=8)
    values = {
        each: data.draw(
            st.booleans() if not about.pattern else st.lists(text, max_size=3) if about.most > 1 else text
        )
        for each, about in JOB_COMMANDS[name].arguments.items()
    }
    try:
        asked = checked_command(name, values)
    except UsageError:
        return
    behind = asked.words[len(JOB_COMMANDS[name].words) :]
    options = {about.option for about in JOB_COMMANDS[name].arguments.values()}
    before = behind[: behind.index("--")] if "--" in behind else behind
    assert all(word.partition("=")[0] in options for word in before)
    assert not any("\0" in word for word in behind)
    assert not any(word.startswith("-") for word in behind[len(before) + 1 :])
