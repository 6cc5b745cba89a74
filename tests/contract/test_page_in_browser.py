"""The page's frame and its views Now, Requests and Logs in a real browser, with a daemon that tells a story."""

from __future__ import annotations

import json
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from ..e2e.chromium import Chromium
from ..page_fixture import KEY, Handler

AXE = Path(__file__).parents[1] / "page/node_modules/axe-core/axe.min.js"
READ = {
    "now": "Has been answering requests",
    "requests": "of the last",
    "logs/large": "all slots are idle",
    "login": "Admin key",
}
FINDINGS = """axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map(
    each => [each.id, each.nodes.length, each.nodes[0].html, each.nodes[0].failureSummary].join(' ')))"""
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def daemon():
    yield from served(Handler)


@pytest.fixture(scope="module")
def asking_daemon():
    yield from served(type("AskingHandler", (Handler,), {"needs_key": True}))


def served(handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Brief", (handler,), {"kept": 30, "busy": 1.0}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/supervisor/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = Chromium(tmp_path_factory.mktemp("browser") / "chromium")
    yield made
    made.close()


@pytest.fixture
def page(browser):
    browser.fresh()
    return browser


def looks(page, width, scheme):
    page.ask(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=900,
        deviceScaleFactor=1,
        mobile=width < 600,
    )
    wanted = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in wanted.items()]
    page.ask("Emulation.setEmulatedMedia", features=features)


def press(page, label):
    """As a person at a keyboard, so that the focus is there."""
    button = f"[...document.querySelectorAll('button')].find(e => e.ariaLabel === {json.dumps(label)})"
    page.until(f"{button} && ({button}.focus(), {button}.click(), true)")


@pytest.mark.parametrize("screen", [(1280, "light"), (390, "dark")])
@pytest.mark.parametrize("view", READ)
def test_a_view_can_be_read_by_everybody_and_is_no_wider_than_its_screen(
    page, daemon, asking_daemon, view, screen
):
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: bin/check installs it where node is")
    looks(page, *screen)
    page.go(asking_daemon if view == "login" else f"{daemon}#{view}")
    page.shows(READ[view])
    page.run(f"{AXE.read_text()};0")
    assert page.run(FINDINGS) == []
    assert page.run(WIDER) == 0
    assert page.complaints == []


def test_a_row_stays_where_it_is_with_its_focus_while_new_requests_come(page, daemon):
    page.go(f"{daemon}#requests")
    page.until("document.querySelectorAll('tbody tr').length >= 30")
    row = "document.activeElement.closest('tr')"
    page.run(
        "document.querySelector('button.more').focus(), window.row = document.activeElement.closest('tr'), 0"
    )
    page.until("window.row.previousElementSibling")
    assert page.run(f"{row} === window.row")


def test_a_request_shows_its_details_on_demand(page, daemon):
    page.go(f"{daemon}#requests")
    page.until("(it => it && (it.click(), true))(document.querySelector('button.more'))")
    page.shows("Tokens in, cached")
    assert (
        page.run("document.querySelector('[aria-expanded=true]').closest('tr').nextElementSibling.className")
        == "details"
    )


def test_what_is_used_is_stopped_only_after_a_question_and_the_focus_returns(page, daemon):
    page.go(daemon)
    press(page, "Unload: gpt-oss-20b")
    page.shows("It works on 2 requests")
    page.shows("cline · /v1/chat/completions · reads the prompt")
    assert page.run("document.activeElement.innerText") == "Cancel"
    page.run("document.activeElement.click()")
    page.until("!document.querySelector('dialog')")
    assert page.run("document.activeElement.ariaLabel") == "Unload: gpt-oss-20b"
    assert page.run("document.querySelector('.notice') === null")
    press(page, "Unload: gpt-oss-20b")
    page.until("(it => it && (it.click(), true))(document.querySelector('dialog button.danger'))")
    page.shows("Unload gpt-oss-20b: done")


def test_what_becomes_of_an_order_is_told_with_its_hint(page, daemon):
    page.go(daemon)
    press(page, "Load: large")
    page.shows("Load large: large does not fit: it needs 58.0 GiB")
    page.shows("goss-supervisor plan large")
    press(page, "Load: helper")
    page.shows("Load helper: superseded by a later request")
    assert page.run("document.body.innerText.includes('Load large: done')") is False


def test_a_key_that_does_not_open_the_page_says_why_and_one_that_does_leads_where_one_wanted_to_go(
    page, asking_daemon
):
    page.go(f"{asking_daemon}#logs/large")
    for key, answer in (("gs-nonsense", "There is no such key"), ("gs-inference", "only for inference")):
        page.fill("#key", key)
        page.press_enter()
        page.shows(answer)
    page.fill("#key", KEY)
    page.press_enter()
    page.shows("Last failure")
    assert page.run("document.activeElement.tagName") == "H1"


def test_the_code_of_a_link_opens_the_page_and_is_not_left_in_the_address(page, asking_daemon):
    page.go(f"{asking_daemon}#code=once")
    page.shows("Has been answering requests")
    assert page.run("location.hash + history.length") == "2"


def test_a_chosen_language_is_kept(page, daemon):
    page.go(daemon)
    choose = "(it => it && (it.value = 'ja', it.dispatchEvent(new Event('change')), true))"
    page.until(f"{choose}(document.querySelector('.language select'))")
    page.shows("処理中・待機中のリクエスト")
    page.reload()
    page.shows("処理中・待機中のリクエスト")
    assert page.run("document.documentElement.lang") == "ja"


def test_a_log_is_followed_searched_and_paused(page, daemon):
    page.go(f"{daemon}#logs/large")
    page.until("document.querySelectorAll('.log > div').length > 300")
    page.fill("input[type=search]", "OFFLOADING")
    page.until("document.querySelectorAll('.log mark').length >= 60")
    page.shows("lines found")
    page.click("Pause")
    page.shows("since the pause")
    shown = page.run("document.querySelectorAll('.log > div').length")
    page.until("/[2-9] new lines since the pause/.test(document.body.innerText)")
    assert page.run("document.querySelectorAll('.log > div').length") == shown
