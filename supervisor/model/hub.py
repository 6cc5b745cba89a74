"""The Hugging Face hub: a repository's files, which are a model, and why a request was refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any, Self
from urllib.parse import quote, urljoin, urlsplit

from ..download.network import (
    DEFAULT_RETRY,
    Page,
    RetryPolicy,
    Unreachable,
    again_at,
    demand_token,
    host_of,
    is_private,
    page,
    web_address,
)
from ..errors import NetworkError, NotFound, SupervisorError, UsageError, VerificationFailed
from .locate import hugging_face_home, names_of_parts, stem_of

ENDPOINT = "https://huggingface.co"
ENDPOINT_VARIABLE = "HF_ENDPOINT"
# The names and their order are huggingface_hub's, whose `hf auth login` writes the file.
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
TOKEN_FILE_VARIABLE = "HF_TOKEN_PATH"  # noqa: S105 - the name of a variable
REVISION = "main"
REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)

_TOKEN_HINT = "Set it anew, or unset it: hf auth login"  # noqa: S105 - what to do about one
_MOST_PAGE_BYTES = 16 << 20  # a page has 1000 files at most, of some 300 bytes each
_MOST_PAGES = 100
_NEXT = re.compile(r'<([^>]+)>\s*;[^,]*\brel="?next"?')
OFFLINE = "Check the network. A proxy can be set as HTTPS_PROXY, a mirror of the hub as HF_ENDPOINT."
_TOKENS = "https://huggingface.co/settings/tokens"


@dataclass(frozen=True, slots=True)
class Hub:
    """
    ``endpoint`` is an address without a slash at the end; it may be a mirror.

    ``token`` goes to the endpoint alone, never to the hosts that it redirects to, and never unencrypted
    beyond this machine.  A proxy is the environment's (HTTPS_PROXY, NO_PROXY).
    """

    endpoint: str = ENDPOINT
    token: str = field(default="", repr=False)
    retry: RetryPolicy = DEFAULT_RETRY
    withheld: bool = False
    """There is a token, and it is not sent because others could read it on its way."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Raises ConfigError for an address that is none, and for a token that cannot be one."""
        endpoint = web_address(
            ENDPOINT_VARIABLE, environ.get(ENDPOINT_VARIABLE, "").strip() or ENDPOINT, ENDPOINT
        )
        token = _token(environ)
        if is_private(endpoint):
            return cls(endpoint, token)
        return cls(endpoint, withheld=token != "")

    def files(self, repo: str) -> tuple[HubFile, ...]:
        """
        All files of a repository's main branch.

        Raises UsageError for what is no repository's name, NotFound, and NetworkError for all refusals.
        """
        demand_repository(repo)
        return tuple(file for entry in self._entries(repo) if (file := _file(entry)))

    def url(self, repo: str, path: str) -> str:
        """Where a file can be had; it redirects to another host."""
        return f"{self.endpoint}/{repo}/resolve/{REVISION}/{quote(path)}"

    def get(self, repo: str, url: str, headers: Mapping[str, str], most_bytes: int) -> Page:
        """An answer with status 200 or 206.  Raises NotFound, and NetworkError in words."""
        try:
            found = page(url, headers, most_bytes, retry=self.retry, token=self.token)
        except Unreachable as failure:
            text = f"The Hugging Face hub ({self._host}) cannot be reached: {str(failure).rstrip('.')}."
            raise NetworkError(text, hint=failure.hint or OFFLINE) from failure
        if found.status in {200, 206}:
            return found
        raise self.refusal(repo, found.status, found.headers)

    def _entries(self, repo: str) -> Iterator[Mapping[str, Any]]:
        """Source: https://huggingface.co/docs/hub/api, "tree"; the pages are chained by Link headers."""
        url = f"{self.endpoint}/api/models/{repo}/tree/{REVISION}?recursive=true"
        for _ in range(_MOST_PAGES):
            found = self.get(repo, url, {"Accept-Encoding": "gzip"}, _MOST_PAGE_BYTES)
            yield from self._listed(found)
            following = _NEXT.search(found.headers.get("link", ""))
            if following is None:
                return
            url = urljoin(url, following[1])
            if urlsplit(url)[:2] != urlsplit(self.endpoint)[:2]:  # the token is not for others
                raise NetworkError(f"{self.endpoint} continues its list of files at another host.")
        raise NetworkError(f"{self.endpoint} has no end of files in {repo}.")

    def _listed(self, found: Page) -> list[Mapping[str, Any]]:
        try:
            entries = json.loads(found.body)
        except ValueError:
            entries = None
        if isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries):
            return entries
        what = "a web page" if found.body.lstrip()[:1] == b"<" else "something else"
        raise NetworkError(
            f"{self._host} answered with {what}, not with a list of files.",
            hint="Does this network want a login first, or is HF_ENDPOINT the address of something else?",
        )

    @property
    def _host(self) -> str:
        return host_of(self.endpoint)

    def refusal(self, repo: str, status: int, headers: Mapping[str, str]) -> SupervisorError:
        """
        The error for a status that is not a success; header names in lower case.

        X-Error-Code is GatedRepo, RepoNotFound, RevisionNotFound or EntryNotFound.  Without a token the hub
        answers 401 for a repository that does not exist, so as not to tell which private ones do.
        """
        code = headers.get("x-error-code", "")
        if self.withheld and (status in {401, 403} or code == "GatedRepo"):
            sent = f"Yours was not sent: {self.endpoint} is not encrypted."
            return NetworkError(
                f"{self._host} wants a token for {repo}. {sent}",
                hint=f"Set {ENDPOINT_VARIABLE} to an https:// address.",
            )
        if status in {401, 403} and code == "GatedRepo":
            return self._gated(repo)
        if status == 404 or (status == 401 and not self.token) or code == "RepoNotFound":
            return self._nothing(repo, code)
        if status == 429:
            text = f"{self._host} had too many requests from here{again_at(headers)}."
            more = "With a token more is allowed: set HF_TOKEN."
            return NetworkError(
                text, hint="What came so far is kept." if self.token or self.withheld else more
            )
        if status in {401, 403} and self.token:
            return NetworkError(
                f"{self._host} does not accept the token for {repo}{_message(headers)}.",
                hint=f"Make a new one at {_TOKENS} that may read this repository, and set HF_TOKEN.",
            )
        return NetworkError(f"{self._host} answered {status} for {repo}{_message(headers)}.", hint=OFFLINE)

    def _gated(self, repo: str) -> NetworkError:
        accept = f"Accept its licence at {self.endpoint}/{repo}"
        if self.token:
            return NetworkError(
                f"{repo} is gated, and the account of your token has no access.",
                hint=f"{accept} with that account; the token must be allowed to read gated repositories.",
            )
        return NetworkError(
            f"{repo} is gated: its owner wants to know who downloads it.",
            hint=f"{accept}, make a token at {_TOKENS}, and set HF_TOKEN to it.",
        )

    def _nothing(self, repo: str, code: str) -> NotFound:
        page_of = f"{self.endpoint}/{repo}"
        if code == "EntryNotFound":
            return NotFound(f"{repo} at {self._host} has no such file.", hint=f"See {page_of}")
        private = "" if self.token else " If it is private, set HF_TOKEN."
        if self.withheld:
            private = f" If it is private: your token was not sent, since {self.endpoint} is not encrypted."
        return NotFound(
            f"There is no repository {repo} at {self._host}, or it is private.",
            hint=f"Check the name: {page_of}.{private}",
        )


def demand_repository(repo: str) -> None:
    if not REPOSITORY.fullmatch(repo) or ".." in repo:
        raise UsageError(
            f"{repo} is no repository's name on the Hugging Face hub.",
            hint="It looks like owner/name: ggml-org/gpt-oss-20b-GGUF",
        )


def _file(entry: Mapping[str, Any]) -> HubFile | None:
    """None for a folder, and for a file outside the repository."""
    path, size = entry.get("path"), entry.get("size")
    if entry.get("type") != "file" or not isinstance(path, str) or not isinstance(size, int):
        return None
    stored = entry.get("lfs")
    sha256 = stored.get("oid") if isinstance(stored, dict) else ""
    digest = sha256 if isinstance(sha256, str) and re.fullmatch(r"[0-9a-f]{64}", sha256) else ""
    return HubFile(path, size, digest) if is_inside(path) else None


def _token(environ: Mapping[str, str]) -> str:
    """The first that is set, else what `hf auth login` wrote.  It is never shown."""
    for name in TOKEN_VARIABLES:
        if token := environ.get(name, "").strip():
            return demand_token(name, token, _TOKEN_HINT)
    named = environ.get(TOKEN_FILE_VARIABLE)
    file = Path(named).expanduser() if named else hugging_face_home(environ) / "token"
    try:
        return demand_token(str(file), file.read_text("utf-8").strip(), _TOKEN_HINT)
    except (OSError, UnicodeDecodeError):
        return ""  # not logged in; the hub says so if that is needed


def _message(headers: Mapping[str, str]) -> str:
    """The hub's own words, as one line that is safe to print, or nothing."""
    words = " ".join(re.sub(r"[^\x20-\x7e]", " ", headers.get("x-error-message", "")).split()).rstrip(".")
    return f" ({words[:160]})" if words else ""


_MOST_NAMED = 20  # models in a message


@dataclass(frozen=True, slots=True)
class HubFile:
    """``path`` is relative, with slashes; ``sha256`` is "" for what is too small to be stored apart."""

    path: str
    size_bytes: int
    sha256: str


Models = Mapping[str, tuple[HubFile, ...]]


def is_inside(path: str) -> bool:
    """Whether it stays in the folder that it is put into, on every system."""
    parts = re.split(r"[/\\]", path)
    return not any(part in {"", ".", ".."} or ":" in part for part in parts)


def models_of(files: Iterable[HubFile]) -> Models:
    """Every model's files by the name of the first, as far as they are there."""
    models: dict[str, tuple[HubFile, ...]] = {}
    for file in sorted(files, key=lambda file: file.path):
        if file.path.endswith(".gguf"):
            first = names_of_parts(file.path)[0]
            models[first] = (*models.get(first, ()), file)
    return models


def choose(repo: str, files: Iterable[HubFile], wanted: str | None) -> tuple[HubFile, ...]:
    """
    All parts of the model that is meant, in order.

    ``wanted`` is a file, any part of a split one, the name without its end, or a quantization that one model
    has; None is the only model that there is.  Raises NotFound; UsageError where several could be meant;
    VerificationFailed for a split model of which the hub has not all parts.
    """
    models = models_of(files)
    if not models:
        raise NotFound(
            f"{repo} has no GGUF file.", hint="llama.cpp needs one; such a repository is often named …-GGUF."
        )
    first = _meant(repo, models, wanted)
    parts = models[first]
    here = {part.path for part in parts}
    due = names_of_parts(first)
    if missing := [name for name in due if name not in here]:
        names = ", ".join(missing[:_MOST_NAMED])
        raise VerificationFailed(
            f"{repo} has only {len(parts)} of the {len(due)} parts: no {names}.",
            hint="Its upload may not be finished yet.",
        )
    return parts


def _meant(repo: str, models: Models, wanted: str | None) -> str:
    found = _matching(models, wanted) if wanted else [name for name in models if not is_companion(name)]
    if len(found) == 1:
        return found[0]
    if found:
        which = f"{wanted} in {repo} can be" if wanted else f"{repo} has"
        raise UsageError(
            f"{which} {len(found)} models:{_lines(models, found)}",
            hint=f"Name one: {repo}:{stem_of(found[0])}",
        )
    near = get_close_matches(wanted or "", models, n=5, cutoff=0.3) or list(models)
    raise NotFound(f"{repo} has no {wanted}. It has:{_lines(models, near)}", hint=f"Name one: {repo}:FILE")


def _matching(models: Models, wanted: str) -> list[str]:
    """What the words mean exactly, else what they are a part of."""
    exact = [name for name in models if wanted in {name, stem_of(name)} or names_of_parts(wanted)[0] == name]
    if exact:
        return exact
    files = {name: PurePosixPath(name).name for name in models}
    base = [name for name, file in files.items() if wanted in {file, stem_of(file)}]
    word = re.compile(rf"(?<![^\W_]){re.escape(wanted)}(?![^\W_])", re.IGNORECASE)
    return base or [name for name in models if word.search(stem_of(name)) and not is_companion(name)]


def is_companion(name: str) -> bool:
    """A GGUF that goes with a model: what sees pictures, or what a quantization was weighed with."""
    return any(word in PurePosixPath(name).name.lower() for word in ("mmproj", "imatrix"))


def _lines(models: Models, names: list[str]) -> str:
    lines = [f"{stem_of(name)}: {_size(models[name])}" for name in names[:_MOST_NAMED]]
    more = [f"and {len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    return "".join(f"\n  {line}" for line in (*lines, *more))


def _size(parts: tuple[HubFile, ...]) -> str:
    total = sum(part.size_bytes for part in parts)
    text = f"{total / 10**9:.1f} GB" if total >= 10**9 else f"{total / 10**6:.1f} MB"
    return f"{text} in {len(parts)} files" if len(parts) > 1 else text
