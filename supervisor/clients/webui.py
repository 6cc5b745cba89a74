"""Open WebUI, which mostly runs in a container: what is local to us is not local to it."""

from __future__ import annotations

import shlex
from urllib.parse import urlsplit

from .steps import key_steps
from .types import Recipe, Snippet, Target

_IMAGE = "ghcr.io/open-webui/open-webui:main"
_HOST = "host.docker.internal"  # this machine, as containers call it; Linux wants it said
_BRIDGE = ("-p 3000:8080", f"--add-host={_HOST}:host-gateway")
_OURS = ("--network=host", "-e PORT=3000")  # 8080, its own default, is ours too


def open_webui(target: Target) -> Recipe:
    """
    The command that starts it.

    A container has a loopback of its own.  Where we listen on ours only, Linux lends it to the container;
    Docker Desktop passes requests on to it, under a name that the door does not let in by itself.
    """
    through = _through_the_host(target)
    if not target.is_local:
        return Recipe((Snippet("A shell", "sh", _run(_BRIDGE, through, target)),), _steps(target))
    files = (
        Snippet("A shell on Linux", "sh", _run(_OURS, target.api, target)),
        Snippet("A shell on macOS or Windows (Docker Desktop)", "sh", _run(_BRIDGE, through, target)),
        Snippet("The profile, for Docker Desktop", "yaml", f"gateway:\n  allow-hosts: {_HOST}\n"),
    )
    why = "A container does not reach 127.0.0.1 of its host, where the server listens"
    step = (
        f"{why}: hence the network of the host on Linux. The other way is listen.host: 0.0.0.0, with a key."
    )
    return Recipe(files, (step, *_steps(target)))


def _through_the_host(target: Target) -> str:
    parts = urlsplit(target.api)
    return parts._replace(netloc=f"{_HOST}:{parts.port}").geturl()


def _run(network: tuple[str, ...], api: str, target: Target) -> str:
    key = f'"${target.key_env}"' if target.key_env else "none"
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


def _steps(target: Target) -> tuple[str, ...]:
    again = (
        "Its variables count at its first start only: later it is Admin Settings, Connections, OpenAI API."
    )
    return ("It answers on http://localhost:3000.", again, *key_steps(target))
