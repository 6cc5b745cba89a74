"""The clients that there are, by name."""

from __future__ import annotations

from difflib import get_close_matches

from ..errors import NotFound
from . import editors, packages, terminal, webui
from .types import Client

CLIENTS: tuple[Client, ...] = (
    Client("cline", "Cline, in VS Code and other editors", editors.cline),
    Client("continue", "Continue, in VS Code and JetBrains", editors.continue_),
    Client("openai-python", "openai, the Python package", packages.openai_python),
    Client("anthropic-python", "anthropic, the Python package", packages.anthropic_python),
    Client("claude-code", "Claude Code", terminal.claude_code),
    Client("codex", "Codex CLI", terminal.codex),
    Client("aider", "aider", terminal.aider),
    Client("open-webui", "Open WebUI", webui.open_webui),
    Client("opencode", "opencode", terminal.opencode),
)
NAMES: tuple[str, ...] = tuple(client.name for client in CLIENTS)


def find_client(name: str) -> Client:
    """Raises NotFound, with near names."""
    for client in CLIENTS:
        if client.name == name.lower():
            return client
    near = get_close_matches(name.lower(), NAMES, n=3, cutoff=0.5)
    question = f" Did you mean {' or '.join(near)}?" if near else ""
    raise NotFound(
        f"There is no client {name!r} here.{question}",
        hint="goss-supervisor client-config lists them; what openai-python prints will do for most others.",
    )
