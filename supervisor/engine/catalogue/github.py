"""How we reach GitHub: addresses, proxy and token, from settings and the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import quote

from ...download.network import demand_token, is_private, web_address
from .releases import REPOSITORY

API, WEB = "https://api.github.com", "https://github.com"
API_VARIABLE, WEB_VARIABLE = "GOSS_SUPERVISOR_GITHUB_API", "GOSS_SUPERVISOR_GITHUB"
TOKEN_VARIABLES = ("GITHUB_TOKEN", "GH_TOKEN")
PORTAL = "Does this network want a login first, or is the address of a mirror or of the API a wrong one?"


@dataclass(frozen=True, slots=True)
class GitHubAccess:
    """
    ``api`` and ``web`` are base addresses without a slash at the end; the downloads are below ``web``.

    ``token`` goes to the host of ``api`` alone, and never unencrypted beyond this machine.  ``proxy``
    None leaves it to the environment (HTTPS_PROXY, NO_PROXY …).
    """

    api: str = API
    web: str = WEB
    token: str = field(default="", repr=False)
    proxy: str | None = None

    @classmethod
    def of(cls, mirror: str | None, proxy: str | None, environ: Mapping[str, str]) -> Self:
        """
        As settings and environment say; where both do, as the environment does.

        A mirror replaces https://github.com: it has the downloads, and knows nothing of the API.
        Raises ConfigError for an address that is none, and for a token that cannot be one.
        """
        web = environ.get(WEB_VARIABLE, "")
        return cls(
            api=web_address(API_VARIABLE, environ.get(API_VARIABLE) or API, WEB),
            web=web_address(*((WEB_VARIABLE, web) if web else ("engine.mirror", mirror or WEB)), WEB),
            token=_token(environ),
            proxy=proxy or None,
        )

    def api_url(self, path: str) -> str:
        return f"{self.api}/repos/{REPOSITORY}/{path}"

    def asset_url(self, tag: str, name: str) -> str:
        return f"{self.web}/{REPOSITORY}/releases/download/{quote(tag)}/{quote(name)}"

    @property
    def api_token(self) -> str:
        """Empty where others could read it on its way."""
        return self.token if is_private(self.api) else ""


def _token(environ: Mapping[str, str]) -> str:
    """The first that is set.  Errors do not show it."""
    for name in TOKEN_VARIABLES:
        if token := environ.get(name, "").strip():
            return demand_token(name, token, f"Set {name} anew, or unset it.")
    return ""
