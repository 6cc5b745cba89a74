"""The environment that a service will have, and what preparing it has besides."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from .contract import Scope

# where things lie, and which computer is meant; none of them holds a secret
_PLACES = (
    "GOSS_SUPERVISOR_HARDWARE", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "LLAMA_CACHE",
    "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME",
)  # fmt: skip
_HUB = "HF_ENDPOINT"

# systemd.exec(5), $PATH; a user's manager may have more, but only after a login
_OF_SYSTEMD = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OF_LAUNCHD = "/usr/bin:/bin:/usr/sbin:/sbin"  # _PATH_STDPATH in its paths.h

_OF_A_SESSION = ("HOME", "LOGNAME", "SHELL", "USER", "XDG_RUNTIME_DIR")
_OF_THE_TERMINAL = ("COLORTERM", "LANG", "LC_ALL", "LC_CTYPE", "NO_COLOR", "TERM")
_OF_THE_NETWORK = (
    "ALL_PROXY", "CURL_CA_BUNDLE", "GH_TOKEN", "GITHUB_TOKEN", "GOSS_SUPERVISOR_GITHUB",
    "GOSS_SUPERVISOR_GITHUB_API", _HUB, "HF_TOKEN", "HF_TOKEN_PATH", "HTTPS_PROXY", "HTTP_PROXY",
    "HUGGING_FACE_HUB_TOKEN", "NO_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE",
)  # fmt: skip


def kept(scope: Scope, environ: Mapping[str, str]) -> dict[str, str]:
    """
    What a service takes along from who installs it; one of the system takes nothing.

    A service runs in another folder, so places are made absolute.
    """
    if scope == "system":
        return {}
    places = {name: str(Path(environ[name]).expanduser().absolute()) for name in _PLACES if environ.get(name)}
    hub = environ.get(_HUB, "")
    return places | ({_HUB: hub} if hub and "@" not in hub else {})  # a password may stand before the @


def path_of_services(environ: Mapping[str, str], platform: str = sys.platform) -> str:
    """PATH as the service manager sets it; of a task of Windows it is its user's."""
    return {"linux": _OF_SYSTEMD, "darwin": _OF_LAUNCHD}.get(platform) or environ.get("PATH", "")


def for_preparing(
    service: Mapping[str, str], login: Mapping[str, str] | None, environ: Mapping[str, str]
) -> dict[str, str]:
    """
    The environment of the program that prepares a service on this terminal.

    It is what the service will have, so that both find the same; and what reaches the network and the
    terminal.  ``service`` is what is written into its file, ``login`` what another user has by logging in;
    None is who runs this program.
    """
    login = {name: environ[name] for name in _OF_A_SESSION if name in environ} if login is None else login
    besides = {name: value for name, value in environ.items() if _is_for_preparing(name)}
    return {**besides, **login, "PATH": path_of_services(environ), **service}


def _is_for_preparing(name: str) -> bool:
    """Proxies are written in either case; pip has a variable for each of its options."""
    upper = name.upper()
    return upper in _OF_THE_NETWORK or upper in _OF_THE_TERMINAL or upper.startswith("PIP_")
