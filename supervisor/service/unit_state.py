"""What ``systemctl show`` tells of a unit, and what that means.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "FragmentPath",
    "NeedDaemonReload",
    "MainPID",
    "StatusText",
    "Result",
    "ExecMainStatus",
)
_READY = frozenset({"active", "reloading", "refreshing"})


@dataclass(frozen=True, slots=True)
class Shown:
    """The values of the properties; those without a comment are systemd's own words."""

    load: str = "not-found"
    active: str = "inactive"
    sub: str = "dead"
    is_enabled: bool = False
    file: str = ""  # where systemd has it from; "" without one
    is_outdated: bool = False  # the file is another now than what systemd goes by
    pid: int | None = None
    status: str = ""  # the service's own last words, which stay when it has ended
    result: str = ""
    exit_code: str = ""

    @property
    def is_ready(self) -> bool:
        return self.active in _READY

    @property
    def is_tried_again(self) -> bool:
        """Between two tries, with no process; ``auto-restart-queued`` came with version 254."""
        return self.active == "activating" and self.sub.startswith("auto-restart")

    @property
    def is_running(self) -> bool:
        return self.active not in {"inactive", "failed"} and not self.is_tried_again

    @property
    def is_known(self) -> bool:
        """Whether systemd has anything of that name in its memory."""
        return self.load == "loaded" or self.active != "inactive"

    @property
    def state(self) -> str:
        """In systemd's words, after ours for what they hide."""
        words = f"{self.active} ({self.sub})"
        if self.is_tried_again:
            return f"down, to be tried again: {words}"
        return f"starting: {words}" if self.active == "activating" else words

    @property
    def detail(self) -> str:
        """What the service says of itself; of one that is down why, where that was not asked for."""
        if self.is_running:
            return self.status
        if self.result in {"", "success"}:
            return ""
        code = f" {self.exit_code}" if self.result == "exit-code" and self.exit_code else ""
        return f"ended with {self.result}{code}"


def shown(text: str) -> Shown:
    """Of what ``systemctl show`` says to `PROPERTIES`; an older systemd leaves out what it does not know."""
    told = dict(line.partition("=")[::2] for line in text.splitlines())
    return Shown(
        load=told.get("LoadState", ""),
        active=told.get("ActiveState") or "unknown",
        sub=told.get("SubState") or "unknown",
        is_enabled=told.get("UnitFileState") == "enabled",
        file=told.get("FragmentPath", ""),
        is_outdated=told.get("NeedDaemonReload") == "yes",
        pid=int(told.get("MainPID") or 0) or None,
        status=told.get("StatusText", ""),
        result=told.get("Result", ""),
        exit_code=told.get("ExecMainStatus", ""),
    )
