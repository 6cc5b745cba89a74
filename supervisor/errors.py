"""
Every error that a user can meet, and its exit code.

SupervisorError                 1   any other failure
├── NotAnswering                1   a daemon holds the lock but does not answer
├── UsageError                  2   the command line of goss-supervisor itself
├── NotRunning                  3   no daemon answers
├── AlreadyRunning              4   another daemon holds the lock
├── NotFound                    5   a profile, a model or a file does not exist
├── NoSuitableEngine            6   no llama.cpp build can serve this profile
├── DoesNotFit                  7   the model does not fit into memory
├── NetworkError                8   a download failed, or a worker cannot be reached
├── VerificationFailed          9   a file is not what it should be
├── StartFailed                10   the server did not become ready
├── PermissionDenied           11   a file, folder or port may not be used
├── Superseded                 12   a later request replaced this one
└── ConfigError                78   a profile or a setting is wrong (EX_CONFIG)

An error says what is wrong and where; ``hint`` says what to do next.  Only ``cli`` turns one into
text and an exit code.
"""

from __future__ import annotations

from collections.abc import Iterable

EXIT_OK = 0
EXIT_DEGRADED = 1
EXIT_INTERRUPTED = 130


class SupervisorError(Exception):
    """Base of all errors that a user can cause or meet; ``str()`` is one or more complete sentences."""

    exit_code: int = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(SupervisorError):
    """The command line of goss-supervisor does not make sense."""

    exit_code = 2


class NotAnswering(SupervisorError):
    """A daemon holds this home's lock, and does not answer or end."""


class NotRunning(SupervisorError):
    """No daemon answers on this home's control socket."""

    exit_code = 3


class AlreadyRunning(SupervisorError):
    """Another daemon holds this home's lock."""

    exit_code = 4


class NotFound(SupervisorError):
    """A profile, model or file that was named does not exist."""

    exit_code = 5


class NoSuitableEngine(SupervisorError):
    """No available llama.cpp build can serve this profile."""

    exit_code = 6


class DoesNotFit(SupervisorError):
    """The model does not fit into the memory of this machine."""

    exit_code = 7


class NetworkError(SupervisorError):
    """A download, a registry or a worker did not answer as it should."""

    exit_code = 8


class VerificationFailed(SupervisorError):
    """A file is not what it should be: a wrong digest, a broken model."""

    exit_code = 9


class StartFailed(SupervisorError):
    """The server was launched and did not become ready."""

    exit_code = 10


class PermissionDenied(SupervisorError):
    """A file, folder or port may not be used by this user."""

    exit_code = 11


class Superseded(SupervisorError):
    """A later request replaced this one before it was decided."""

    exit_code = 12


class ConfigError(SupervisorError):
    """A profile or a setting is wrong; all problems found are in the message, one a line."""

    exit_code = 78


_SIMILAR = 0.75  # of difflib's 1.0; less suggests names that nobody meant
_BEGINNING = 4  # letters of a name that are enough to mean it


def similar_names(word: str, names: Iterable[str], most: int = 1) -> list[str]:
    """The names that ``word`` may have been meant to be: a slip of the pen, or the same beginning."""
    from difflib import get_close_matches  # noqa: PLC0415 - only for a mistake, and never in the daemon

    word, names = word.lower(), list(names)
    begins = [
        name
        for name in names
        if min(len(name), len(word)) >= _BEGINNING and (name.startswith(word) or word.startswith(name))
    ]
    return list(dict.fromkeys([*get_close_matches(word, names, most, _SIMILAR), *begins]))[:most]
