"""Why a program could not be started, in words that say what to do."""

from __future__ import annotations

import errno
import os

from ..errors import NotFound, PermissionDenied, StartFailed, SupervisorError


def start_error(program: str, error: OSError) -> SupervisorError:
    """Turn what the operating system said about `program` into an error for people."""
    match error.errno:
        case errno.ENOENT if os.path.exists(program):  # noqa: PTH110 - it may not even be a path
            return StartFailed(
                f"{program} is there, but the loader or interpreter that it names is not.",
                hint="It was built for another system (musl against glibc, or another CPU); "
                "install a build for this one.",
            )
        case errno.ENOENT | errno.ENOTDIR:
            return NotFound(
                f"The engine {program} does not exist (any more).",
                hint="Install the engine again, or correct engine.path in the profile.",
            )
        case errno.EACCES | errno.EPERM:
            return PermissionDenied(
                f"The engine {program} may not be executed by this user.",
                hint=f"Make it executable (chmod +x {program}); "
                "also check that its disk is not mounted noexec.",
            )
        case errno.ENOEXEC:
            return StartFailed(
                f"{program} is not a program for this machine.",
                hint="It is damaged or built for another CPU or system; install the engine again.",
            )
        case errno.E2BIG:
            return StartFailed(
                "The command line and the environment are too long for this system.",
                hint="Shorten server: and env: in the profile, or put long values into files.",
            )
        case errno.EAGAIN | errno.ENOMEM:
            return StartFailed(
                "The system has no room for one more process.",
                hint="Look at the limits on processes and memory (ulimit -u, systemd TasksMax, free).",
            )
        case errno.EMFILE | errno.ENFILE:
            return StartFailed(
                f"Too many files are open to start {program}.",
                hint="Raise the limit on open files (ulimit -n).",
            )
    return StartFailed(f"{program} could not be started: {error.strerror or error}.")
