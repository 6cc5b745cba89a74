"""Answers of the Hugging Face hub that are none, and silence, as errors that say what to do."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from ..download.network import Unreachable, host_of
from ..download.waiting import wait_seconds
from ..errors import NetworkError, NotFound, SupervisorError

OFFLINE = "Check the network. A proxy can be set as HTTPS_PROXY, a mirror of the hub as HF_ENDPOINT."
_TOKENS = "https://huggingface.co/settings/tokens"


def refusal(
    endpoint: str, repo: str, status: int, headers: Mapping[str, str], *, has_token: bool
) -> SupervisorError:
    """
    The error for a status that is not a success; header names in lower case.

    X-Error-Code is GatedRepo, RepoNotFound, RevisionNotFound or EntryNotFound.  Without a token the hub
    answers 401 for a repository that does not exist, so as not to tell which private ones do.
    """
    code = headers.get("x-error-code", "")
    if status in {401, 403} and code == "GatedRepo":
        return _gated(endpoint, repo, has_token=has_token)
    if status == 404 or (status == 401 and not has_token) or code == "RepoNotFound":
        return _nothing(endpoint, repo, code, has_token=has_token)
    if status == 429:
        return _wait(endpoint, headers, has_token=has_token)
    if status in {401, 403} and has_token:
        return NetworkError(
            f"{host_of(endpoint)} does not accept the token for {repo}{_message(headers)}.",
            hint=f"Make a new one at {_TOKENS} that may read this repository, and set HF_TOKEN.",
        )
    return NetworkError(f"{host_of(endpoint)} answered {status} for {repo}{_message(headers)}.", hint=OFFLINE)


def unreachable(endpoint: str, failure: Unreachable) -> NetworkError:
    text = f"The Hugging Face hub ({host_of(endpoint)}) cannot be asked: {str(failure).rstrip('.')}."
    return NetworkError(text, hint=OFFLINE)


def no_list(endpoint: str, body: bytes) -> NetworkError:
    """For a 200 that is something else: most often the login page of a network."""
    what = "a web page" if body.lstrip()[:1] == b"<" else "something else"
    return NetworkError(
        f"{host_of(endpoint)} answered with {what}, not with a list of files.",
        hint="Does this network want a login first, or is HF_ENDPOINT the address of something else?",
    )


def _gated(endpoint: str, repo: str, *, has_token: bool) -> NetworkError:
    accept = f"Accept its licence at {endpoint}/{repo}"
    if has_token:
        hint = f"{accept} with the account of your token, which must be allowed to read gated repositories."
        return NetworkError(f"{repo} is gated, and the account of your token has no access.", hint=hint)
    return NetworkError(
        f"{repo} is gated: its owner wants to know who downloads it.",
        hint=f"{accept}, make a token at {_TOKENS}, and set HF_TOKEN to it.",
    )


def _nothing(endpoint: str, repo: str, code: str, *, has_token: bool) -> NotFound:
    if code == "EntryNotFound":
        return NotFound(f"{repo} at {host_of(endpoint)} has no such file.", hint=f"See {endpoint}/{repo}")
    private = "" if has_token else " If it is private, set HF_TOKEN."
    return NotFound(
        f"There is no repository {repo} at {host_of(endpoint)}, or it is private.",
        hint=f"Check the name: {endpoint}/{repo}.{private}",
    )


def _wait(endpoint: str, headers: Mapping[str, str], *, has_token: bool) -> NetworkError:
    now = datetime.now(UTC)
    seconds, again = wait_seconds(headers, now), ""
    if seconds is not None:
        moment = (now + timedelta(seconds=seconds)).astimezone()
        again = f"; again at {moment:%H:%M} (in {max(1, math.ceil(seconds / 60))} min)"
    hint = "What came so far is kept." if has_token else "With a token more is allowed: set HF_TOKEN."
    return NetworkError(f"{host_of(endpoint)} had too many requests from here{again}.", hint=hint)


def _message(headers: Mapping[str, str]) -> str:
    """The hub's own words, as one line that is safe to print, or nothing."""
    words = " ".join(re.sub(r"[^\x20-\x7e]", " ", headers.get("x-error-message", "")).split()).rstrip(".")
    return f" ({words[:160]})" if words else ""
