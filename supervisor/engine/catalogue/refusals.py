"""Answers of GitHub that are none, and silence, as errors that say what came instead."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from ...download.network import Unreachable
from ...errors import NetworkError, NotFound
from .github import PORTAL

_WITHOUT_A_TOKEN = 60  # requests an hour and address: docs.github.com, "Rate limits for the REST API"
_OFFLINE = "What is installed goes on working. If a proxy or a mirror is needed: engine.proxy, engine.mirror."
_LIMITED = "Set GITHUB_TOKEN to a token of yours (it needs no rights), or use the build that comes pinned."


@dataclass(frozen=True, slots=True)
class Reply:
    """``asked`` and ``url`` differ after a redirect.  Header names in lower case."""

    asked: str
    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


def check(reply: Reply, now: datetime, *, has_token: bool) -> None:
    """Raises NotFound and NetworkError for whatever is not a 200."""
    if reply.status == 200:
        return
    if reply.status == 404:
        raise NotFound(f"{shown(reply.asked)} does not exist.")
    if _is_limit(reply):
        raise _limit(reply, now, has_token=has_token)
    if reply.status == 401 and has_token:
        raise NetworkError(
            "GitHub does not accept the token in GITHUB_TOKEN.", hint="Renew it or unset it: it may be empty."
        )
    raise broken(reply)


def broken(reply: Reply) -> NetworkError:
    told = f" ({message})" if (message := _message(reply.body)) else ""
    return NetworkError(f"{shown(reply.url)} answered {reply.status}{told}.", hint=_OFFLINE)


def not_json(reply: Reply) -> NetworkError:
    """For a 200 that is something else: most often the login page of a network."""
    return NetworkError(
        f"{shown(reply.asked)} answered with {_looks_like(reply)}, not with the JSON of GitHub.", hint=PORTAL
    )


def not_text(reply: Reply) -> NetworkError:
    return NetworkError(f"{shown(reply.asked)} answered with {_looks_like(reply)}.", hint=PORTAL)


def unreachable(failure: Unreachable) -> NetworkError:
    return NetworkError(f"GitHub cannot be asked: {str(failure).rstrip('.')}.", hint=_OFFLINE)


def shown(url: str) -> str:
    """Without what may be secret: a password before the host, a query."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def _is_limit(reply: Reply) -> bool:
    names = reply.headers
    used_up = names.get("x-ratelimit-remaining") == "0" or "retry-after" in names
    return reply.status == 429 or (reply.status == 403 and used_up)


def _limit(reply: Reply, now: datetime, *, has_token: bool) -> NetworkError:
    seconds = _wait_seconds(reply.headers, now)
    again = ""
    if seconds is not None:
        moment = (now + timedelta(seconds=seconds)).astimezone()
        again = f"; again at {moment:%H:%M} (in {max(1, math.ceil(seconds / 60))} min)"
    if reply.headers.get("x-ratelimit-remaining") != "0":
        return NetworkError(f"GitHub asks us to wait{again}.", hint=_LIMITED)
    number = reply.headers.get("x-ratelimit-limit", str(_WITHOUT_A_TOKEN))
    whom = "with this token" if has_token else "without a token"
    hint = "Use the build that comes pinned, or wait." if has_token else _LIMITED
    text = f"GitHub allows {number} requests an hour {whom} and they are used up{again}."
    return NetworkError(text, hint=hint)


def _wait_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """By the clock of the server, for ours may be wrong.  None where it does not say."""
    try:
        server = parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError):
        server = now
    after, reset = headers.get("retry-after", ""), headers.get("x-ratelimit-reset", "")
    if after.isdigit():
        return float(after)
    try:
        moment = parsedate_to_datetime(after) if after else datetime.fromtimestamp(int(reset), UTC)
        return max(0.0, (moment - server).total_seconds())
    except (ValueError, OverflowError, OSError, TypeError):
        return None


def _message(body: bytes) -> str:
    """GitHub's own words, where there are any."""
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        return ""
    return _short(str(message)).rstrip(".")


def _looks_like(reply: Reply) -> str:
    text = reply.body[:20_000].decode("utf-8", "replace").strip()
    from_whom = ""
    if urlsplit(reply.url).hostname != urlsplit(reply.asked).hostname:
        from_whom = f" of {urlsplit(reply.url).hostname}"
    if title := re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE):
        return f"the web page “{_short(title[1])}”{from_whom}"
    if text.startswith("<"):
        return f"a web page{from_whom}"
    return f"“{_short(text)}”{from_whom}" if text else f"nothing{from_whom}"


def _short(text: str) -> str:
    """One line that is safe to print."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= 100 else f"{line[:100]}…"
