"""The page's JavaScript without a browser: its own tests, in node."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "page"
STATIC = Path(__file__).parents[2] / "supervisor/gateway/pages/static"
MOST_LINES = 400
MAKES_MARKUP = re.compile(r"(?:inner|outer)HTML|insertAdjacentHTML|document\.write|\beval\(|new Function")
NAMES = {"http://www.w3.org/2000/svg"}  # of a kind of document, never asked for


@pytest.mark.parametrize("script", sorted(PAGE.glob("*.test.js")), ids=lambda path: path.stem)
def test_the_scripts_of_the_page_keep_their_promises(script):
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node")
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    if tuple(map(int, version.strip("v\n").split(".")[:2])) < (20, 19):
        pytest.skip(f"node {version.strip()} is older than 20.19")
    done = subprocess.run(
        [node, "--no-warnings", "--test", str(script)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_runs_nothing_that_its_policy_forbids():
    page = (STATIC / "index.html").read_text("utf-8")
    assert page.count("<script") == page.count('<script type="module" src="static/')
    assert " style=" not in page
    assert " on" not in page.replace(" on ", "")
    assert "http" not in page


@pytest.mark.parametrize("script", sorted(STATIC.glob("*.js")), ids=lambda path: path.name)
def test_a_script_asks_no_other_host_and_makes_no_markup_of_texts(script):
    text = script.read_text("utf-8")
    assert not MAKES_MARKUP.search(text)
    assert set(re.findall(r"https?://[^\"'` )]+", text)) <= NAMES
    assert script.name == "words.js" or len(text.splitlines()) <= MOST_LINES
