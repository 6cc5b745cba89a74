"""llama.cpp's llama-server: official releases, builds of our own, the embedded one."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from . import llamacpp_signs
from .adapter import EngineProtocol, LaunchAddress

KEY_VARIABLE = "LLAMA_API_KEY"
_KEY_FILE = "--api-key-file"
MODEL_OPTIONS = ("-m", "--model")  # the first option that we give: what comes before it is the engine
_COUNTED = ("/chat/completions", "/responses")


class LlamaCpp:
    """See `Adapter`."""

    name: Final = "llamacpp"
    protocol: Final[EngineProtocol] = "http"
    signs: Final = llamacpp_signs.SIGNS
    endings: Final = llamacpp_signs.ENDINGS
    cpu_signs: Final = llamacpp_signs.CPU_FALLBACK
    final_exits: Final = frozenset((0, 1))
    """Exit code 1 before ready is llama-server's own verdict on its command line, model or host."""

    def environment(self, private_config: Path) -> Mapping[str, str]:
        """
        From b10398 on llama-server lets a ``llama.cpp/config.ini`` in ``$XDG_CONFIG_HOME`` (Windows:
        ``%APPDATA%``) speak wherever the command line is silent.
        """
        config_variable = "APPDATA" if sys.platform == "win32" else "XDG_CONFIG_HOME"
        return {
            config_variable: str(private_config),
            "GGML_NO_BACKTRACE": "1",  # else an abort starts gdb on a process of 60 GB
        }

    def program(self, argv: Sequence[str]) -> str:  # noqa: ARG002 - whatever the file is called
        return "llama-server"

    def at_address(self, argv: tuple[str, ...], env: Mapping[str, str], port: int, key: str) -> LaunchAddress:
        """The last ``--port`` counts, as it does for llama-server."""
        place = len(argv) - 1 - argv[::-1].index("--port")
        placed = (*argv[: place + 1], str(port), *argv[place + 2 :])
        return LaunchAddress(placed, env, {KEY_VARIABLE: key})

    def api_key(self, argv: Sequence[str], env: Mapping[str, str], secrets: Mapping[str, str]) -> str:
        """The first that it accepts, or "" where its file cannot be read."""
        key = secrets.get(KEY_VARIABLE) or env.get(KEY_VARIABLE) or _key_in_file(argv)
        return key.split(",")[0].strip()

    def lists_devices(self, argv: Sequence[str]) -> tuple[str, ...]:
        """Of this computer alone: a worker that is in use would keep whoever asks it waiting for ever."""
        at = next((place for place, word in enumerate(argv) if word in MODEL_OPTIONS), 0)
        return (*argv[:at], "--list-devices") if at else ()

    def counter_of(self, path: str) -> str:
        """
        It renders and counts the very same body, tools and all, and takes no slot for it (b11434,
        handle_count_tokens).  Older builds answer 404.
        """
        if path == "/v1/messages":
            return f"{path}/count_tokens"
        return f"{path}/input_tokens" if path.removeprefix("/v1") in _COUNTED else ""


def _key_in_file(argv: Sequence[str]) -> str:
    """llama-server reads one key a line."""
    if _KEY_FILE in argv[:-1]:
        file = Path(argv[argv.index(_KEY_FILE) + 1])
        with suppress(OSError, UnicodeDecodeError):
            return next(iter(file.read_text(encoding="utf-8").split()), "")
    return ""
