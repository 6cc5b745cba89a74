"""The page of the gateway in a real browser: what it shows of three real servers, what it does, and for whom."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time

import pytest
import yaml

from ..page.check import MODULES, CannotCheck, install, node_tool
from .chromium import PATIENCE, Chromium
from .conftest import Home, engine_settings, free_port, until
from .gateway_load import ENDLESS, demo_profile
from .test_gateway_web_ui import REBOUND, elsewhere, fetched

__all__ = ["elsewhere"]  # a fixture
NAMES = ("chat", "coder", "embed")
VIEWS = ("now", "requests", "logs", "hardware", "profiles", "charts", "usage", "jobs")
SEEN_SECONDS = 2  # between death and next start: the page hears of a status once a second


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Three demos under the names that people give; without keys, as on a person's own machine."""
    folder = tmp_path_factory.mktemp("page") / "home"
    folder.mkdir()
    made = Home(folder, engine_settings("built", folder), free_port())
    for name in (*NAMES, "writer"):
        again = f"{SEEN_SECONDS}s" if name == "coder" else "0.1s"
        demo_profile(made, name, restart={"backoff": again, "backoff-limit": again})
    serve = ["# mine", "serve:", *(f"  - {name}" for name in NAMES)]
    (folder / "config" / "config.yaml").write_text("\n".join(serve) + "\n")
    made.run("start", "--detach")
    made.watch_for(lambda now: {each["state"] for each in now["served"]} == {"ready"})
    yield made
    made.close()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    """One that asks for a key, with the demo asleep; and keys of both scopes."""
    folder = tmp_path_factory.mktemp("keyed") / "home"
    folder.mkdir()
    made = Home(folder, engine_settings("built", folder), free_port())
    made.keys = {
        scope: made.run("key", "add", scope, "--scope", scope).stdout.strip()
        for scope in ("admin", "inference")
    }
    made.start("demo", "--set", "gateway.preload=false")
    yield made
    made.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = Chromium(tmp_path_factory.mktemp("browser") / "chromium", resolves=(REBOUND,))
    yield made
    made.close()


@pytest.fixture
def page(browser):
    browser.fresh()
    look(browser, 1280, 900)
    yield browser
    browser.ask("Page.navigate", url="about:blank")


def look(page, width, height, scheme="light"):
    """On such a screen, by somebody who likes it dark or light."""
    page.ask(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=height,
        deviceScaleFactor=1,
        mobile=width < 600,
    )
    page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


def address(home, view=""):
    return f"http://127.0.0.1:{home.port}/supervisor/{view and f'#{view}'}"


def visit(page, home, view="now"):
    """This view, drawn, and live."""
    page.go(address(home, view))
    page.until("document.querySelector('.live.open') && document.querySelector('.view')?.children.length")


def open_as_owner(page, home, view="now"):
    """As `goss-supervisor open` does: with a session, which may edit."""
    page.go(f"{address(home)}#code={home.ask_daemon(op='code')['code']}")
    page.until("document.querySelector('.live.open')")
    page.run(f"location.hash = {json.dumps(view)}")


def control(label):
    """The button with this text or name."""
    return f"""[...document.querySelectorAll('dialog[open] button, button')].find(each =>
        [each.getAttribute('aria-label'), each.innerText.trim()].includes({json.dumps(label)}))"""


def press(page, label):
    page.until(f"(it => it && !it.disabled && (it.click(), true))({control(label)})")


def answer_dialog(page, label):
    """A dialog covers the page, where another button has the same words."""
    press_in = f"[...document.querySelectorAll('dialog[open] button')].find(e => e.innerText === '{label}')"
    page.until(f"{press_in} && ({press_in}.click(), true)")


def card(name):
    return f"document.querySelector('article[aria-label={json.dumps(name)}]')"


def shows_card(page, name, *texts):
    wanted = " && ".join(f"it.innerText.includes({json.dumps(text)})" for text in texts)
    page.until(f"(it => it && {wanted})({card(name)})")


def server_of(home, profile):
    return next(each for each in home.status()["servers"] if each["profile"] == profile)


def unharmed(page):
    assert [each for each in page.answers if each[0] >= 400] == []
    assert page.complaints == []


# --- what it shows


SHOWN = {
    "now": ["chat", "coder", "embed", "main", "Has been answering requests since", "RAM", "planned"],
    "requests": ["/tokenize", "coder"],
    "logs": ["listening on"],
    "hardware": ["RAM", "Load", "Temperature", "What detect finds", "Instruction sets"],
    "profiles": ["chat", "coder", "embed", "writer", "ready", "yours", "shipped"],
    "profiles/coder": ["It fits", "coder.yaml:", "server.ctx-size", "65536"],
    "charts": ["Benchmarks"],
    "usage": ["Keys and their limits", "Since"],
    "jobs": ["Get a model", "Update the engine", "Measure", "Tune", "Ended jobs"],
}


RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
# It takes each link to a view for one that skips to a place in the page, where a phone has scrolled it away.
VIOLATIONS = """axe.run({runOnly: %s, rules: {'skip-link': {enabled: false}}}).then(found => found.violations.map(
    each => `${each.id}: ${each.nodes.map(node => node.html.slice(0, 200)).join(' ')}`))"""


@pytest.fixture(scope="module")
def axe():
    """The script of axe-core, as bin/check installs it."""
    try:
        install(node_tool("npm"))
    except CannotCheck as reason:
        pytest.skip(f"axe-core: {reason}")
    return (MODULES / "axe-core/axe.min.js").read_text("utf-8")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "dark")])
def test_each_view_can_be_read_by_all(home, page, axe, width, scheme):
    look(page, width, 844, scheme)
    visit(page, home)
    page.run(axe)
    for view in SHOWN:
        page.run(f"location.hash = {json.dumps(view)}")
        settle(page)
        assert page.run(VIOLATIONS % json.dumps(RULES)) == [], view


@pytest.mark.parametrize("view", SHOWN)
def test_each_view_shows_what_it_is_for(home, page, view):
    post(home, "/tokenize", [{"content": "x", "model": "coder"}])
    visit(page, home, view)
    assert all(page.shows(text) for text in SHOWN[view])
    unharmed(page)


def test_a_server_that_is_killed_while_one_looks_tells_why_and_comes_back(home, page):
    visit(page, home)
    shows_card(page, "coder", "ready")
    pid = server_of(home, "coder")["pid"]
    os.kill(pid, signal.SIGKILL)
    shows_card(page, "coder", "waits to try again", "SIGKILL")
    shows_card(page, "coder", "ready", "Last failure at", "SIGKILL")
    assert server_of(home, "coder")["pid"] != pid
    page.run(f"{card('coder')}.querySelector('a[href^=\"#logs\"]').click()")
    page.until("document.querySelector('.log-failure')?.innerText.includes('SIGKILL')")
    page.until("document.querySelector('.log')?.innerText.includes('listening on')")
    unharmed(page)


# --- what it does


def test_a_model_is_unloaded_and_loaded_by_its_buttons(home, page):
    visit(page, home)
    press(page, "Unload: embed")
    page.shows("Unload embed: done")
    shows_card(page, "embed", "asleep", "The next request loads it")
    assert server_of(home, "embed")["pid"] is None, "its memory is free"
    press(page, "Load: embed")
    page.shows("Load embed: done")
    shows_card(page, "embed", "ready")
    assert server_of(home, "embed")["state"] == "ready"
    unharmed(page)


def test_it_asks_before_it_stops_what_is_used_and_the_focus_comes_back(home, page):
    visit(page, home)
    with socket.create_connection(("127.0.0.1", home.port)) as client:  # reads nothing: the engine waits
        body = json.dumps(ENDLESS | {"model": "coder"})
        head = f"POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        client.sendall(f"{head}\r\n\r\n{body}".encode())
        page.until("document.querySelector('.row.request')?.innerText.includes('answers')")
        page.run(f"{control('Restart: coder')}.focus()")
        page.press_enter()
        page.shows("Restart coder, which is in use?")
        page.until("document.activeElement.innerText === 'Cancel'")
        page.press_enter()
        page.until("document.activeElement.getAttribute('aria-label') === 'Restart: coder'")
        pid = server_of(home, "coder")["pid"]
    page.shows("No request at the moment.")
    press(page, "Restart: coder")
    page.shows("Restart coder: done")
    assert server_of(home, "coder")["pid"] != pid


def test_what_is_pinned_stays_so_over_a_restart_of_the_daemon_and_the_page_comes_back_by_itself(home, page):
    visit(page, home)
    press(page, "Pin: coder")
    shows_card(page, "coder", "pinned")
    config = home.root / "config" / "config.yaml"
    assert yaml.safe_load(config.read_text())["serve"] == [
        "chat",
        {"profile": "coder", "pinned": True},
        "embed",
    ]
    home.run("stop")
    page.shows("Not connected: what you see is from")
    home.run("start", "--detach")
    page.until("document.querySelector('.live.open')")
    shows_card(page, "coder", "pinned", "ready")
    press(page, "Unpin: coder")
    page.until(f"(it => it && !it.innerText.includes('pinned'))({card('coder')})")
    assert config.read_text().startswith("# mine\n")


def test_the_main_server_is_switched(home, page):
    visit(page, home)
    for old, new in (("chat", "writer"), ("writer", "chat")):
        press(page, f"Switch…: {old}")
        choice = "document.querySelector('dialog[open] select')"
        page.until(
            f"{choice} && ({choice}.value = '{new}', {choice}.dispatchEvent(new Event('change')), true)"
        )
        answer_dialog(page, "Switch")
        page.shows(f"Switch {old}: done")
        shows_card(page, new, "main", "ready")
        page.until(f"!{card(old)}")
    assert home.status()["server"]["profile"] == "chat"


# --- profiles


def test_a_mistake_in_a_profile_is_told_at_its_line_and_only_what_is_right_is_saved(home, page):
    path = home.profile("mine", "# mine\nextends: writer\nserver:\n  ctx-size: 8192\n")
    before = path.read_bytes()
    open_as_owner(page, home, "profiles/mine/edit")
    page.shows("No mistakes.")
    page.fill(".editor textarea", "# mine\nextends: writer\nserver:\n  ctx-size: many\n")
    page.shows("1 mistake: it cannot be saved like this.")
    page.until("document.querySelector('#editor-problems')?.innerText.includes('Line 4')")
    page.until("document.querySelector('.gutter .error')?.innerText === '4'")
    assert page.run(f"{control('Save')}.disabled")
    forced = {"profile": "mine", "text": "server: [", "based_on": ""}  # as a page that is broken would
    told = page.run(posted({"op": "run", "command": "profile-save", "arguments": forced}))
    assert "error" in json.loads(told["body"].splitlines()[-1])
    assert path.read_bytes() == before
    after = "# mine\nextends: writer\nserver:\n  ctx-size: 16384\n"
    page.fill(".editor textarea", after)
    page.shows("No mistakes.")
    press(page, "Save")
    page.shows("Save mine?")
    answer_dialog(page, "Save")
    page.shows("Saved. The previous text is kept as")
    assert path.read_text() == after
    assert path.with_name("mine.yaml~").read_bytes() == before
    assert page.complaints == []


def test_without_a_session_nothing_is_saved_and_the_page_says_why(home, page):
    path = home.profile("theirs", "extends: writer\n")
    visit(page, home, "profiles/theirs/edit")
    page.shows("Profiles cannot be changed here")
    page.until("document.querySelector('.editor textarea')?.readOnly")
    saves = {"profile": "theirs", "text": "extends: demo\n", "based_on": ""}
    told = page.run(posted({"op": "run", "command": "profile-save", "arguments": saves}))
    assert "error" in json.loads(told["body"].splitlines()[-1])
    assert path.read_text() == "extends: writer\n"


def posted(request, path="control"):
    """What the page's own script would send, and its whole answer."""
    asked = json.dumps(
        {"method": "POST", "headers": {"content-type": "application/json"}, "body": json.dumps(request)}
    )
    return (
        f"fetch({json.dumps(path)}, {asked}).then(async it => ({{status: it.status, body: await it.text()}}))"
    )


# --- many requests


def post(home, path, bodies):
    """These requests, one after the other, on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", home.port, timeout=60)
    for body in bodies:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        connection.getresponse().read()
    connection.close()


def test_a_thousand_requests_are_listed_filtered_and_searched(home, page):
    post(home, "/nowhere", [{}] * 950)
    post(home, "/tokenize", ({"content": "x", "model": NAMES[number % 2]} for number in range(50)))
    began = time.monotonic()
    visit(page, home, "requests")
    rows = "document.querySelectorAll('.requests tbody tr').length"
    page.until(f"{rows} === 1000")
    print(f"listed in {time.monotonic() - began:.2f} s")
    took = page.run(
        """new Promise(done => {
            const [field, began] = [document.querySelector('input[type=search]'), performance.now()];
            field.value = 'tokenize';
            field.dispatchEvent(new Event('input'));
            const look = () => document.querySelectorAll('.requests tbody tr').length === 50
                ? done(performance.now() - began) : requestAnimationFrame(look);
            look();
        })"""
    )
    print(f"searched in {took:.0f} ms")
    every = "[...document.querySelectorAll('.requests tbody tr')].every(each => each.innerText.includes('tokenize'))"
    assert page.run(every)
    page.fill("input[type=search]", "nothing like it")
    page.shows("No request matches.")
    page.run("document.querySelector('input[type=search]').select()")
    page.ask("Input.insertText", text="tokenize")
    profile = "document.querySelectorAll('search select')[0]"
    page.run(f"{profile}.value = 'coder'; {profile}.dispatchEvent(new Event('change'))")
    page.until(f"{rows} === 25")
    unharmed(page)


# --- its languages

LEFT_IN_ENGLISH = """(async () => {
    const { TEXTS } = await import('/supervisor/static/words.js');
    const known = new Set(Object.values(TEXTS).filter(each => each.en !== each.ja)
        .flatMap(each => typeof each.en === 'string' ? [each.en] : Object.values(each.en)));
    const foreign = 'noscript, [lang=en], code, pre, .log, .brand, [aria-hidden=true], textarea';
    const found = [];
    for (const name of ['chat', 'coder', 'embed', 'demo']) known.delete(name); // of profiles

    const look = (text, at) => {
        const bare = text.trim();
        if (bare && !/[\\u3040-\\u30ff\\u4e00-\\u9fff]/.test(bare) && !at.closest(foreign) && (known.has(bare) || /[A-Za-z]{2,} +[a-z]{2,}/.test(bare))) found.push(bare);
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
    while (walker.nextNode()) {
        const node = walker.currentNode;
        if (node.nodeType === Node.TEXT_NODE) look(node.data, node.parentElement);
        else for (const name of ['aria-label', 'title', 'placeholder', 'alt']) look(node.getAttribute(name) ?? '', node);
    }
    return found;
})()"""


def test_in_japanese_no_text_of_the_page_is_english(home, page):
    visit(page, home)
    page.run(
        """(it => (it.value = 'ja', it.dispatchEvent(new Event('change'))))(document.querySelector('.language select'))"""
    )
    page.until("document.documentElement.lang === 'ja'")
    found: dict[str, list[str]] = {}
    for view in (*SHOWN, "profiles/demo/copy"):
        page.run(f"location.hash = {json.dumps(view)}")
        settle(page)
        found |= {view: left} if (left := page.run(LEFT_IN_ENGLISH)) else {}
    assert found == {}
    page.reload()
    page.until("document.documentElement.lang === 'ja'")


def settle(page):
    """The view that the fragment names is there, and what it had to read."""
    reads = "[...document.querySelectorAll('.view [role=status]')].some(each => /Reading…|読み込んでいます…/.test(each.innerText))"
    page.until(
        "document.querySelector(`.view-${location.hash.slice(1).split('/')[0]}`)?.children.length"
        f" && !{reads}"
    )


# --- who may see it


def log_in(page, home, scope="admin"):
    page.go(address(home))
    page.fill("#key", home.keys[scope])
    page.press_enter()


def test_a_key_of_the_scope_admin_logs_in_and_out(keyed, page):
    log_in(page, keyed)
    page.until("document.querySelector('.live.open')")
    shows_card(page, "demo", "asleep")
    (cookie,) = page.ask("Network.getCookies", urls=[address(keyed)])["cookies"]
    kept = {name: cookie[name] for name in ("httpOnly", "sameSite", "path", "secure")}
    assert kept == {"httpOnly": True, "sameSite": "Strict", "path": "/supervisor/", "secure": False}
    assert 0 < cookie["expires"] - time.time() <= 12 * 3600
    assert page.run("document.cookie") == ""
    assert not any(keyed.keys["admin"] in url for _, url in page.answers)
    assert page.run("location.href") == address(keyed)
    page.reload()
    shows_card(page, "demo", "asleep")
    page.leave(f"{control('Log out')}.click()")
    page.shows("This page needs a key of the scope admin.")
    assert page.run(fetched("events")) == 401
    assert page.ask("Network.getCookies", urls=[address(keyed)])["cookies"] == []


def test_other_keys_see_nothing(keyed, page):
    log_in(page, keyed, "inference")
    page.shows("This key is only for inference.")
    assert page.run(fetched("events")) == 401
    bearer = json.dumps({"headers": {"authorization": f"Bearer {keyed.keys['inference']}"}})
    assert page.run(fetched("events", bearer)) == 403
    page.fill("#key", "gs-unknown")
    page.press_enter()
    page.shows("There is no such key.")
    assert "demo" not in page.run("document.body.innerText")


def counts(home, key):
    """Whether the daemon knows this key: it looks at its file once a second."""
    client = http.client.HTTPConnection("127.0.0.1", home.port, timeout=PATIENCE)
    client.request("GET", "/v1/models", headers={"authorization": f"Bearer {key}"})
    try:
        return client.getresponse().status == 200
    finally:
        client.close()


def test_a_key_that_is_removed_ends_what_it_began(keyed, page):
    key = keyed.keys["later"] = keyed.run("key", "add", "later", "--scope", "admin").stdout.strip()
    until(lambda: counts(keyed, key))
    log_in(page, keyed, "later")
    shows_card(page, "demo", "asleep")
    keyed.run("key", "rm", "later")
    page.shows("This page needs a key of the scope admin.")
    assert not counts(keyed, key)


def test_the_code_of_open_is_good_once_and_leaves_the_address(keyed, page, browser):
    url = f"{address(keyed)}#code={keyed.ask_daemon(op='code')['code']}"
    page.go(url)
    shows_card(page, "demo", "asleep")
    assert page.run("location.href") == address(keyed)
    assert not any("code=" in each for _, each in page.answers)
    browser.fresh()
    page.go(url)
    page.shows("The link has been used")


# --- pages of others

LOADS = json.dumps({"op": "load", "profile": "demo"})
AS_FORM = f"{{method: 'POST', mode: 'no-cors', credentials: 'include', body: {json.dumps(LOADS)}}}"
AS_JSON = f"""{{method: 'POST', credentials: 'include', headers: {{'content-type': 'application/json'}}, body: {json.dumps(LOADS)}}}"""
SUBMIT = """(() => {
    const form = document.createElement('form');
    [form.method, form.enctype, form.action] = ['POST', 'text/plain', '%s'];
    const field = document.createElement('input');
    [field.name, field.value] = ['{"op":"load","profile":"demo","x":"', '"}'];
    form.append(field);
    document.body.append(form);
    form.submit();
})()"""
FRAME = """new Promise(done => {
    const frame = document.createElement('iframe');
    frame.onload = () => done(frame.contentDocument?.body?.innerText ?? 'hidden');
    frame.src = '%s';
    document.body.append(frame);
})"""


@pytest.mark.parametrize("host", ["127.0.0.1", REBOUND])
def test_a_page_of_another_origin_does_nothing_with_the_session(keyed, page, elsewhere, host):
    log_in(page, keyed)
    shows_card(page, "demo", "asleep")
    page.go(f"http://{host}:{elsewhere}")
    at = address(keyed)
    assert page.run(fetched(f"{at}control", AS_JSON)) == "Failed to fetch"
    assert page.run(fetched(f"{at}control", AS_FORM)) == 0
    assert (
        page.run(fetched(f"{at}session", "{method: 'DELETE', credentials: 'include'}")) == "Failed to fetch"
    )
    heard = f"new Promise(done => {{ const it = new EventSource('{at}events', {{withCredentials: true}}); it.onerror = () => done('nothing'); it.onmessage = it.onopen = () => done('all'); }})"
    assert page.run(heard) == "nothing"
    assert page.run(FRAME % at) == "hidden"
    page.leave(SUBMIT % f"{at}control")
    page.shows("may not use this address")
    assert (200, f"{at}control") not in page.answers
    assert keyed.status()["server"]["state"] == "sleeping"
    page.go(f"http://{host}:{elsewhere}")
    page.leave(f"location.assign('{at}')")  # a link leads here, and to what one is logged in for
    shows_card(page, "demo", "asleep")


def test_not_even_a_page_of_the_same_origin_shows_it_in_a_frame(keyed, page):
    log_in(page, keyed)
    shows_card(page, "demo", "asleep")
    page.go(f"http://127.0.0.1:{keyed.port}/supervisor/health")
    page.run(FRAME % "/supervisor/")
    assert any("frame-ancestors" in each for each in page.complaints)


def test_a_strangers_name_that_leads_here_sees_nothing_of_it(keyed, page):
    page.go(f"http://{REBOUND}:{keyed.port}/supervisor/")
    page.shows(f"not to the host {REBOUND}:{keyed.port}")
    assert "demo" not in page.run("document.body.innerText")


# --- by keyboard

FOCUSED = "document.activeElement === document.body ? '' : (document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText).trim()"


def test_all_that_can_be_done_now_is_reached_by_keyboard(home, page):
    visit(page, home)
    shows_card(page, "embed", "ready")
    wanted = set(
        page.run(
            "[...document.querySelectorAll('main button, main a[href]')].map(e => (e.getAttribute('aria-label') ?? e.innerText).trim())"
        )
    )
    assert {"Pin: chat", "Unload: embed", "Restart: coder", "Switch…: chat"} <= wanted
    reached = []
    while len(reached) < 200:
        for kind in ("keyDown", "keyUp"):
            page.ask("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        focused = page.run(FOCUSED)
        if not focused or (reached and focused == reached[0] and len(reached) > 1):
            break
        reached.append(focused)
    assert reached[0] == "Skip to the content"
    assert wanted <= set(reached)
