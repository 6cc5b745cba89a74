"""Which service manager this system has."""

from __future__ import annotations

from ..errors import SupervisorError
from .contract import FOREGROUND, ServiceManager


def chosen(platform: str) -> ServiceManager:
    """Of ``sys.platform``.  Raises SupervisorError where there is none, or where it does not run."""
    if platform == "linux":
        from .systemctl import found as systemd  # noqa: PLC0415 - one of three

        return systemd()
    if platform == "darwin":
        from .launchctl import found as launchd  # noqa: PLC0415

        return launchd()
    if platform == "win32":
        from .schtasks import found as task_scheduler  # noqa: PLC0415

        return task_scheduler()
    raise SupervisorError(f"There is no service manager known for {platform}.", hint=FOREGROUND)
