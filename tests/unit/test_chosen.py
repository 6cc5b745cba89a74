from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from supervisor.engine.install_context import KEPT, Chosen
from supervisor.engine.inventory import key_of
from supervisor.errors import SupervisorError

KEY = key_of("ggml-org/llama.cpp", "b11434", "cuda-13.4")
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # every step is forced to the disk elsewhere
channels = st.sampled_from(["stable", "nightly"])
tags = st.integers(0, KEPT + 3).map("b{}".format)


@pytest.fixture
def chosen(tmp_path: Path) -> Chosen:
    return Chosen(tmp_path / "state" / "engines.json")


def test_nothing_is_chosen_at_first(chosen: Chosen) -> None:
    assert chosen.tags("stable") == ()
    assert chosen.bad(KEY) == ""
    assert chosen.back("stable") is None
    assert not chosen.file.exists()


def test_the_newest_choice_comes_first_and_a_rollback_takes_it_back(chosen: Chosen) -> None:
    for tag in ("b1", "b3", "b2"):
        chosen.choose("stable", tag)
    assert chosen.tags("stable") == ("b2", "b3", "b1")
    assert chosen.back("stable") == "b3"
    assert chosen.back("stable") == "b1"
    assert chosen.back("stable") is None
    assert chosen.tags("stable") == ("b1",)
    assert chosen.tags("nightly") == ()


def test_a_tag_chosen_again_moves_to_the_front(chosen: Chosen) -> None:
    for tag in ("b1", "b2", "b1"):
        chosen.choose("nightly", tag)
    assert chosen.tags("nightly") == ("b1", "b2")


def test_a_bad_build_is_remembered_with_its_reason_until_it_is_forgiven(chosen: Chosen) -> None:
    chosen.mark_bad(KEY, "31.2 tokens/s, 68 % of what b11429 gave")
    assert Chosen(chosen.file).bad(KEY) == "31.2 tokens/s, 68 % of what b11429 gave"
    assert chosen.bad(key_of("ggml-org/llama.cpp", "b11434", "vulkan")) == ""
    chosen.forgive(KEY)
    assert chosen.bad(KEY) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"tags": {}}',
        '{"tags": [], "bad": {}}',
        '{"tags": {"stable": 1}, "bad": {}}',
        "\ufeff",
    ],
)
def test_a_file_that_cannot_be_read_holds_nothing_and_is_written_anew(chosen: Chosen, text: str) -> None:
    chosen.file.parent.mkdir()
    chosen.file.write_text(text, "utf-8")
    assert chosen.tags("stable") == ()
    assert chosen.bad(KEY) == ""
    chosen.choose("stable", "b1")
    assert chosen.tags("stable") == ("b1",)


def test_a_file_that_cannot_be_written_is_an_error_in_words(chosen: Chosen) -> None:
    chosen.file.mkdir(parents=True)
    with pytest.raises(SupervisorError, match=r"engines\.json cannot be written"):
        chosen.choose("stable", "b1")
    assert [each.name for each in chosen.file.parent.glob("*.new")] == []


CHOOSING = """
import sys
from pathlib import Path
from supervisor.engine.install_context import Chosen
for number in range(20):
    Chosen(Path(sys.argv[1])).mark_bad(f"{sys.argv[2]} {number}", "slow")
"""


def test_two_processes_lose_nothing_of_each_other(chosen: Chosen) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", CHOOSING, str(chosen.file), name]) for name in ("a", "b")
    ]
    assert [child.wait(60) for child in children] == [0, 0]
    assert all(chosen.bad(f"{name} {number}") == "slow" for name in ("a", "b") for number in range(20))


class AnySequence(RuleBasedStateMachine):
    """Against a list for each channel and a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY)
        self.chosen = Chosen(Path(self.folder.name) / "engines.json")
        self.tags: dict[str, list[str]] = {"stable": [], "nightly": []}
        self.bad: dict[str, str] = {}

    @rule(channel=channels, tag=tags)
    def choose(self, channel: str, tag: str) -> None:
        self.chosen.choose(channel, tag)
        rest = [each for each in self.tags[channel] if each != tag]
        self.tags[channel] = [tag, *rest][:KEPT]

    @rule(channel=channels)
    def back(self, channel: str) -> None:
        if len(self.tags[channel]) > 1:
            self.tags[channel].pop(0)
            assert self.chosen.back(channel) == self.tags[channel][0]
        else:
            assert self.chosen.back(channel) is None

    @rule(key=tags, reason=st.text(min_size=1))
    def mark_bad(self, key: str, reason: str) -> None:
        self.chosen.mark_bad(key, reason)
        self.bad[key] = reason

    @rule(key=tags)
    def forgive(self, key: str) -> None:
        self.chosen.forgive(key)
        self.bad.pop(key, None)

    @invariant()
    def holds(self) -> None:
        for channel, expected in self.tags.items():
            assert self.chosen.tags(channel) == tuple(expected)
            assert len(set(expected)) == len(expected)
        assert self.chosen._json.known().bad == self.bad  # read once, not for each mark

    def teardown(self) -> None:
        self.folder.cleanup()


test_any_sequence_keeps_tags_unique_and_newest_first_and_never_loses_a_bad_mark = AnySequence.TestCase
