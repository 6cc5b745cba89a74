"""The man pages and completions in share/ are those of the commands as they are."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.cli.app import COMMANDS

ROOT = Path(__file__).parents[2]
SHARE = ROOT / "share"


def _generator():
    spec = importlib.util.spec_from_file_location("make_man", ROOT / "docs" / "make_man.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_man = _generator()
PAGES = make_man.pages()


def test_what_is_shipped_is_as_the_commands_are_now():
    shipped = {
        file.relative_to(SHARE).as_posix(): file.read_text(encoding="utf-8") for file in make_man.shipped()
    }
    assert shipped == make_man.files(), "run: bin/check --fix (or python docs/make_man.py)"


def test_every_command_has_a_page_and_is_on_the_first():
    assert set(PAGES) == {"goss-supervisor"} | {f"goss-supervisor-{name}" for name in COMMANDS}
    for name in COMMANDS:
        assert make_man.roff(f"goss-supervisor-{name}") in PAGES["goss-supervisor"]


def test_hidden_commands_and_options_are_on_no_page():
    assert "prepare" not in PAGES["goss-supervisor-service"]
    assert make_man.roff("--by-request") not in PAGES["goss-supervisor-switch"]


def test_the_commands_of_a_group_are_on_its_page():
    assert ".SS goss\\-supervisor key add [OPTIONS] NAME\n" in PAGES["goss-supervisor-key"]
    assert ".B \\-\\-scope" in PAGES["goss-supervisor-key"]


@given(st.text(st.characters(exclude_categories=["C"])))
def test_no_text_becomes_a_request_and_all_is_ascii(text):
    made = make_man.roff(text)
    assert made.isascii()
    assert not made.startswith((".", "'"))
    assert "-" not in made.replace("\\-", "")


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
@pytest.mark.parametrize("name", sorted(PAGES))
def test_groff_has_nothing_to_say_of_a_page(name):
    command = ["groff", "-man", "-Tutf8", "-ww", "-z"]
    result = subprocess.run(
        command, input=PAGES[name], capture_output=True, text=True, check=True, timeout=60
    )
    assert (result.stdout, result.stderr) == ("", "")
