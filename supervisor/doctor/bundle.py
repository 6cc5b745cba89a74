"""An archive for a bug report: findings, versions, hardware, logs, events; no keys, prompts or names."""

from __future__ import annotations

import getpass
import io
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
from ..home.event_log import events_before, events_file
from ..home.places import SERVER, daemon_log, other_servers, server_logs
from ..paths import Paths

_MOST_BYTES = 1_000_000  # of each file: its end
_SECRET_LINE = re.compile(r"(?i)(key|token|secret|password|authorization|bearer)\b(\W{1,4})\S+")
_OUR_KEY = re.compile(r"\bgs-[A-Za-z0-9_-]{8,}|\bhf_[A-Za-z0-9]{8,}|\bsk-[A-Za-z0-9_-]{8,}")
_PROMPT_LINE = re.compile(
    r'(?m)^.*"(?:prompt|messages|content|input|text)"\s*:.*(?:"role"|"tokens"|"prompt").*$'
)
_ADDRESS = re.compile(r"(?<![\d.])(?!127\.)(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")


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
    """Replaces the user's name, the computer's, the home folder's, addresses and anything like a key."""
    words = {str(Path.home()): "~", socket.gethostname(): "HOST"}
    with suppress(OSError, KeyError, ImportError):
        words[getpass.getuser()] = "USER"
    return _Hider(
        {old: new for old, new in words.items() if len(old) > 3 and old not in {"root", "localhost"}}
    )


class _Hider:
    def __init__(self, words: Mapping[str, str]) -> None:
        self._words = sorted(words.items(), key=lambda each: -len(each[0]))

    def __call__(self, text: str) -> str:
        text = _PROMPT_LINE.sub("(left out: a line that may hold a prompt)", text)
        for old, new in self._words:
            text = text.replace(old, new)
        text = _SECRET_LINE.sub(r"\1\2***", _OUR_KEY.sub("***", text))
        return _ADDRESS.sub("ADDRESS", text)


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
    files = [daemon_log(paths), events_before(paths), events_file(paths)]
    for name in (SERVER, *other_servers(paths)):
        files += server_logs(paths, name)
    for file in files:
        with suppress(OSError), file.open("rb") as log:
            log.seek(max(file.stat().st_size - _MOST_BYTES, 0))
            yield f"logs/{file.name}", log.read().decode(errors="replace")


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode(errors="replace")
    entry = tarfile.TarInfo(f"goss-supervisor-report/{name}")
    entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
    archive.addfile(entry, io.BytesIO(data))
