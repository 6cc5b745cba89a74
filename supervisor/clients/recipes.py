"""The known programs that use a model, each with its configuration and the steps to set it up.  Pure."""

from __future__ import annotations

import json
import shlex
from typing import Any
from urllib.parse import urlsplit

from ..errors import NotFound, similar_names
from .client_endpoint import (
    ClientApp,
    ClientEndpoint,
    Recipe,
    Snippet,
    context_steps,
    key_steps,
    quoted,
)
from .libraries import LIBRARIES


def cline(endpoint: ClientEndpoint) -> Recipe:
    """Cline is set up in its own panel, and keeps the key in the editor's store of secrets."""
    fields = {
        "API Provider": "OpenAI Compatible",
        "Base URL": endpoint.api,
        "API Key": f"the value of {endpoint.key_env}" if endpoint.key_env else "none",
        "Model ID": endpoint.model,
        "Context Window Size": str(endpoint.context_tokens) if endpoint.context_tokens else "",
        "Supports Images": "off",
        "Enable R1 messages format": "off",
    }
    width = max(map(len, fields)) + 1
    text = "".join(f"{name + ':':<{width}} {value}\n" for name, value in fields.items() if value)
    panel = "settings (the gear of its panel), API Configuration; the last ones under Model Configuration"
    key = key_steps(endpoint, "Cline reads no environment: paste the key itself into its field.")
    steps = (*context_steps(endpoint, agent=True), *key)
    return Recipe((Snippet(f"Cline: {panel}", "text", text),), steps)


def continue_(endpoint: ClientEndpoint) -> Recipe:
    """
    Continue by its provider ``openai``: the provider ``llama.cpp`` goes around the chat template.

    Secrets of a local configuration are read from ``~/.continue/.env``.
    """
    model: dict[str, Any] = {
        "name": endpoint.model,
        "provider": "openai",
        "model": endpoint.model,
        "apiBase": endpoint.api,
        "apiKey": f"${{{{ secrets.{endpoint.key_env} }}}}" if endpoint.key_env else "none",
        "roles": ["chat", "edit", "apply"],
        "capabilities": ["tool_use"],
    }
    if endpoint.context_tokens:
        model["defaultCompletionOptions"] = {"contextLength": endpoint.context_tokens}
    config = {"name": "goss-supervisor", "version": "0.0.1", "schema": "v1", "models": [model]}
    steps = (
        "Where there is a config.yaml already, only the entry of models is added to it.",
        *context_steps(endpoint),
        *key_steps(endpoint, f"For Continue it is in ~/.continue/.env, as {endpoint.key_env}=KEY."),
    )
    where = "~/.continue/config.yaml (Windows: %USERPROFILE%\\.continue\\config.yaml)"
    return Recipe((Snippet(where, "yaml", _yaml(config)),), steps)


def cline_cli(endpoint: ClientEndpoint) -> Recipe:
    """Cline in a terminal: it keeps what ``auth`` is told, the key too, in ~/.cline."""
    key = f'"${endpoint.key_env}"' if endpoint.key_env else "none"
    model = shlex.quote(endpoint.model)
    text = f"""\
cline auth openai-compatible -b {shlex.quote(endpoint.api)} -m {model} -k {key}
cline -P openai-compatible -m {model} 'Say hello.'
"""
    steps = ("npm install -g cline", *context_steps(endpoint, agent=True), *key_steps(endpoint))
    return Recipe((Snippet("A shell", "sh", text),), steps)


def continue_cli(endpoint: ClientEndpoint) -> Recipe:
    """Continue in a terminal, which reads the same file."""
    found = continue_(endpoint)
    steps = (
        "npm install -g @continuedev/cli, then cn, or cn -p 'Say hello.' for one question.",
        *found.steps,
    )
    return Recipe(found.files, steps)


def _yaml(document: dict[str, Any]) -> str:
    import yaml  # noqa: PLC0415 - only for the one client that reads it

    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000)
    return text


def claude_code(endpoint: ClientEndpoint) -> Recipe:
    """
    Claude Code by its settings: what stands there is certain to be read, what a shell exports is not always.

    The three tiers are mapped as well, for subagents and work in the background ask for them.  Its
    attribution header changes with every request, at the start of the prompt, so that llama-server could
    reuse nothing of the last one.
    """
    env = {
        "ANTHROPIC_BASE_URL": endpoint.url,
        **({} if endpoint.key_env else {"ANTHROPIC_AUTH_TOKEN": "none"}),
        "ANTHROPIC_MODEL": endpoint.model,
        **{f"ANTHROPIC_DEFAULT_{tier}_MODEL": endpoint.model for tier in ("OPUS", "SONNET", "HAIKU")},
        **_claude_limits(endpoint),
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    export = f'export ANTHROPIC_AUTH_TOKEN="${endpoint.key_env}" where claude starts.'
    steps = (
        "In .claude/settings.local.json of a project it holds for that project only.",
        "An ANTHROPIC_API_KEY in the environment would be sent as well: unset it.",
        *context_steps(endpoint, agent=True),
        *key_steps(endpoint, f"Settings know no variables: {export}"),
    )
    return Recipe((Snippet("~/.claude/settings.json", "json", _json({"env": env})),), steps)


def _claude_limits(endpoint: ClientEndpoint) -> dict[str, str]:
    """Without them it takes 200,000 tokens for granted, and 32,000 for each answer."""
    if not endpoint.context_tokens:
        return {}
    return {
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(endpoint.context_tokens),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(endpoint.answer_tokens),
    }


def codex(endpoint: ClientEndpoint) -> Recipe:
    """
    Codex speaks the Responses API and nothing else since February 2026; it names the key's variable itself.

    It gives up a silent stream after 5 minutes, less than a long prompt or a load may take.
    """
    context = f"model_context_window = {endpoint.context_tokens}\n" if endpoint.context_tokens else ""
    key = f"env_key = {quoted(endpoint.key_env)}\n" if endpoint.key_env else ""
    text = f"""\
model = {quoted(endpoint.model)}
model_provider = "goss"
{context}
[model_providers.goss]
name = "goss-supervisor"
base_url = {quoted(endpoint.api)}
wire_api = "responses"
{key}stream_idle_timeout_ms = 900000
"""
    steps = (
        "The lines before the table belong above all other tables of the file.",
        *context_steps(endpoint, agent=True),
        *key_steps(endpoint, "It must be set where codex starts."),
    )
    return Recipe((Snippet("~/.codex/config.toml", "toml", text),), steps)


def aider(endpoint: ClientEndpoint) -> Recipe:
    """aider, whose ``openai/`` is a word to LiteLLM and no part of the model's name; it insists on a key."""
    key = "" if endpoint.key_env else "openai-api-key: none\n"
    text = f"""\
model: {quoted("openai/" + endpoint.model)}
openai-api-base: {quoted(endpoint.api)}
{key}show-model-warnings: false
"""
    how = f'aider looks for OPENAI_API_KEY: export OPENAI_API_KEY="${endpoint.key_env}" where it starts.'
    where = "~/.aider.conf.yml, or the same file at the root of a repository"
    return Recipe((Snippet(where, "yaml", text),), key_steps(endpoint, how))


def opencode(endpoint: ClientEndpoint) -> Recipe:
    """The AI SDK's provider for servers that are compatible; of a limit opencode wants both parts."""
    model: dict[str, Any] = {"name": endpoint.model}
    if endpoint.context_tokens:
        model["limit"] = {"context": endpoint.context_tokens, "output": endpoint.answer_tokens}
    options = {"baseURL": endpoint.api}
    if endpoint.key_env:
        options["apiKey"] = f"{{env:{endpoint.key_env}}}"
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "goss-supervisor",
        "options": options,
        "models": {endpoint.model: model},
    }
    config = {
        "$schema": "https://opencode.ai/config.json",
        "model": f"goss/{endpoint.model}",
        "provider": {"goss": provider},
    }
    key = key_steps(endpoint, "It must be set where opencode starts.")
    steps = (*context_steps(endpoint, agent=True), *key)
    where = "~/.config/opencode/opencode.json, or opencode.json at the root of a project"
    return Recipe((Snippet(where, "json", _json(config)),), steps)


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


_IMAGE = "ghcr.io/open-webui/open-webui:main"
_HOST = "host.docker.internal"  # this machine, as containers call it; Linux wants it said
_BRIDGE = ("-p 3000:8080", f"--add-host={_HOST}:host-gateway")
_OURS = ("--network=host", "-e PORT=3000")  # 8080, its own default, is ours too


def open_webui(endpoint: ClientEndpoint) -> Recipe:
    """
    The command that starts it.

    A container has a loopback of its own.  Where we listen on ours only, Linux lends it to the container;
    Docker Desktop passes requests on to it, under a name that the gateway does not accept by default.
    """
    through = _through_the_host(endpoint)
    bridged = _docker_run(_BRIDGE, through, endpoint)
    if not endpoint.is_local:
        return Recipe((Snippet("A shell", "sh", bridged),), _webui_steps(endpoint))
    files = (
        Snippet("A shell on Linux", "sh", _docker_run(_OURS, endpoint.api, endpoint)),
        Snippet("A shell on macOS or Windows (Docker Desktop)", "sh", bridged),
        Snippet("The profile, for Docker Desktop", "yaml", f"gateway:\n  allow-hosts: {_HOST}\n"),
    )
    why = "A container does not reach 127.0.0.1 of its host, where the server listens"
    other = "The other way is listen.host: 0.0.0.0, with a key."
    step = f"{why}: hence the network of the host on Linux. {other}"
    return Recipe(files, (step, *_webui_steps(endpoint)))


def _through_the_host(endpoint: ClientEndpoint) -> str:
    parts = urlsplit(endpoint.api)
    return parts._replace(netloc=f"{_HOST}:{parts.port}").geturl()


def _docker_run(network: tuple[str, ...], api: str, endpoint: ClientEndpoint) -> str:
    key = f'"${endpoint.key_env}"' if endpoint.key_env else "none"
    lines = (
        "docker run -d --name open-webui --restart always",
        *network,
        "-v open-webui:/app/backend/data",
        f"-e OPENAI_API_BASE_URL={shlex.quote(api)}",
        f"-e OPENAI_API_KEY={key}",
        "-e ENABLE_OLLAMA_API=false",
        _IMAGE,
    )
    return " \\\n  ".join(lines) + "\n"


def _webui_steps(endpoint: ClientEndpoint) -> tuple[str, ...]:
    later = "later it is Admin Settings, Connections, OpenAI API."
    again = f"Its variables count at its first start only: {later}"
    return ("It answers on http://localhost:3000.", again, *key_steps(endpoint))


CLIENTS: tuple[ClientApp, ...] = (
    ClientApp("cline", "Cline, in VS Code and other editors", cline),
    ClientApp("continue", "Continue, in VS Code and JetBrains", continue_),
    ClientApp("cline-cli", "cline, on the command line", cline_cli),
    ClientApp("cn", "cn, Continue on the command line", continue_cli),
    ClientApp("claude-code", "Claude Code", claude_code),
    ClientApp("codex", "Codex CLI", codex),
    ClientApp("aider", "aider", aider),
    ClientApp("open-webui", "Open WebUI", open_webui),
    ClientApp("opencode", "opencode", opencode),
    *LIBRARIES,
)
NAMES: tuple[str, ...] = tuple(client.name for client in CLIENTS)


def find_client(name: str) -> ClientApp:
    """Raises NotFound, with near names."""
    for client in CLIENTS:
        if client.name == name.lower():
            return client
    near = similar_names(name, NAMES, 3)
    question = f" Did you mean {' or '.join(near)}?" if near else ""
    raise NotFound(
        f"There is no client {name!r} here.{question}",
        hint="goss-supervisor client-config lists them; what openai-python prints will do for most others.",
    )
