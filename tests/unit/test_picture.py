"""The picture of a terminal: what was written over is gone, and what is drawn is sound XML."""

from __future__ import annotations

import sys
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .test_docs import DOCS, ROOT, generator

if sys.platform == "win32":
    pytest.skip("there are no pseudo-terminals", allow_module_level=True)
picture = generator("make_picture")
SVG = "{http://www.w3.org/2000/svg}"


BLANK = picture._BLANK


def words(lines):
    return ["".join(piece.text for piece in line) for line in lines]


def test_a_line_that_was_written_over_is_shown_as_it_was_left():
    assert words(picture.lines_of("  10 %\r\x1b[2K  90 %\r\n done\r\n")) == ["  90 %", " done"]


def test_dim_text_is_told_apart_until_it_ends_lines_later():
    one, two = picture.lines_of("a\x1b[2mb\r\nc\x1b[0md\r\n")
    assert [(piece.text, piece.look) for piece in (*one, *two)] == [
        ("a", "said"), ("b", "dim"), ("c", "dim"), ("d", "said")
    ]  # fmt: skip


@given(st.text(st.characters(exclude_characters="\n\r\x1b", exclude_categories=["C"]), max_size=400))
def test_a_long_line_is_folded_and_nothing_of_it_lost(text):
    lines = picture.lines_of(text)
    assert "".join(words(lines)) == text
    assert max(map(len, words(lines))) <= picture.COLUMNS
    drawn = ET.fromstring(picture.svg(lines))
    assert "".join(each.text for each in drawn.iter(f"{SVG}text")).replace(BLANK, " ") == "".join(
        piece for piece in words(lines) if piece.strip()
    ).replace(BLANK, " ")


def test_the_picture_in_the_docs_is_of_the_demo_and_is_shown_on_the_first_page():
    drawn = ET.parse(DOCS / "picture.svg")
    texts = [each.text.replace(BLANK, " ") for each in drawn.iter(f"{SVG}text")]
    commands = [each for each in texts if each.startswith("$ ")]
    assert commands[0] == "$ goss-supervisor start --profile demo --detach"
    assert any(each.startswith("$ kill -9 ") for each in commands)
    assert "docs/picture.svg" in (ROOT / "README.md").read_text(encoding="utf-8")
