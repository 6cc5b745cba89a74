"""Agents of the terminal: Claude Code, Codex, aider and opencode."""

from __future__ import annotations

import json
from typing import Any

from .steps import context_steps, key_steps
from .types import Recipe, Snippet, Target, quoted


def claude_code(target: Target) -> Recipe:
    """
    Claude Code by its settings: what stands there is certain to be read, what a shell exports is not always.

    The three tiers are mapped as well, for subagents and work in the background ask for them.  Its
    attribution header changes with every request, at the start of the prompt, so that llama-server could
    reuse nothing of the last one.
    """
    env = {
        "ANTHROPIC_BASE_URL": target.url,
        **({} if target.key_env else {"ANTHROPIC_AUTH_TOKEN": "none"}),
        "ANTHROPIC_MODEL": target.model,
        "ANTHROPIC_DEFAULT_OPUS_MODEL": target.model,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": target.model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": target.model,
        **_claude_limits(target),
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    how = f'Settings know no variables: export ANTHROPIC_AUTH_TOKEN="${target.key_env}" where claude starts.'
    steps = (
        "In .claude/settings.local.json of a project it holds for that project only.",
        "An ANTHROPIC_API_KEY in the environment would be sent as well: unset it.",
        *context_steps(target, agent=True),
        *key_steps(target, how),
    )
    return Recipe((Snippet("~/.claude/settings.json", "json", _json({"env": env})),), steps)


def _claude_limits(target: Target) -> dict[str, str]:
    """Without them it takes 200,000 tokens for granted, and 32,000 for each answer."""
    if not target.context_tokens:
        return {}
    return {
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(target.context_tokens),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(target.answer_tokens),
    }


def codex(target: Target) -> Recipe:
    """
    Codex speaks the Responses API and nothing else since February 2026; it names the key's variable itself.

    Its patience with a silent stream is 5 minutes, less than a long prompt or a load may take.
    """
    context = f"model_context_window = {target.context_tokens}\n" if target.context_tokens else ""
    key = f"env_key = {quoted(target.key_env)}\n" if target.key_env else ""
    text = f"""\
model = {quoted(target.model)}
model_provider = "goss"
{context}
[model_providers.goss]
name = "goss-supervisor"
base_url = {quoted(target.api)}
wire_api = "responses"
{key}stream_idle_timeout_ms = 900000
"""
    steps = (
        "The lines before the table belong above all other tables of the file.",
        *context_steps(target, agent=True),
        *key_steps(target, "It must be set where codex starts."),
    )
    return Recipe((Snippet("~/.codex/config.toml", "toml", text),), steps)


def aider(target: Target) -> Recipe:
    """aider, whose ``openai/`` is a word to LiteLLM and no part of the model's name; it insists on a key."""
    key = "" if target.key_env else "openai-api-key: none\n"
    text = f"""\
model: {quoted("openai/" + target.model)}
openai-api-base: {quoted(target.api)}
{key}show-model-warnings: false
"""
    how = f'aider looks for OPENAI_API_KEY: export OPENAI_API_KEY="${target.key_env}" where it starts.'
    where = "~/.aider.conf.yml, or the same file at the root of a repository"
    return Recipe((Snippet(where, "yaml", text),), key_steps(target, how))


def opencode(target: Target) -> Recipe:
    """The AI SDK's provider for servers that are compatible; of a limit opencode wants both parts."""
    model: dict[str, Any] = {"name": target.model}
    if target.context_tokens:
        model["limit"] = {"context": target.context_tokens, "output": target.answer_tokens}
    options = {"baseURL": target.api}
    if target.key_env:
        options["apiKey"] = f"{{env:{target.key_env}}}"
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "goss-supervisor",
        "options": options,
        "models": {target.model: model},
    }
    config = {
        "$schema": "https://opencode.ai/config.json",
        "model": f"goss/{target.model}",
        "provider": {"goss": provider},
    }
    steps = (*context_steps(target, agent=True), *key_steps(target, "It must be set where opencode starts."))
    where = "~/.config/opencode/opencode.json, or opencode.json at the root of a project"
    return Recipe((Snippet(where, "json", _json(config)),), steps)


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
