"""``run`` and ``chat`` on a real terminal, against a real server."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from supervisor.model.demo import DEMO_ANSWER

from .terminals import CTRL_C, CTRL_D, open_terminal

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals"),
]


def test_run_starts_what_does_not_run_and_a_person_talks_with_it(built_home):
    command = built_home.command("run", "demo", *built_home.settings)
    chat = open_terminal(command, built_home.env | {"TERM": "dumb"})
    built_home.started.append(chat.process)

    def reads_to(words: str) -> str:
        """What it said up to these words; they are looked for in what comes after that only."""
        chat.until(words)
        before, _, chat.said = chat.said.partition(words)
        return before

    reads_to(">>> ")
    server = built_home.status()["server"]
    assert (server["profile"], server["state"]) == ("demo", "ready")

    os.kill(server["pid"], signal.SIGSTOP)  # no answer can come before it was stopped
    chat.type("Who are you?\n")
    reads_to("reading the question")
    chat.type(CTRL_C)
    reads_to("(stopped)")
    reads_to(">>> ")
    os.kill(server["pid"], signal.SIGCONT)

    chat.type("What are \\\nyou?\n")
    answer = " ".join(reads_to("tok/s").split())
    assert DEMO_ANSWER in answer
    reads_to(">>> ")
    chat.type("/clear\n")
    reads_to("The conversation is forgotten.")
    reads_to(">>> ")
    chat.type(CTRL_D)
    assert chat.end() == 0, chat.said
    os.close(chat.screen)
    assert built_home.status()["server"]["pid"] == server["pid"], "it goes on running"
    typed = (built_home.root / "state" / "chat-history").read_text()
    assert "Who are you?\n" in typed
    assert "/clear\n" in typed

    again = built_home.run("run", "demo", "Hello?", input="and more")
    assert again.stdout.strip() == DEMO_ANSWER, "stdout has the answer alone"
