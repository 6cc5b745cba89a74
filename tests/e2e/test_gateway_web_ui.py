"""The web UI of llama-server through the gateway, in a real browser; and pages of others, which get nothing."""

from __future__ import annotations

import http.server
import json
import os
import signal
import threading
import time

import pytest

from supervisor.gateway.api.routes import route_of
from supervisor.model.demo import DEMO_ANSWER

from .chromium import Chromium
from .conftest import Home, engine_settings, free_port
from .test_real_models import GEMMA3, MODELS, SMOLLM2

ANSWERED = DEMO_ANSWER.replace("`", "")  # as the page renders it
REPLIES = "[...document.querySelectorAll('[aria-label=\"Assistant message with actions\"]')]"
OWN_REFUSAL = "/tools"  # llama-server answers 403 itself where its tools are not enabled, and the page copes
CHAT = "/v1/chat/completions"
REBOUND, FRIEND = "rebound.example", "friend.example"


def embedded_home(folder):
    """The embedded engine has the pages; the one that is compiled from PyPI's source has none."""
    folder.mkdir()
    return Home(folder, engine_settings("embedded", folder), free_port())


@pytest.fixture
def own_home(tmp_path):
    made = embedded_home(tmp_path / "home")
    yield made
    made.close()


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    made = embedded_home(tmp_path_factory.mktemp("started") / "home")
    made.start("demo", *LONG)
    yield made
    made.close()


@pytest.fixture
def home(started):
    """One for all who need no other: the demo serves, and `activity` is that of this test alone."""
    started.run("load")
    started.before = len(all_activity(started))
    return started


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = Chromium(tmp_path_factory.mktemp("browser") / "chromium", resolves=(REBOUND, FRIEND))
    yield made
    made.close()


@pytest.fixture
def page(browser):
    browser.fresh()
    yield browser
    browser.ask("Page.navigate", url="about:blank")  # what it still asked for ends with its test


@pytest.fixture(scope="module")
def elsewhere():
    """The port of another server on this machine, with an empty page for everybody."""

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title><link rel=icon href=data:,>")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


def address(home, host="127.0.0.1"):
    return f"http://{host}:{home.port}"


ENDLESS = {"ignore_eos": True, "logit_bias": [["\n", 100]]}
"""
The demo gives its answer again and again, each time in a new line: the end is forbidden, and only where every other
word is as unlikely does the bias decide.
"""
READABLE = 50_000  # bytes a second: about as many words as a real model says
LONG = ("--set", "server.ctx-size=32768")  # more than fits between engine and page: the engine has to wait


def with_parameters(page, given):
    """As the page's settings add them to each question."""
    config = json.dumps({"customJson": json.dumps(given)})
    page.run(f"localStorage.setItem('LlamaUi.config', {json.dumps(config)})")
    page.reload()


def asks(page, nth, says=ANSWERED):
    """The nth question of a conversation, typed in, and its answer up to these words."""
    page.fill("textarea", "What are you?")
    page.press_enter()
    page.until(f"({REPLIES}[{nth - 1}]?.innerText ?? '').includes({json.dumps(says)})")


def failures(page):
    return [(status, url) for status, url in page.answers if status >= 400 and not url.endswith(OWN_REFUSAL)]


def complaints(page):
    return [each for each in page.complaints if OWN_REFUSAL not in each]


def settled(page):
    """Its service worker has taken copies of all the page's files, so nothing is asked for behind our back."""
    page.run("navigator.serviceWorker.ready.then(() => true)")


def all_activity(home):
    return [json.loads(line) for line in home.run("requests", "--json", "-n", "1000").stdout.splitlines()]


def activity(home):
    return all_activity(home)[home.before :]


# --- our own page


def test_a_question_in_the_web_ui_is_answered_as_it_is_thought_of(home, page):
    page.go(address(home))
    with_parameters(page, ENDLESS)
    page.shows("gpt-oss-demo")
    page.receives(READABLE)
    page.fill("textarea", "What are you?")
    page.press_enter()
    page.until(f"({REPLIES}[0]?.innerText ?? '').includes({json.dumps(ANSWERED)})")
    read = page.run(f"{REPLIES}[0].innerText.length")
    page.until(f"{REPLIES}[0].innerText.length > {read}")
    assert CHAT not in {each["endpoint"] for each in activity(home)}  # they are listed once they are over
    page.click("Stop")
    page.until("![...document.querySelectorAll('button')].some(each => each.innerText.includes('Stop'))")
    assert (failures(page), complaints(page)) == ([], [])


def test_the_web_ui_works_by_the_machines_other_name_too(home, page):
    page.go(address(home, "localhost"))
    asks(page, 1)
    assert (failures(page), complaints(page)) == ([], [])


def test_the_web_ui_asks_for_the_key_and_works_with_it(own_home, page):
    key = own_home.run("key", "add", "browser").stdout.strip()
    own_home.start()
    page.go(address(own_home))
    page.shows("Access denied")
    page.click("Enter API Key")
    page.fill("#api-key-input", "not-this-one")
    page.click("Save & Retry")
    page.shows("Invalid API key")
    page.fill("#api-key-input", key)
    page.click("Save & Retry")
    asks(page, 1)
    assert {status for status, _ in failures(page)} == {401}  # of before the key
    asked = [each for each in all_activity(own_home) if each["endpoint"] == CHAT]
    assert [(each["caller"], each["status"]) for each in asked] == [("browser", 200)]


def test_a_server_that_is_killed_between_two_questions_is_no_news_to_the_page(home, page):
    page.go(address(home))
    asks(page, 1)
    before = home.status()["server"]
    os.kill(before["pid"], signal.SIGKILL)
    asks(page, 2)
    assert home.status()["server"]["pid"] != before["pid"]
    assert (failures(page), complaints(page)) == ([], [])


def test_a_page_that_is_open_lets_the_model_sleep_and_the_next_question_wakes_it(home, page):
    page.go(address(home))
    asks(page, 1)
    settled(page)
    home.run("unload")
    page.run("performance.clearResourceTimings()")
    page.run("document.dispatchEvent(new Event('visibilitychange'))")  # its tab is looked at again
    page.until(
        "performance.getEntriesByType('resource').some(each => each.name.endsWith('/v1/streams/lookup'))"
    )
    looked = "fetch('sw.js', {cache: 'no-store'}).then(answer => answer.status)"  # as it does every minute
    assert page.run(looked) == 503
    assert home.status()["server"]["state"] == "sleeping"
    page.complaints.clear()
    asks(page, 2)
    assert home.status()["server"]["state"] == "ready"
    assert complaints(page) == []


def test_who_opens_the_page_of_a_model_that_sleeps_sees_it_and_the_next_question_wakes_it(home, page):
    page.go(address(home))
    asks(page, 1)
    settled(page)
    home.run("unload")
    page.reload()
    page.shows("gpt-oss-demo")
    assert home.status()["server"]["state"] == "sleeping"
    asks(page, 2)
    assert home.status()["server"]["state"] == "ready"
    paths = ("v1/streams/lookup", "sw.js", "build.json", "_app/version.json")  # only a server has them
    assert set(failures(page)) <= {(503, f"{address(home)}/{path}") for path in paths}


def test_a_browser_that_was_never_here_may_load_the_model_that_sleeps(own_home, page):
    own_home.start("demo", "--set", "gateway.preload=false")
    page.go(address(own_home))
    page.shows("Sleeping")
    assert own_home.status()["server"]["state"] == "sleeping"
    page.leave("[...document.querySelectorAll('button')].at(0).click()")  # by itself, once it is loaded
    asks(page, 1)


# --- several models

THREE = ("large", "small", "tiny")
OTHERS = (
    {"small": SMOLLM2, "tiny": GEMMA3} if MODELS in os.environ else {}
)  # else the demo, under three names
BRIEF = {"predict": 16, "ctx-size": 2048, "parallel": 1, "threads": 1}
LOADED, UNLOADED = "Unload model", "Load model"  # what can be done with one that is
OPTION = "[...document.querySelectorAll('[role=option]')].find(each => each.innerText.includes('demo-%s'))"
SHOWN = f"""(() => {{
    const labels = [...document.querySelectorAll('[role=option]')].map(each => [
        each.innerText.trim().split(/\\s+/).at(-1).replace('demo-', ''),
        ['{LOADED}', '{UNLOADED}'].find(label => each.querySelector(`[aria-label="${{label}}"]`)) ?? 'busy',
    ]);
    return JSON.stringify(Object.fromEntries(labels.sort()));
}})()"""


@pytest.fixture(scope="module")
def three_started(tmp_path_factory):
    made = embedded_home(tmp_path_factory.mktemp("three") / "home")
    for name in THREE:
        profile = {"extends": "demo", "engine": {"source": "embedded"}, "aliases": f"demo-{name}"}
        profile["server"] = {"threads": 1}
        if name in OTHERS:
            profile |= {"model": {"path": f"{os.environ[MODELS]}/{OTHERS[name]}"}, "server": BRIEF}
        made.profile(name, json.dumps(profile))
    made.start("large", *THREE[1:])
    made.watch_for(lambda now: {each["state"] for each in now["served"]} == {"ready"})
    yield made
    made.close()


@pytest.fixture
def three(three_started):
    """One home for all; large is loaded, and the others are not."""
    three_started.run("load", "large")
    for name in THREE[1:]:
        three_started.run("unload", name)
    three_started.before = len(all_activity(three_started))
    return three_started


def open_list(page, chosen):
    """The menu of models is below all answers, which tell their model too."""
    buttons = (
        f"[...document.querySelectorAll('button')].filter(each => each.innerText.includes('demo-{chosen}'))"
    )
    page.until(f"{buttons}.length && ({buttons}.at(-1).click(), true)")
    page.until(f"{OPTION % chosen} && true")


def choose(page, name):
    page.run(f"{OPTION % name}.click()")
    page.shows(f"Model loaded: demo-{name}")


def shows_models(page, **wanted):
    page.until(f"{SHOWN} === {json.dumps(json.dumps(wanted, separators=(',', ':')))}")


def press(page, name, label):
    page.until(
        f"(it => it && (it.click(), true))({OPTION % name}?.querySelector('[aria-label=\"{label}\"]'))"
    )


def served_states(home):
    return {each["profile"]: each["state"] for each in home.status()["served"]}


def test_the_web_ui_lists_all_models_and_the_one_that_is_chosen_is_loaded_and_answers(three, page):
    page.go(address(three))
    open_list(page, "large")  # which it has chosen by itself, since it is loaded
    shows_models(page, large=LOADED, small=UNLOADED, tiny=UNLOADED)
    for number, name in enumerate(("small", "tiny"), 1):
        choose(page, name)
        asks(page, number, says=f"demo-{name}")  # below its answer
        page.until("![...document.querySelectorAll('button')].some(each => each.innerText.includes('Stop'))")
        open_list(page, name)
    are_demos = page.run(f"{REPLIES}.map(each => each.innerText.includes({json.dumps(ANSWERED)}))")
    assert are_demos == 2 * [not OTHERS]
    asked = [each["profile"] for each in activity(three) if each["endpoint"] == CHAT]
    assert asked == ["small", "tiny"]
    assert served_states(three) == dict.fromkeys(THREE, "ready")
    assert (failures(page), complaints(page)) == ([], [])


def test_models_are_loaded_and_unloaded_by_their_buttons(three, page):
    page.go(address(three))
    open_list(page, "large")  # which it has chosen by itself, since it is loaded
    shows_models(page, large=LOADED, small=UNLOADED, tiny=UNLOADED)
    press(page, "tiny", UNLOADED)
    shows_models(page, large=LOADED, small=UNLOADED, tiny=LOADED)
    press(page, "large", LOADED)
    page.shows("Model unloaded: demo-large")
    shows_models(page, large=UNLOADED, small=UNLOADED, tiny=LOADED)
    assert served_states(three) == {"large": "sleeping", "small": "sleeping", "tiny": "ready"}
    assert (failures(page), complaints(page)) == ([], [])


def test_what_becomes_of_models_elsewhere_is_shown_at_once_and_no_page_keeps_them_awake(three, page):
    page.go(address(three))
    open_list(page, "large")  # which it has chosen by itself, since it is loaded
    shows_models(page, large=LOADED, small=UNLOADED, tiny=UNLOADED)
    three.run("load", "small")
    shows_models(page, large=LOADED, small=LOADED, tiny=UNLOADED)
    for name in ("small", "large"):
        three.run("unload", name)
    shows_models(page, large=UNLOADED, small=UNLOADED, tiny=UNLOADED)
    deleted = "fetch('models?model=demo-tiny', {method: 'DELETE'}).then(answer => answer.json())"
    assert "goss-supervisor model rm" in page.run(deleted)["error"]["message"]
    assert set(served_states(three).values()) == {"sleeping"}


# --- pages of others

WITH_JSON = "{method: 'POST', headers: {'content-type': 'application/json'}, body: '{\"messages\": []}'}"
WITHOUT_ASKING = "{method: 'POST', mode: 'no-cors', body: '{\"messages\": []}'}"
LOAD = """new Promise(done => {
    const made = document.createElement('%s');
    made.onload = () => done('loaded');
    made.onerror = () => done('failed');
    made.src = '%s';
    document.body.append(made);
})"""
POST_FORM = """(() => {
    const form = document.createElement('form');
    form.method = 'POST';
    form.enctype = 'text/plain';
    form.action = '%s';
    document.body.append(form);
    form.submit();
})()"""


def fetched(url, options="{}"):
    """What a page gets: a status, 0 for one that it may not know, or the browser's error."""
    return f"fetch('{url}', {options}).then(answer => answer.status, error => error.message)"


def test_a_page_of_another_server_on_this_machine_gets_nothing(home, page, elsewhere):
    page.go(f"http://127.0.0.1:{elsewhere}")
    chat, models = f"{address(home)}/v1/chat/completions", f"{address(home)}/v1/models"
    assert page.run(fetched(models)) == "Failed to fetch"
    assert page.run(fetched(chat, WITH_JSON)) == "Failed to fetch"
    assert page.run(fetched(chat, WITHOUT_ASKING)) == 0
    assert page.run(LOAD % ("img", f"{address(home)}/favicon.svg")) == "failed"
    assert page.run(LOAD % ("script", f"{address(home)}/sw.js")) == "failed"
    page.run(LOAD % ("iframe", f"{address(home)}/"))
    page.leave(POST_FORM % chat)
    page.shows("may not use this address")
    seen = activity(home)
    refused = [each for each in seen if each["status"] == 403]
    assert {each["result"] for each in refused} == {"refused"}
    assert {each["method"] for each in refused} == {"GET", "POST", "OPTIONS"}
    assert len(refused) == 7
    # The form's answer is a page of ours: a whole Chromium asks for its icon, of the same origin, and gets it.
    icons = [(each["method"], each["endpoint"]) for each in seen if each not in refused]
    assert icons in ([], [("GET", route_of("GET", "/favicon.ico").label)])


def test_a_link_from_another_page_still_leads_to_the_web_ui(home, page, elsewhere):
    page.go(f"http://127.0.0.1:{elsewhere}")
    page.leave(f"location.assign('{address(home)}/')")
    page.shows("gpt-oss-demo")
    assert (failures(page), complaints(page)) == ([], [])


def test_a_strangers_name_that_leads_here_gets_nothing(home, page):
    began = time.time()
    page.go(address(home, REBOUND))
    page.shows(f"not to the host {REBOUND}:{home.port}")
    for path, options in (("/v1/models", "{}"), ("/v1/chat/completions", WITH_JSON)):
        assert page.run(fetched(path, options)) == 403
    seen = [each["status"] for each in activity(home) if each["at"] >= began]  # not of the page before
    assert (set(seen), len(seen) >= 3) == ({403}, True)


FRIENDS = ("127.0.0.1", FRIEND)


@pytest.fixture(scope="module")
def home_of_friends(tmp_path_factory, elsewhere):
    """Its address, and a key."""
    made = embedded_home(tmp_path_factory.mktemp("friends") / "home")
    key = made.run("key", "add", "friend").stdout.strip()
    origins = ", ".join(f"http://{friend}:{elsewhere}" for friend in FRIENDS)
    made.start("demo", "--set", f"gateway.allow-origins=[{origins}]")
    yield address(made), key
    made.close()


@pytest.mark.parametrize("friend", FRIENDS)
def test_a_page_of_an_allowed_origin_reads_whole_streams_with_its_key(
    home_of_friends, page, elsewhere, friend
):
    at, key = home_of_friends
    page.go(f"http://{friend}:{elsewhere}")
    asked = {"stream": True, "messages": [{"role": "user", "content": "What are you?"}]}
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    options = json.dumps(
        {"method": "POST", "credentials": "include", "headers": headers, "body": json.dumps(asked)}
    )
    stream = page.run(f"fetch('{at}/v1/chat/completions', {options}).then(answer => answer.text())")
    events = [json.loads(line[6:]) for line in stream.split("\n\n") if line.startswith("data: {")]
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == DEMO_ANSWER
    unkeyed = f"fetch('{at}/v1/models').then(answer => answer.json())"
    assert page.run(unkeyed)["error"]["code"] == "invalid_api_key"  # a refusal can be read too
