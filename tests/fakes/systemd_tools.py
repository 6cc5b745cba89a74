"""
systemctl, loginctl and journalctl, played: they keep to what the test says of the system, and record their argv.

This file is itself what runs: `install` puts three small scripts that call it into a folder for PATH.  A test
has dozens of these calls, so it imports little.
"""

from __future__ import annotations

import json
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("systemctl", "loginctl", "journalctl")
NO_BUS = "Failed to connect to bus: No medium found"


class Played:
    """``folder`` belongs on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def changes(self) -> list[str]:
        """The calls that ask for something to be done."""
        asks = ("--version", "show", "is-system-running", "show-user")
        return [call for call in self.calls if not set(asks) & set(call.split())]

    def forget(self) -> None:
        (self.folder / "calls").unlink(missing_ok=True)

    @property
    def state(self) -> dict:
        return json.loads((self.folder / "state.json").read_text())

    def say(self, **facts) -> None:
        """
        ``running`` is how the system is, ``fails`` is stderr by verb, the rest is what `show` tells.

        ``sub`` goes with any ActiveState until that changes; ``after_failing`` is what a failing start makes of it.
        ``hangs`` is a verb that does not come back.
        """
        (self.folder / "state.json").write_text(json.dumps({**self.state, **facts}))


def install(folder: Path, version: int = 252) -> Played:
    from .binaries import script  # not where this file runs by itself

    folder.mkdir(parents=True)
    state = {
        "version": version,
        "running": "running",
        "active": "inactive",
        "enabled": False,
        "linger": False,
    }
    (folder / "state.json").write_text(json.dumps({**state, "fails": {}}))
    for name in NAMES:
        script(folder / name, f'exec "{sys.executable}" -S -E "{__file__}" "{folder}" {name} "$@"\n')
    return Played(folder)


def main(folder: str, name: str, words: list[str]) -> int:
    with open(f"{folder}/calls", "a") as calls:
        calls.write(" ".join((name, *words)) + "\n")
    with open(f"{folder}/state.json") as file:
        state = json.load(file)
    verb = next((word for word in words if not word.startswith("-")), "")
    if name == "journalctl":
        verb = ""
    if verb == state.get("hangs"):
        signal.pause()
    if verb in state["fails"]:
        print(state["fails"][verb], file=sys.stderr)
        state.update(state.get("after_failing", {}) if verb in {"start", "restart"} else {})
        keep(folder, state)
        return 1
    said = ANSWERS.get((name, verb), lambda *_: "")(state, words)
    keep(folder, state)
    if said:
        print(said)
    if verb == "is-system-running" and not said:
        print(NO_BUS, file=sys.stderr)
    return 0


def keep(folder: str, state: dict) -> None:
    with open(f"{folder}/state.json", "w") as file:
        json.dump(state, file)


def version(state, words):
    return f"systemd {state['version']} ({state['version']}.1-1)\n+PAM +AUDIT" if "--version" in words else ""


def show(state, words):
    """A unit is known where it runs or is enabled, which is near enough: this one sees no files."""
    sub = state.get("sub") or SUBS[state["active"]]
    enabled = "enabled" if state["enabled"] else "disabled"
    is_known = state["active"] != "inactive" or state["enabled"]
    told = {
        "LoadState": state.get("load") or ("loaded" if is_known else "not-found"),
        "ActiveState": state["active"],
        "SubState": sub,
        "UnitFileState": enabled,
        "FragmentPath": state.get("file", ""),
        "NeedDaemonReload": "yes" if state.get("outdated") else "no",
        "MainPID": 4711 if sub in {"running", "start"} else 0,
        "StatusText": state.get("text", ""),
        "Result": state.get("result", "success"),
        "ExecMainStatus": state.get("code", 0),
    }
    return "\n".join(f"{key}={value}" for key, value in told.items())


def becomes(**facts):
    return lambda state, words: state.update(facts)


def disable(state, words):
    state.update(enabled=False)
    if "--now" in words:
        state.update(active="inactive", sub=None)


SUBS = {"active": "running", "activating": "start", "inactive": "dead", "failed": "failed"}
ANSWERS = {
    ("systemctl", ""): version,
    ("systemctl", "show"): show,
    ("systemctl", "is-system-running"): lambda state, words: state["running"],
    ("systemctl", "start"): becomes(active="active", sub=None),
    ("systemctl", "restart"): becomes(active="active", sub=None),
    ("systemctl", "stop"): becomes(active="inactive", sub=None),
    ("systemctl", "daemon-reload"): becomes(outdated=False, load=None),
    ("systemctl", "enable"): becomes(enabled=True),
    ("systemctl", "disable"): disable,
    ("loginctl", "show-user"): lambda state, words: f"Linger={'yes' if state['linger'] else 'no'}",
    ("loginctl", "enable-linger"): becomes(linger=True),
    ("journalctl", ""): lambda state, words: "the log",
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
