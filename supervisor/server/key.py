"""The key that our own server asks for, wherever the profile put it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ..plan.launch import LaunchPlan

KEY_FILE = "--api-key-file"


def api_key(plan: LaunchPlan) -> str:
    """The first key that the server accepts, or "" where it asks for none or its file cannot be read."""
    said = plan.secrets.get("LLAMA_API_KEY") or plan.env.get("LLAMA_API_KEY") or _in_file(plan)
    return said.split(",")[0].strip()


def _in_file(plan: LaunchPlan) -> str:
    """llama-server reads one key a line."""
    if KEY_FILE in plan.argv[:-1]:
        file = Path(plan.argv[plan.argv.index(KEY_FILE) + 1])
        with suppress(OSError, UnicodeDecodeError):
            return next(iter(file.read_text(encoding="utf-8").split()), "")
    return ""
