"""``plan``: exactly what ``start`` would do, without doing it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import EXIT_OK
from ..paths import Paths
from .common import (
    hardware_option,
    json_option,
    or_default,
    parse_settings,
    profile_or_default_argument,
    set_option,
    verbose_option,
)
from .output import size, table

if TYPE_CHECKING:
    from ..memory.accounts import Account
    from ..memory.fitting import Fitted
    from ..memory.verdict import PoolJudgement
    from ..plan.launch import LaunchPlan
    from ..plan.listen import Listen, Offer
    from ..prepare.prepare import Preparation

_HEADERS = ("memory", "needs", "free", "of", "weights", "context", "compute", "other", "says", "verdict")
_USUAL_PROMPT_TOKENS = 16_000  # of a coding agent, with its tools and a few files


@click.command()
@profile_or_default_argument
@set_option
@hardware_option
@verbose_option
@json_option
def plan(
    *,
    profile: str | None,
    settings: tuple[str, ...],
    hardware_file: Path | None,
    verbose: bool,
    as_json: bool,
) -> int:
    """
    Show whether a profile fits, and the exact command line that start would run.

    -v adds the environment, the memory table, the gateway, and the reason for each option.  Without a
    PROFILE, plan takes the one that start would choose.  It needs neither the model on disk nor an engine.
    """
    name = or_default(profile, Paths.from_environment())
    return show_plan(name, settings, hardware_file, verbose=verbose, as_json=as_json)


def show_plan(
    profile: str,
    settings: tuple[str, ...],
    hardware: Path | None = None,
    *,
    named: tuple[str, ...] = (),
    verbose: bool = False,
    as_json: bool,
) -> int:
    from ..prepare.prepare import preview  # noqa: PLC0415 - YAML and all the rest: only when it is needed

    told: list[str] = []

    def warn(sentence: str) -> None:
        """Print a warning before the hub is asked, which may take a while."""
        if not as_json:
            told.append(sentence.rstrip("."))
            click.echo(f"# warning: {sentence}")

    paths = Paths.from_environment()
    found = preview(profile, parse_settings(settings), paths, hardware, named, warn=warn)
    lines = [] if as_json else _lines(found, verbose=verbose, told=told)
    click.echo(json.dumps(plan_document(found)) if as_json else "\n".join(lines))
    return EXIT_OK


def plan_document(found: Preparation) -> dict[str, object]:
    """For programs; without secrets."""
    from ..plan.child_environment import SCRUBBED  # noqa: PLC0415
    from ..plan.plan_json import public, public_listen  # noqa: PLC0415 - as above

    return {
        **public(found.plan),
        "env": _environment(found),
        "listen": public_listen(found.listen) if found.listen else None,
        "warnings": [*found.warnings, *_crowded(found.plan)],
        "env_removed": list(SCRUBBED),
        "notes": list(found.notes),
        "ledger": _ledger_json(found.fitted) if found.fitted else None,
    }


def _lines(found: Preparation, *, verbose: bool, told: Sequence[str]) -> Iterator[str]:
    """
    All but the command is comments, so that the whole can be pasted into a shell.  ``told`` are warnings that
    are on the screen already.
    """
    verdict = _verdict(found)
    yield from (f"# {line}" for line in verdict.values())
    yield _wrapped(found.plan.argv)
    if verbose:
        yield from _details(found)
    yield from _offers(found.listen)
    yield f"# engine: {found.plan.build} {found.plan.flavour}: {found.plan.engine}"
    yield from (f"# note: {note}" for note in found.notes if note not in verdict)
    warnings = [each for each in (*found.warnings, *_crowded(found.plan)) if each not in told]
    yield from (f"# warning: {warning}" for warning in warnings)
    if not verbose:
        yield "# -v shows the environment, the memory account, the gateway and what was translated"


def _verdict(found: Preparation) -> dict[str, str]:
    """Whether it fits: a line for each memory by its text, or the note that tells why it is not known."""
    if found.fitted is None:
        return {note: note for note in found.notes if note.startswith("what it takes of the memory")}
    judged = found.fitted.verdict.judgements
    return {each.text: f"{each.status}: {each.text}" for each in judged if each.needed_bytes}


def _details(found: Preparation) -> Iterator[str]:
    from ..plan.child_environment import SCRUBBED  # noqa: PLC0415
    from ..plan.make import translation_line  # noqa: PLC0415 - as above
    from ..server.survivors import why_ended  # noqa: PLC0415 - as above

    plan = found.plan
    yield "# environment"
    for name, value in _environment(found).items():
        yield f"{name}={shlex.quote(value)}"
    yield f"# removed from the environment: {' '.join(SCRUBBED)}"
    if found.fitted is not None:
        rows = [_row(*row) for row in _accounts(found.fitted)]
        yield from (f"# {line}" for line in table(_HEADERS, rows).splitlines())
    if found.listen is not None:
        yield _gateway(plan, found.listen)
    yield from (f"# translated: {translation_line(each)}" for each in plan.translations)
    ends = why_ended(plan)
    yield f"# orphan: {f'end ({ends})' if ends else 'adopt'}"
    yield f"# digest: {plan.digest}"


def _gateway(plan: LaunchPlan, listen: Listen) -> str:
    """Where clients come in and where that leads; a port that is found at the launch has no number yet."""
    inside = plan.host if plan.host.endswith(".sock") else f"{plan.host}, a free port"
    tls = " with TLS" if listen.tls_certificate else ""
    outside = listen.host if listen.host.endswith(".sock") else f"{listen.host}:{listen.port}{tls}"
    return f"# gateway: {outside} -> {inside}"


def _offers(listen: Listen | None) -> Iterator[str]:
    """The models that clients may ask for, where there are several, and the boxes that have more."""
    if listen is not None and len(listen.offers) > 1:
        yield f"# offered: {', '.join(map(_offered, listen.offers))}"
    for peer in listen.peers if listen is not None else ():
        key = f", with the key in {peer.api_key_env}" if peer.api_key_env else ""
        yield f"# peer: {peer.name} at {peer.url}{key}"


def _offered(offer: Offer) -> str:
    """``small (loaded at the start, pinned, priority 5)``."""
    terms = ["loaded at the start"] * offer.load + ["pinned"] * offer.pinned
    terms += [f"priority {offer.priority}"] if offer.priority else []
    return f"{offer.profile} ({', '.join(terms)})" if terms else offer.profile


def _crowded(plan: LaunchPlan) -> Iterator[str]:
    """Where usual prompts in all slots would not fit into the context that they share."""
    slots, tokens = plan.context_slots, plan.shared_context_tokens
    if tokens and slots * _USUAL_PROMPT_TOKENS > tokens:
        yield f"{slots} slots share {tokens:,} tokens: one request may use all of it; others then wait"


def _environment(found: Preparation) -> dict[str, str]:
    from ..home.places import private_config  # noqa: PLC0415 - as above
    from ..plan.child_environment import added_environment  # noqa: PLC0415

    return added_environment(found.plan, private_config(Paths.from_environment()))


def _wrapped(argv: tuple[str, ...]) -> str:
    """Shell-quoted, an option with its values a line, so that it can be read and pasted."""
    lines: list[list[str]] = [[]]
    for word in argv:
        if word.startswith("-") and not _is_number(word):
            lines.append([])
        lines[-1].append(shlex.quote(word))
    return " \\\n  ".join(" ".join(words) for words in lines)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _accounts(fitted: Fitted) -> Iterator[tuple[Account, PoolJudgement]]:
    """One for each memory."""
    return zip(fitted.ledger.accounts, fitted.verdict.judgements, strict=True)


def _ledger_json(fitted: Fitted) -> dict[str, Any]:
    return {
        "verdict": fitted.verdict.status,
        "guardrails": fitted.verdict.guardrails,
        "refused": fitted.verdict.refused,
        "devices": [_device(*row) for row in _accounts(fitted)],
        "advice": [{"changes": dict(each.changes), "text": each.text} for each in fitted.advices],
        "placement": {"changes": dict(fitted.changes), "reasons": list(fitted.reasons)},
        "notes": list(fitted.ledger.notes),
    }


def _row(account: Account, judgement: PoolJudgement) -> tuple[str, ...]:
    pool = account.pool
    figures = (account.weights, account.context, account.compute, account.other)
    return (
        pool.label,
        size(judgement.needed_bytes),
        size(pool.free_bytes),
        size(pool.total_bytes),
        *(size(figure.bytes) for figure in figures),
        ", ".join(sorted({figure.source for figure in figures})),
        judgement.status,
    )


def _device(account: Account, judgement: PoolJudgement) -> dict[str, Any]:
    figures = {"weights": account.weights, "context": account.context}
    figures |= {"compute": account.compute, "other": account.other}
    sources = {figure.source for figure in figures.values()}
    return {
        "name": account.pool.name,
        "worker": account.pool.worker or None,
        "total_bytes": account.pool.total_bytes,
        "free_bytes": account.pool.free_bytes,
        "left_bytes": account.pool.left_bytes,
        "shares_ram": account.pool.shares_ram,
        **{f"{name}_bytes": figure.bytes for name, figure in figures.items()},
        "anonymous_bytes": account.anonymous_bytes,
        "needed_bytes": judgement.needed_bytes,
        "reserve_bytes": judgement.reserve_bytes,
        "paged_bytes": judgement.paged_bytes,
        "source": sources.pop() if len(sources) == 1 else "mixed",
        "sources": {name: figure.source for name, figure in figures.items()},
        "verdict": judgement.status,
        "text": judgement.text,
    }
