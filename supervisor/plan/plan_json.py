"""Launch plans and listens as JSON, for the way from the CLI to the daemon."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ..decoding import FieldRules, Malformed, decode
from ..engine.adapters.known import is_known
from ..errors import SupervisorError
from ..profile.worker_address import parse_worker
from .launch import LaunchPlan
from .listen import Listen

SCHEMA = 2
ANOTHER_VERSION = "goss-supervisor stop, then start it again: the two programs are of different versions."


def to_json(plan: LaunchPlan) -> dict[str, Any]:
    """Everything, the secrets too: for the control socket (0600), never for a file or a screen."""
    return {"schema": SCHEMA, **asdict(plan)}


def public(plan: LaunchPlan) -> dict[str, Any]:
    """The same without what may be secret: for people."""
    hidden = {name: dict.fromkeys(getattr(plan, name), "(hidden)") for name in ("secrets", "settings")}
    document = {**to_json(plan), **hidden}
    for name in ("adjusted", "without_workers"):
        other: LaunchPlan | None = getattr(plan, name)
        document[name] = other.adjustment if other else None
    return document


def from_json(document: Mapping[str, Any]) -> LaunchPlan:
    """
    The plan that `to_json` wrote, fit to be run.  Raises SupervisorError for another schema, and for a
    document that is not a plan.
    """
    sent = dict(document)
    try:
        if (schema := sent.pop("schema", None)) != SCHEMA:
            raise Malformed([f"its schema is {schema!r}, not {SCHEMA}"])  # noqa: TRY301 - one answer to all
        return decode(LaunchPlan, sent, _RULES)
    except Malformed as error:
        raise SupervisorError(f"The plan cannot be read: {error}.", hint=ANOTHER_VERSION) from None


def listen_to_json(listen: Listen) -> dict[str, Any]:
    """Everything, the digests of keys too."""
    return asdict(listen)


def public_listen(listen: Listen) -> dict[str, Any]:
    """For people: a digest tells a key that can be guessed, so the keys are hidden, and those of peers."""
    peers = [{**asdict(each), "secret": "(hidden)" if each.secret else ""} for each in listen.peers]
    return {**asdict(listen), "keys": ["(hidden)"] * len(listen.keys), "peers": peers}


def listen_from_json(document: Mapping[str, Any]) -> Listen:
    """What `listen_to_json` wrote.  Raises SupervisorError for anything else."""
    try:
        return decode(Listen, document, _RULES, signed=("priority",))
    except Malformed as error:
        raise SupervisorError(f"The listen cannot be read: {error}.", hint=ANOTHER_VERSION) from None


def _are_addresses(workers: Iterable[str]) -> bool:
    try:
        return all(str(parse_worker(each)) == each for each in workers)
    except ValueError:
        return False


def _are_variables(names: Mapping[str, str]) -> bool:
    return all(name and "=" not in name for name in names)


_RULES: FieldRules = {
    "adapter": (is_known, "an engine's adapter of this version"),
    "argv": (lambda argv: bool(argv and argv[0]), "a program and its arguments"),
    "env": (_are_variables, "names of variables, without `=`"),
    "secrets": (_are_variables, "names of variables, without `=`"),
    "host": (bool, "an address"),
    "workers": (_are_addresses, "addresses such as 10.0.0.3:50052"),
    "port": (lambda port: port <= 65535, "a port, at most 65535"),
}
