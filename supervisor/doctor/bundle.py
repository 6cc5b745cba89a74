"""An archive for a bug report: findings, versions, hardware, logs, events; no keys, prompts or names."""

from __future__ import annotations

import getpass
import io
import ipaddress
import os
import platform
import re
import socket
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from .. import __version__
from ..errors import UsageError
from ..files import replace_file
from ..home.background_daemon import OUTPUT
from ..home.event_log import events_before, events_file
from ..home.places import SERVER, daemon_log, other_servers, server_logs
from ..paths import Paths

_MOST_BYTES = 1_000_000  # of each file: its end
_SECRET = re.compile(
    r"(?i)(key|token|secret|password|authorization|bearer)\b(\W{1,4})(?:(?:basic|bearer)\s+)?[^\s\"']+"
)
_OUR_KEY = re.compile(r"\bgs-[A-Za-z0-9_-]{8,}|\bhf_[A-Za-z0-9]{8,}|\bsk-[A-Za-z0-9_-]{8,}")
_LOGIN = re.compile(r"(?<=://)[^/\s@]+@")  # in an address
_TALK = re.compile(  # what llama-server logs with a high verbosity, and vLLM as it comes
    r'"(?:prompt|messages|content|reasoning_content|input|arguments)"\s*:|\bprompt\s*[:=]\s*[\'"]'
    r'|\bnext token:|"text"\s*:.*"(?:role|tokens|prompt)"|"choices"\s*:.*"text"\s*:'
)
_HOME = re.compile(r"([\\/](?:home|Users)[\\/]+)[^\\/\s\"':,]+")
_ADDRESS = re.compile(r"(?<![\d.])(?!127\.)(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
_MAYBE_ADDRESS = re.compile(r"(?i)(?<![\w:.])[\da-f]*:[\da-f:]*:[\da-f]*(?![\w:])")
_OF_A_CARD = 5  # colons in the address of a network card
_LONG = 3  # a longer name is replaced inside words, too


def write_bundle(file: Path, paths: Paths, documents: Mapping[str, str]) -> list[str]:
    """
    ``documents`` by their names, and the ends of all logs; what is in it, by name.  Raises UsageError for a
    file that is there, and as `replace_file` does.
    """
    hide = hider()
    if file.exists():
        raise UsageError(f"{file} is already there.", hint="Name a new file.")
    names: list[str] = []
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        for name, text in (*documents.items(), ("versions.txt", _versions()), *_logs(paths)):
            _add(archive, name, hide(text))
            names.append(name)
    replace_file(file, whole.getvalue())
    return names


def hider() -> _Hider:
    """Replaces names of users and of the computer, home folders, addresses, and anything like a key."""
    words = {socket.gethostname(): "HOST", os.environ.get("SUDO_USER", ""): "USER"}
    with suppress(OSError, KeyError, ImportError):
        words[getpass.getuser()] = "USER"
    names = {old: new for old, new in words.items() if len(old) > 1 and old not in {"root", "localhost"}}
    home = {str(Path.home()): "~"} if Path.home() != Path(Path.home().anchor) else {}
    return _Hider({**home, **names})


class _Hider:
    def __init__(self, words: Mapping[str, str]) -> None:
        self._words = words
        longest_first = sorted(words, key=lambda each: -len(each))
        self._word = re.compile("|".join(map(_as_written, longest_first))) if words else None

    def __call__(self, text: str) -> str:
        text = "".join(map(_without_talk, text.splitlines(keepends=True)))
        if self._word:
            text = self._word.sub(lambda found: self._words[found[0]], text)
        text = _LOGIN.sub("***@", _HOME.sub(r"\1USER", text))
        text = _OUR_KEY.sub("***", _SECRET.sub(r"\1\2***", text))
        return _MAYBE_ADDRESS.sub(_without_address, _ADDRESS.sub("ADDRESS", text))


def _as_written(word: str) -> str:
    """A pattern; short names are parts of many words."""
    exact = re.escape(word)
    return exact if len(word) > _LONG else rf"(?<![A-Za-z0-9]){exact}(?![A-Za-z0-9])"


def _without_talk(line: str) -> str:
    return "(left out: a line that may hold a prompt or an answer)\n" if _TALK.search(line) else line


def _without_address(found: re.Match[str]) -> str:
    """Times, too, are numbers with colons between them."""
    with suppress(ValueError):
        address = ipaddress.IPv6Address(found[0])
        return found[0] if address.is_loopback or address.is_unspecified else "ADDRESS"
    return "ADDRESS" if found[0].count(":") == _OF_A_CARD else found[0]


def _versions() -> str:
    return "\n".join(
        (
            f"goss-supervisor {__version__}",
            f"Python {sys.version}",
            f"{platform.platform()}",
            f"written {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}",
            "",
        )
    )


def _logs(paths: Paths) -> Iterator[tuple[str, str]]:
    files = [daemon_log(paths), paths.logs / OUTPUT, events_before(paths), events_file(paths)]
    for name in (SERVER, *other_servers(paths)):
        files += server_logs(paths, name)
    for file in filter(Path.is_file, files):  # a pipe would never end
        with suppress(OSError), file.open("rb") as log:
            log.seek(max(file.stat().st_size - _MOST_BYTES, 0))
            yield f"logs/{file.name}", log.read().decode(errors="replace")


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode(errors="replace")
    entry = tarfile.TarInfo(f"goss-supervisor-report/{name}")
    entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
    archive.addfile(entry, io.BytesIO(data))
