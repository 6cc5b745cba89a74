"""What a start, switch or restart came to: the same words everywhere."""

from __future__ import annotations

import json
from typing import Any

import click

from ..errors import EXIT_DEGRADED, EXIT_OK, StartFailed, Superseded


def show_outcome(answer: dict[str, Any], *, as_json: bool) -> int:
    """Answers with the exit code.  Raises StartFailed with the last lines of the log, and Superseded."""
    outcome, status = answer["outcome"], answer.get("status", {})
    if as_json:
        click.echo(json.dumps({"schema": 1, "outcome": outcome, **status}))
    if outcome["result"] in {"failed", "rolled back"}:
        raise StartFailed(_story(outcome, status), hint=outcome.get("hint", ""))
    if outcome["result"] == "superseded":
        what = f"{outcome['profile']} was not started" if outcome["profile"] else "Nothing was done"
        raise Superseded(f"{what}: {outcome['why']}.", hint="goss-supervisor status shows what runs now.")
    if not as_json:
        click.echo(_sentence(outcome, status.get("server", {})))
    return EXIT_DEGRADED if outcome["result"] == "degraded" else EXIT_OK


def _sentence(outcome: dict[str, Any], server: dict[str, Any]) -> str:
    profile = outcome["profile"]
    match outcome["result"]:
        case "ready":
            return f"{profile} is ready at {server['url']}"
        case "degraded":
            return f"{profile} serves at {server['url']}, degraded: {outcome['why']}"
        case "asleep" if outcome["hint"]:  # there is no gateway that could wake it
            return f"{profile} sleeps; nothing loads it but {outcome['hint']}"
        case "asleep":
            return f"{profile} sleeps; {outcome['why']}"
        case "unchanged":
            return f"{profile} is unchanged: nothing was restarted"
        case other:
            return f"{profile}: {other}"


def _story(outcome: dict[str, Any], status: dict[str, Any]) -> str:
    failure = status.get("server", {}).get("last_failure") or {}
    tail = "".join(f"\n  | {line}" for line in failure.get("log_tail", []))
    if outcome["result"] == "rolled back":
        return f"The switch failed, and {outcome['profile']} runs again: {outcome['why']}{tail}"
    return f"{outcome['profile']} did not become ready: {outcome['why']}{tail}"
