"""A request for an answer, answers that go in circles, and what stays of one that is stopped."""

from __future__ import annotations

import pytest
import requests

from supervisor.cli import chat as chatting
from supervisor.cli.ask import (
    ChatServer,
    ChatWishes,
    StreamedAnswer,
    _is_base,
    goes_in_circles,
    others_of,
    said_by,
    until_it_repeats,
)
from supervisor.errors import NetworkError
from supervisor.model import demo
from supervisor.model.demo import ensure_demo
from supervisor.model.gguf_writer import write_gguf
from supervisor.paths import Paths

QUESTION = [{"role": "user", "content": "hi"}]
REFRAIN = "The capital of France is Paris, and so on.\n"


def test_the_wishes_are_in_the_request():
    body = ChatServer("u", "k", "m").body(QUESTION, ChatWishes("m", "Be brief.", 7, "low"))
    assert body == {
        "messages": [{"role": "system", "content": "Be brief."}, *QUESTION],
        "stream": True,
        "model": "m",
        "max_tokens": 7,
        "reasoning_effort": "low",
        "chat_template_kwargs": {"reasoning_effort": "low"},
    }
    assert ChatServer("u", "k").body(QUESTION, ChatWishes()) == {"messages": QUESTION, "stream": True}


def test_a_base_model_is_stopped_where_it_would_write_the_next_turn_itself():
    body = ChatServer("u", "k", is_base=True).body(QUESTION, ChatWishes())
    assert "<|im_end|>" in body["stop"]
    assert 0 < body["max_tokens"] <= 1024
    assert ChatServer("u", "k", is_base=True).body(QUESTION, ChatWishes(max_tokens=7))["max_tokens"] == 7


def test_a_model_without_a_chat_template_is_a_base_model(tmp_path):
    paths, base, chat = Paths.under(tmp_path), tmp_path / "base.gguf", ensure_demo(tmp_path)
    values = demo._values(demo._tokens(demo._script()))
    del values["tokenizer.chat_template"]
    write_gguf(base, values, [])
    assert _is_base({"model": str(base), "argv": ["llama-server"]}, paths)
    assert not _is_base({"model": str(base), "argv": ["llama-server", "--chat-template", "chatml"]}, paths)
    assert not _is_base({"model": str(chat), "argv": ["llama-server"]}, paths)
    assert not _is_base({"model": str(tmp_path / "gone.gguf"), "argv": []}, paths)
    assert not _is_base({}, paths)


@pytest.mark.parametrize(
    ("text", "circles"),
    [
        (REFRAIN * 8, True),
        ("Once. " + "very " * 60, True),
        (REFRAIN * 5, False),
        ("very, " * 6, False),
        ("-" * 500, False),
        ("0, " * 300, False),
        ("| 1 | 2 |\n" * 60, False),
        ("".join(f"Line {number} is another one.\n" for number in range(60)), False),
        ("", False),
    ],
)
def test_only_words_that_come_again_and_again_are_a_circle(text, circles):
    assert goes_in_circles(text) is circles


def test_an_answer_that_goes_in_circles_is_broken_off():
    taken = []

    def babble():
        for number in range(10_000):
            taken.append(number)
            yield StreamedAnswer(text=REFRAIN)

    pieces = list(until_it_repeats(babble()))
    assert pieces[-1] == StreamedAnswer(finish="repeats")
    assert len(taken) < 20
    few = len(taken)
    assert list(until_it_repeats(babble(), patience=4))[-1].finish == "repeats"
    assert len(taken) - few > 3 * few, "a model that may have been told to may repeat more"


@pytest.fixture
def talk(monkeypatch):
    """A conversation whose answers are given; the requests that it sent."""
    sent, script = [], []

    def answers(_server, body):
        sent.append([(each["role"], each["content"]) for each in body["messages"]])
        for piece in script.pop(0):
            if isinstance(piece, BaseException):
                raise piece
            yield StreamedAnswer(text=piece)

    monkeypatch.setattr(chatting, "answers", answers)
    return chatting._Conversation(ChatServer("u", "k"), ChatWishes()), sent, script


def test_what_came_before_an_answer_was_stopped_stays_in_the_conversation(talk, capsys):
    conversation, sent, script = talk
    script += [["Hel", KeyboardInterrupt()], ["fine"]]
    conversation.take("one")
    conversation.take("two")
    assert sent[1] == [("user", "one"), ("assistant", "Hel"), ("user", "two")]
    assert "(stopped)" in capsys.readouterr().err


def test_a_question_without_an_answer_is_taken_back(talk, capsys):
    conversation, sent, script = talk
    script += [[NetworkError("It broke off.", hint="try")], [KeyboardInterrupt()], ["fine"]]
    for word in ("one", "two", "three"):
        conversation.take(word)
    assert sent[2] == [("user", "three")]
    assert "error: It broke off.\nhint: try" in capsys.readouterr().err


def test_clear_forgets_and_other_words_with_a_slash_are_for_the_model(talk, capsys):
    conversation, sent, script = talk
    script += [["a"], ["b"]]
    conversation.take("one")
    for command in ("/clear", "/help", "/?", "/nothing"):
        conversation.take(command)
    conversation.take("/etc/hosts: what is it?")
    assert sent == [[("user", "one")], [("user", "/etc/hosts: what is it?")]]
    said = capsys.readouterr().err
    assert said.count("/clear  forget") == 3
    assert "There is no /nothing." in said


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["one"], "one"),
        (["one \\", "two\\", "three"], "one \ntwo\nthree"),
        (['"""one', "", 'two"""'], "one\n\ntwo"),
        (['"""', "one", '"""'], "one"),
        (['"""one"""'], "one"),
        (["/bye"], None),
        ([EOFError()], None),
        ([KeyboardInterrupt()], ""),
        (["one\\", KeyboardInterrupt()], ""),
    ],
)
def test_a_message_may_have_several_lines(monkeypatch, lines, message):
    def typed(_prompt):
        line = lines.pop(0)
        if isinstance(line, BaseException):
            raise line
        return line

    monkeypatch.setattr("builtins.input", typed)
    assert chatting._next_message() == message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"error": {"message": "This is a worker.", "code": "a_worker"}}', "This is a worker."),
        ('{"error": "no"}', '{"error": "no"}'),
        ("not JSON\n", "not JSON"),
    ],
)
def test_an_error_is_told_in_its_own_words(body, said):
    response = requests.Response()
    response._content = body.encode()
    assert said_by(response) == said


def test_an_unknown_model_may_be_at_a_peer_that_is_down():
    assert others_of(["mini", "big"], {"big"}) == ", and what the peers mini, big (down) have"
    assert others_of([], ()) == ""
