"""
Takes docs/pictures/page-*.webp of a daemon that runs: python docs/take_pictures.py LLAMA-SERVER CHROMIUM

Three servers run the demo model under the names that people give.  Look at each picture before you commit it.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

PICTURES = Path(__file__).parent / "pictures"
SERVED: Final = ("chat", "coder", "embed")
DESKTOP, PHONE = (1280, 900), (390, 844)
SHOTS: Final = (
    ("now", "now", DESKTOP, "light"),
    ("now-dark", "now", DESKTOP, "dark"),
    ("now-phone", "now", PHONE, "light"),
    ("requests-phone-dark", "requests", PHONE, "dark"),
    ("profile", "profiles/coder/edit", DESKTOP, "light"),
    ("hardware-dark", "hardware", DESKTOP, "dark"),
)
QUALITY = 82
MISTAKEN = "extends: demo\nserver:\n  ctx-size: many\n  parallel: 8\n"
TALK_SECONDS = 90.0  # so that the charts of the last minutes have something


def main(engine: str, chromium: str) -> None:
    os.environ |= {"GOSS_TEST_LLAMA_SERVER": engine, "GOSS_TEST_CHROMIUM": chromium}
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, three_servers(Path(folder)) as home:
        browser = Chromium(Path(folder) / "chromium")
        try:
            open_page(browser, home)
            talk(home.port, time.monotonic() + TALK_SECONDS)
            with ThreadPoolExecutor() as others:
                others.submit(talk, home.port, time.monotonic() + TALK_SECONDS / 3)
                for shot in SHOTS:
                    shoot(browser, *shot)
        finally:
            browser.close()


@contextmanager
def three_servers(folder: Path) -> Iterator[Home]:
    home = Home(folder / "goss", engine_settings("built", folder), free_port())
    home.root.mkdir()
    for name in SERVED:
        demo_profile(home, name)
    text = "\n".join(["serve:", "  - {profile: chat, pinned: true}", *(f"  - {name}" for name in SERVED[1:])])
    (home.root / "config/config.yaml").write_text(f"{text}\n")
    home.run("start", "--detach")
    try:
        home.watch_for(lambda now: {each["state"] for each in now["served"]} == {"ready"})
        yield home
    finally:
        home.close()


def talk(port: int, until: float) -> None:
    """Ask now this one, now that one."""
    number = 0
    while time.monotonic() < until:
        number += 1
        ask(port, SERVED[number % 2], 40 + 60 * (number % 5))
        time.sleep(1)


def ask(port: int, model: str, tokens: int) -> None:
    messages = [{"role": "user", "content": "What are you?"}]
    asked = {"model": model, "messages": messages, "max_tokens": tokens, "stream": True}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TALK_SECONDS)
    with closing(connection):
        connection.request(
            "POST", "/v1/chat/completions", json.dumps(asked), {"content-type": "application/json"}
        )
        connection.getresponse().read()


def open_page(browser: Chromium, home: Home) -> None:
    """With a session; and it is open while the samples of the hardware come."""
    browser.fresh()
    browser.ask("Emulation.setScrollbarsHidden", hidden=True)
    browser.go(f"http://127.0.0.1:{home.port}/supervisor/#code={home.ask_daemon(op='code')['code']}")
    browser.until("document.querySelector('.live.open')")


def shoot(browser: Chromium, name: str, view: str, screen: tuple[int, int], scheme: str) -> None:
    look(browser, *screen, scheme)
    browser.run(f"location.hash = {json.dumps(view)}")
    settle(browser)
    if view.endswith("/edit"):
        browser.shows("No mistakes.")
        browser.fill(".editor textarea", MISTAKEN)
        browser.shows("1 mistake")
    if view == "hardware":
        browser.click("5 minutes")
        browser.until("document.querySelectorAll('.view-hardware svg').length")
    time.sleep(1)  # what moves comes to rest
    made = browser.ask("Page.captureScreenshot", format="webp", quality=QUALITY)
    (PICTURES / f"page-{name}.webp").write_bytes(base64.b64decode(made["data"]))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.e2e.chromium import Chromium
    from tests.e2e.conftest import Home, engine_settings, free_port
    from tests.e2e.gateway_load import demo_profile
    from tests.e2e.test_page import look, settle

    main(*sys.argv[1:])
