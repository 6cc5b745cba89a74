"""
The page's views Hardware, Profiles, Charts, Usage and Jobs in a real browser, with the real daemon.

Its servers are scripts whose speed their options decide.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from supervisor.files import write_json
from supervisor.paths import Paths
from supervisor.tune.tuning_journal import result_file

from ..fakes.binaries import fake_server
from .chromium import Chromium
from .conftest import Home, free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the scripted server is a shell script")

AXE = Path(__file__).parents[1] / "page/node_modules/axe-core/axe.min.js"
FINDINGS = """axe.run(document, {resultTypes: ['violations'], %s}).then(found => found.violations.map(
    each => [each.id, each.nodes.length, each.nodes[0].html, each.nodes[0].failureSummary].join(' ')))"""
SCREENS = ((1280, "light", ""), (390, "dark", "runOnly: ['color-contrast', 'scrollable-region-focusable']"))
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
YES = "(it => it && (it.click(), true))(document.querySelector('dialog button[value=yes]'))"
VIEWS = {
    "hardware": "What detect finds",
    "profiles": "A tiny model with a scripted answer",
    "profiles/mine": "It fits into memory.",
    "profiles/mine/edit": "No mistakes.",
    "profiles/demo/copy": "Yours extends demo",
    "charts": "mine-1",
    "charts/result/mine-1": "Time to the first token",
    "charts/compare/mine-1/coder-1": "coder-1 is 50% faster",
    "charts/tune/mine": "1.50 times as fast as mine for chat",
    "usage/model": "Requests today",
    "jobs/pull": "A download does not disturb any server",
    "jobs/update": "Check for an update",
    "jobs/bench/mine": "batch: 8 clients at once",
    "jobs/tune/mine": "Answers stay the same",
}
CHART = {"title": "prompt, tokens per second, by ubatch-size", "x_label": "ubatch-size"}
SPEED = {"value": 400.0, "low": 390.0, "high": 410.0}
TUNED = {
    "profile": "mine", "at": "2026-11-30T08:00:00+00:00", "goal": "chat", "result": "faster", "why": "",
    "ratio": 1.5, "ratio_low": 1.4, "ratio_high": 1.6, "file": "mine-tuned.yaml", "former_file": None, "seconds": 60,
    "settings": [{"key": "server.ubatch-size", "was": "512", "is": "1024", "effect": "+50 % prompt"}],
    "explained": [], "disturbed": [], "trials": [],
    "charts": [{**CHART, "lines": [{"label": "all else as in the best", "points": [[512, SPEED], [1024, SPEED]]}]}],
}  # fmt: skip


class PageHome(Home):
    """Two profiles of the user's, results of bench and tune, and a key that opens the page."""

    def __init__(self, root):
        super().__init__(root, port=free_port())
        speeds = {"prompt": 400.0, "answer": 40.0, "rules": [["--ubatch-size", "1024", 1.5, 1.0]]}
        engine = fake_server(root / "engine" / "llama-server", speeds=speeds)
        for name, more in (("mine", ""), ("coder", "  ubatch-size: 1024\n")):
            text = f"model: demo\nengine: {{source: path, path: {engine}}}\nserver:\n  ctx-size: 8192\n{more}"
            self.profile(name, text)
        write_json(result_file(Paths.under(root), "mine"), TUNED)
        self.start("mine")
        self.key = self.run("key", "add", "boss", "--scope", "admin").stdout.strip()
        self.run("bench", "mine", "coder", "--seconds", "1")

    def text_of(self, profile):
        return (self.root / "config" / "profiles" / f"{profile}.yaml").read_text()

    def open(self, page, view):
        """As somebody who has logged in."""
        address = f"http://127.0.0.1:{self.port}/supervisor/"
        page.go(address)
        page.shows("Admin key")
        body = json.dumps({"key": self.key})
        told = "headers: {'content-type': 'application/json'}"
        status = page.run(
            f"fetch('session', {{method: 'POST', {told}, body: {body!r}}}).then(it => it.status)"
        )
        assert status == 204
        page.run(f"location.hash = {view!r}")
        page.reload()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    made = PageHome(tmp_path_factory.mktemp("home"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = Chromium(tmp_path_factory.mktemp("browser") / "chromium")
    yield made
    made.close()


@pytest.fixture
def page(browser):
    browser.fresh()
    yield browser
    browser.ask("Page.navigate", url="about:blank")  # its commands end with it


def type_into_the_editor(page, before, after):
    """Replace a part of the text as the browser does for a person who types."""
    area = "document.querySelector('.editor textarea')"
    page.until(f"{area}?.value.includes({before!r})")
    page.run(
        f"(area => {{ const at = area.value.indexOf({before!r}); area.focus();"
        f" area.setSelectionRange(at, at + {len(before)}); }})({area})"
    )
    page.ask("Input.insertText", text=after)


def looks(page, width, scheme):
    page.ask(
        "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
    )
    page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


def test_all_views_can_be_read_by_everybody_and_are_no_wider_than_their_screen(page, home):
    home.open(page, "now")
    found = []
    for view, text in VIEWS.items():
        page.run(f"location.hash = {view!r}")
        page.shows(text)
        page.run("document.querySelectorAll('.view details').forEach(each => each.open = true)")
        for width, scheme, rules in SCREENS:
            looks(page, width, scheme)
            if wider := page.run(WIDER):
                found.append((view, scheme, f"{wider} px too wide"))
            if AXE.is_file():  # bin/check installs it, where node is
                page.run(f"window.axe || ({{}}, eval)({json.dumps(AXE.read_text())}), 0")
                found += [(view, scheme, each) for each in page.run(FINDINGS % rules)]
    assert found == []
    assert page.complaints == []


def test_a_mistake_is_shown_at_its_line_and_only_what_is_right_is_saved(page, home):
    before = home.text_of("coder")
    home.open(page, "profiles/coder/edit")
    type_into_the_editor(page, "ubatch-size: 1024", "ubatch-siez: 1024")
    page.shows("1 mistake: it cannot be saved like this.")
    assert page.run("document.querySelector('.gutter .error').innerText") == "5"
    assert "did you mean ubatch-size?" in page.run("document.querySelector('.problems').innerText")
    assert page.run("document.querySelector('.editor textarea').ariaInvalid") == "true"
    page.click("Line 5")
    selected = page.run("(it => it.value.slice(it.selectionStart, it.selectionEnd))(document.activeElement)")
    assert "ubatch-siez" in selected
    assert page.run("[...document.querySelectorAll('button')].find(it => it.innerText === 'Save').disabled")
    assert home.text_of("coder") == before

    type_into_the_editor(page, "ubatch-siez: 1024", "ubatch-size: 512")
    page.shows("No mistakes.")
    page.click("Save")
    page.until("document.querySelector('dialog .diff')")
    changes = "[...document.querySelectorAll('.diff .removed, .diff .added')].map(it => it.innerText)"
    assert [each.split("\n")[-1].strip() for each in page.run(changes)] == [
        "ubatch-size: 1024",
        "ubatch-size: 512",
    ]
    page.until(YES)
    page.shows("The previous text is kept as")
    assert home.text_of("coder") == before.replace("1024", "512")
    assert (home.root / "config/profiles/coder.yaml~").read_text() == before


def test_what_was_typed_stays_until_it_is_saved_or_discarded(page, home):
    home.open(page, "profiles/coder/edit")
    type_into_the_editor(page, "ctx-size: 8192", "ctx-size: 4096")
    page.run("location.hash = 'charts'")
    page.shows("Benchmarks")
    page.run("location.hash = 'profiles/coder/edit'")
    page.shows("What you typed is not saved yet")
    assert "ctx-size: 4096" in page.run("document.querySelector('.editor textarea').value")
    page.click("Discard")
    page.until(YES)
    page.until("document.querySelector('.editor textarea').value.includes('ctx-size: 8192')")


def test_a_server_with_the_text_before_is_offered_a_restart(page, home):
    digest = home.status()["servers"][0]["digest"]
    home.open(page, "profiles/mine/edit")
    type_into_the_editor(page, "ctx-size: 8192", "ctx-size: 4096")
    page.shows("No mistakes.")
    page.click("Save")
    page.until(YES)
    page.shows("mine still runs the previous text.")
    page.click("Restart mine")
    page.until(YES)
    page.shows("Restart mine: done")
    now = home.watch_for(lambda now: now["servers"][0]["state"] == "ready")
    assert now["servers"][0]["digest"] != digest


def test_of_a_shipped_profile_one_makes_ones_own(page, home):
    home.open(page, "profiles/demo")
    page.until(
        "(it => it && (it.click(), true))(document.querySelector('a.button[href=\"#profiles/demo/copy\"]'))"
    )
    page.fill("form.narrow input", "mine")
    page.shows("You have a profile mine already.")
    page.fill("form.narrow input", "tiny")
    page.click("Make it and edit it")
    page.shows("Edit tiny")
    assert "extends: demo" in home.text_of("tiny")


def test_a_measurement_is_asked_for_watched_and_kept(page, home):
    home.open(page, "jobs/bench/mine")
    page.click("Measure…")
    page.shows("mine: requests wait meanwhile")
    page.until(YES)
    page.until("document.querySelector('.card.job')?.innerText.includes('bench --scenario=chat mine')")
    page.until("!document.querySelector('.card.job') && document.body.innerText.includes('Chart of mine-2')")
    page.shows("Measure mine: done")
    assert "mine-2" in home.run("bench", "ls").stdout


def test_a_tuning_is_cancelled_and_the_server_is_back(page, home):
    home.open(page, "jobs/tune/mine")
    page.click("Tune…")
    page.until(YES)
    page.until("document.querySelector('.job-line')?.innerText.includes('trial ')")
    page.click("Cancel job")
    page.shows("Start the same job again to continue from there")
    page.until(YES)
    page.shows("Tune mine: cancelled")
    now = home.watch_for(
        lambda now: now["servers"][0]["state"] == "ready" and not now["servers"][0]["held_by"]
    )
    assert now["servers"][0]["profile"] == "mine"
