"""The options that name files or folders. In a profile, a relative path is under the models folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from .option_types import OptionValue

WRITTEN = ("log-file", "log-prompts-dir", "lookup-cache-dynamic")  # need not be there at a start
SCALED = ("lora-scaled", "control-vector-scaled")  # FNAME:SCALE
_SEVERAL = ("lora", "control-vector", *SCALED)  # with commas between them
FILES = (
    *("mmproj", "spec-draft-model", "chat-template-file", "grammar-file", "json-schema-file", *_SEVERAL),
    *("lookup-cache-static", "ui-config-file", "mcp-servers-config", "models-preset"),
    *("api-key-file", "ssl-key-file", "ssl-cert-file"),
    *("slot-save-path", "media-path", "path", "models-dir", "video-ffmpeg-dir", *WRITTEN),
)


def is_of_the_hub(model: str) -> bool:
    """Whether it is ``owner/name:QUANT`` or an address, and no path."""
    return "://" in model or re.fullmatch(r"[\w.-]+/[\w.-]+:(?!.*\.gguf$)[\w.-]+", model) is not None


def from_home(path: str) -> Path:
    """With ``~`` replaced; a ``~name`` that nobody is called stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def map_paths(name: str, value: OptionValue, change: Callable[[str], str]) -> OptionValue:
    """The value of option ``name`` with each of its paths changed."""
    if isinstance(value, tuple):
        return tuple(_changed(name, word, change) for word in value)
    return _changed(name, str(value), change)


def paths_in(name: str, value: OptionValue) -> list[str]:
    """Every path that the value names."""
    words = value if isinstance(value, tuple) else (str(value),)
    return [path for word in words for path, _ in _split(name, word)]


def _changed(name: str, word: str, change: Callable[[str], str]) -> str:
    return ",".join(change(path) + scale for path, scale in _split(name, word))


def _split(name: str, word: str) -> Iterator[tuple[str, str]]:
    """Each path, and the ``:0.5`` behind it."""
    for each in word.split(",") if name in _SEVERAL else [word]:
        path, colon, scale = each.rpartition(":") if name in SCALED else (each, "", "")
        yield (path, colon + scale) if colon else (each, "")
