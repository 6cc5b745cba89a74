"""Services of a user who is not logged in: systemd-logind has to be told that they may run."""

from __future__ import annotations

from .account import user_name
from .ran import run
from .types import Command


def command(verb: str) -> Command:
    """``verb`` is enable or disable."""
    return ("loginctl", f"{verb}-linger")


def is_on() -> bool:
    """A user whom logind does not know at the moment has no such property, and does not linger."""
    return run("loginctl", "show-user", user_name(), "--property=Linger").stdout == "Linger=yes"


def enable() -> list[str]:
    """
    What came of it, in a sentence; nothing where it was on.

    Without it a user's services end with the last login, and do not start at boot.
    """
    if is_on():
        return []
    ran = run(*command("enable"))
    if ran.returncode == 0:
        return ["enabled lingering: your services run without a login, from boot on"]
    by_root = f"sudo loginctl enable-linger {user_name()}"
    return [f"it will run while you are logged in only: {ran.said}; {by_root} changes that"]
