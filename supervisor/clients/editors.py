"""Extensions of editors: Cline and Continue."""

from __future__ import annotations

from typing import Any

from .steps import context_steps, key_steps
from .types import Recipe, Snippet, Target


def cline(target: Target) -> Recipe:
    """Cline is set up in its own panel, and keeps the key in the editor's store of secrets."""
    fields = {
        "API Provider": "OpenAI Compatible",
        "Base URL": target.api,
        "API Key": f"the value of {target.key_env}" if target.key_env else "none",
        "Model ID": target.model,
        "Context Window Size": str(target.context_tokens) if target.context_tokens else "",
        "Supports Images": "off",
        "Enable R1 messages format": "off",
    }
    width = max(map(len, fields)) + 1
    text = "".join(f"{name + ':':<{width}} {value}\n" for name, value in fields.items() if value)
    where = (
        "Cline: settings (the gear of its panel), API Configuration; the last ones under Model Configuration"
    )
    steps = (
        *context_steps(target, agent=True),
        *key_steps(target, "Cline reads no environment: paste the key itself into its field."),
    )
    return Recipe((Snippet(where, "text", text),), steps)


def continue_(target: Target) -> Recipe:
    """
    Continue by its provider ``openai``: the provider ``llama.cpp`` goes around the chat template.

    Secrets of a local configuration are read from ``~/.continue/.env``.
    """
    model: dict[str, Any] = {
        "name": target.model,
        "provider": "openai",
        "model": target.model,
        "apiBase": target.api,
        "apiKey": f"${{{{ secrets.{target.key_env} }}}}" if target.key_env else "none",
        "roles": ["chat", "edit", "apply"],
        "capabilities": ["tool_use"],
    }
    if target.context_tokens:
        model["defaultCompletionOptions"] = {"contextLength": target.context_tokens}
    config = {"name": "goss-supervisor", "version": "0.0.1", "schema": "v1", "models": [model]}
    steps = (
        "Where there is a config.yaml already, only the entry of models is added to it.",
        *context_steps(target),
        *key_steps(target, f"For Continue it stands in ~/.continue/.env, as {target.key_env}=KEY."),
    )
    where = "~/.continue/config.yaml (Windows: %USERPROFILE%\\.continue\\config.yaml)"
    return Recipe((Snippet(where, "yaml", _yaml(config)),), steps)


def _yaml(document: dict[str, Any]) -> str:
    import yaml  # noqa: PLC0415 - only for the one client that reads it

    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000)
    return text
