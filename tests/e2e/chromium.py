"""
A headless Chromium, led through its own protocol: the little of it that the tests need.

Commands and events go as JSON, each with a NUL at its end, through two pipes (``--remote-debugging-pipe``): no
port is open, and nothing has to be installed beside the browser.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

VARIABLE = "GOSS_TEST_CHROMIUM"
PATIENCE = 60.0  # seconds; the bound of every wait, never its length

# Its sandbox needs what containers forbid, and the pages are ours.  It asks the network for nothing by itself.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
)
# Chromium reads from 3 and writes to 4, whatever those are here.
MOVE = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
UNTIL = """new Promise((found, failed) => {
    const end = Date.now() + %d;
    const look = () => {
        let value;
        try { value = (%s); } catch (error) { return failed(error); }
        if (value) return found(value);
        if (Date.now() > end) return failed(new Error('the page shows: ' + document.body?.innerText));
        setTimeout(look, 20);
    };
    look();
})"""


class PageError(AssertionError):
    """What was asked of the page failed in it."""


@dataclass
class Chromium:
    """
    One browser with one page, and what that page met since it is `fresh`.

    ``resolves`` are hosts that lead to 127.0.0.1 here, whatever they are elsewhere.
    """

    folder: Path
    resolves: tuple[str, ...] = ()
    answers: list[tuple[int, str]] = field(default_factory=list)  # status and URL, in the order they came
    complaints: list[str] = field(default_factory=list)  # errors on the console, and uncaught ones
    _last: int = 0
    _unread: bytes = b""
    _session: str = ""
    _visitor: str = ""

    def __post_init__(self) -> None:
        program = os.environ.get(VARIABLE)
        if not program:
            pytest.skip(f"{VARIABLE} is not set: bin/test sets it, or says why it cannot")
        self.folder.mkdir()
        self._stderr = self.folder / "stderr"
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()  # the last made: never one of those that are moved onto
        mapped = ", ".join(f"MAP {host} 127.0.0.1" for host in self.resolves)
        mine = (f"--user-data-dir={self.folder / 'profile'}", f"--host-resolver-rules={mapped}")
        argv = [program, *FLAGS, *mine, "--remote-debugging-pipe", "about:blank"]
        with self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", MOVE, str(theirs_in), str(theirs_out), *argv],
                pass_fds=(theirs_in, theirs_out),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        os.close(theirs_in)
        os.close(theirs_out)

    def fresh(self) -> None:
        """Another visitor: without what earlier ones have left in the browser."""
        self._session = ""
        if self._visitor:
            self.ask("Target.disposeBrowserContext", browserContextId=self._visitor)
        self._visitor = self.ask("Target.createBrowserContext")["browserContextId"]
        target = self.ask("Target.createTarget", url="about:blank", browserContextId=self._visitor)[
            "targetId"
        ]
        self.answers, self.complaints = [], []
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def close(self) -> None:
        """Its helpers end with it."""
        os.close(self._to)
        try:
            self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._from)

    # --- the protocol

    def ask(self, method: str, **parameters) -> dict:
        """One command, and its result."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (heard := self._hear()).get("id") != self._last:
            pass
        if "error" in heard:
            raise PageError(f"{method}: {heard['error']}")
        return heard["result"]

    def _hear(self) -> dict:
        deadline = time.monotonic() + PATIENCE * 2
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._from, 1 << 20) if ready else b""
            if not data:
                raise PageError(f"Chromium is silent: {self._stderr.read_text()[-2000:]}")
            self._unread += data
        message, _, self._unread = self._unread.partition(b"\0")
        heard = json.loads(message)
        if heard.get("sessionId", "") == self._session:
            self._note(heard.get("method"), heard.get("params", {}))
        return heard

    def _note(self, event: str | None, told: dict) -> None:
        match event:
            case "Network.responseReceived":
                self.answers.append((told["response"]["status"], told["response"]["url"]))
            case "Log.entryAdded" if told["entry"]["level"] == "error":
                self.complaints.append(f"{told['entry'].get('url', '')} {told['entry']['text']}")
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(told["exceptionDetails"])[:1000])
            case "Runtime.consoleAPICalled" if told["type"] == "error":
                said = (str(each.get("value", each.get("description"))) for each in told["args"])
                self.complaints.append(" ".join(said))

    # --- the page

    def go(self, url: str) -> None:
        failed = self.ask("Page.navigate", url=url).get("errorText")
        if failed:
            raise PageError(f"{url}: {failed}")
        self.until("document.readyState === 'complete'")

    def reload(self) -> None:
        self.ask("Page.reload")
        self._wait_until_loaded()

    def leave(self, script: str) -> None:
        """Run what leads to another page, and be there."""
        self.run(script)
        self._wait_until_loaded()

    def _wait_until_loaded(self) -> None:
        while self._hear().get("method") != "Page.loadEventFired":
            pass

    def receives(self, bytes_a_second: int) -> None:
        """No more than this, of each answer from now on."""
        self.ask(
            "Network.emulateNetworkConditions",
            offline=False,
            latency=0,
            downloadThroughput=bytes_a_second,
            uploadThroughput=-1,
        )

    def run(self, script: str):
        """The value of an expression in the page; one that is a promise is waited for."""
        done = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            raise PageError(done["exceptionDetails"]["exception"].get("description", script))
        return done["result"].get("value")

    def until(self, script: str):
        """The first value of the expression that counts as true."""
        return self.run(UNTIL % (PATIENCE * 1000, script))

    def shows(self, text: str) -> bool:
        """True once it does; raises AssertionError if it does not come to that."""
        self.until(f"(document.body?.innerText ?? '').includes({json.dumps(text)})")
        return True

    def fill(self, selector: str, text: str) -> None:
        """As a person does, once the field is there."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.until(f"{element} && ({element}.focus(), {element}.select(), true)")
        self.ask("Input.insertText", text=text)

    def press_enter(self) -> None:
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **key)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **key)

    def click(self, label: str) -> None:
        """The button with these words."""
        button = (
            f"[...document.querySelectorAll('button')].find(e => e.innerText.includes({json.dumps(label)}))"
        )
        self.until(f"{button} && !{button}.disabled && ({button}.click(), true)")
