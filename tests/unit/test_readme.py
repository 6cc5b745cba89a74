"""The README: short, and its Japanese version has the same commands and machines."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def commands(readme):
    """All lines of its console blocks, without the comments."""
    blocks = re.findall(r"^```console\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line.partition("  # ")[0].rstrip() if line.startswith("$") else line for line in lines]


def machines(readme):
    """Of each row of the first table: the profiles, and all numbers of the rest."""
    table = re.search(r"(?:^\|.*\n)+", readme, re.MULTILINE)[0]
    rows = [row.strip("|\n").split("|") for row in table.splitlines()[2:]]
    return [(re.findall(r"`([^`]+)`", row[0]), re.findall(r"[\d.]+", " ".join(row[1:]))) for row in rows]


def test_the_japanese_readme_has_the_commands_and_machines_of_the_english_one():
    english, japanese = text("README.md"), text("README.ja.md")
    assert len(commands(english)) > 8
    assert commands(japanese) == commands(english)
    assert len(machines(english)) > 8
    assert machines(japanese) == machines(english)


def test_the_table_names_all_profiles_that_have_a_machine_and_no_other():
    named = {name for names, _ in machines(text("README.md")) for name in names}
    shipped = {file.stem for file in (ROOT / "profiles").glob("*.yaml")}
    assert named <= shipped
    assert {name for name in shipped if "match:" in text(f"profiles/{name}.yaml")} <= named


def test_the_readme_is_short_and_names_the_two_commands_and_both_languages():
    readme = text("README.md")
    assert len(readme.splitlines()) <= 120
    assert [
        each
        for each in ("$ bin/goss-supervisor start ", "$ bin/test ", "](README.ja.md)")
        if each not in readme
    ] == []
