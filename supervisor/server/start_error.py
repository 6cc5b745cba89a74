"""Why a program could not be started, in words that say what to do."""

from __future__ import annotations

import errno
import os

from ..errors import NotFound, PermissionDenied, StartFailed, SupervisorError

_Reason = tuple[type[SupervisorError], str, str]

_WRONG_LOADER: _Reason = (
    StartFailed,
    "{program} is there, but the loader or interpreter that it names is not.",
    "It was built for another system (musl against glibc, or another CPU); install a build for this one.",
)
_GONE: _Reason = (
    NotFound,
    "The engine {program} does not exist (any more).",
    "Install the engine again, or correct engine.path in the profile.",
)
_FORBIDDEN: _Reason = (
    PermissionDenied,
    "The engine {program} may not be executed by this user.",
    "Make it executable (chmod +x {program}); also check that its disk is not mounted noexec.",
)
_NO_ROOM: _Reason = (
    StartFailed,
    "The system has no room for one more process.",
    "Look at the limits on processes and memory (ulimit -u, systemd TasksMax, free).",
)
_TOO_MANY_FILES: _Reason = (
    StartFailed,
    "Too many files are open to start {program}.",
    "Raise the limit on open files (ulimit -n).",
)
_REASONS: dict[int | None, _Reason] = {
    errno.ENOENT: _GONE,
    errno.ENOTDIR: _GONE,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.ENOEXEC: (
        StartFailed,
        "{program} is not a program for this machine.",
        "It is damaged or built for another CPU or system; install the engine again.",
    ),
    errno.E2BIG: (
        StartFailed,
        "The command line and the environment are too long for this system.",
        "Shorten server: and env: in the profile, or put long values into files.",
    ),
    errno.EAGAIN: _NO_ROOM,
    errno.ENOMEM: _NO_ROOM,
    errno.EMFILE: _TOO_MANY_FILES,
    errno.ENFILE: _TOO_MANY_FILES,
}


def start_error(program: str, error: OSError) -> SupervisorError:
    """Turn what the operating system said about `program` into an error for people."""
    if error.errno == errno.ENOENT and os.path.exists(program):  # noqa: PTH110 - it may not even be a path
        kind, message, hint = _WRONG_LOADER
    elif error.errno in _REASONS:
        kind, message, hint = _REASONS[error.errno]
    else:
        return StartFailed(f"{program} could not be started: {error.strerror or error}.")
    return kind(message.format(program=program), hint=hint.format(program=program))
