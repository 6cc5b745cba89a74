"""How the account of a launch is shown: a table for people, and ``ledger`` in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .output import size, table

if TYPE_CHECKING:
    from ..memory.fitting import Fitted
    from ..memory.types import Account
    from ..memory.verdict import Judgement

_HEADERS = ("memory", "needs", "free", "of", "weights", "context", "compute", "other", "says", "verdict")


def ledger_table(fitted: Fitted) -> str:
    """A row for each memory."""
    rows = zip(fitted.ledger.accounts, fitted.verdict.judgements, strict=True)
    return table(_HEADERS, [_row(account, judgement) for account, judgement in rows])


def ledger_json(fitted: Fitted) -> dict[str, Any]:
    rows = zip(fitted.ledger.accounts, fitted.verdict.judgements, strict=True)
    return {
        "verdict": fitted.verdict.status,
        "guardrails": fitted.verdict.guardrails,
        "refused": fitted.verdict.refused,
        "devices": [_device(account, judgement) for account, judgement in rows],
        "advice": [{"changes": dict(each.changes), "text": each.text} for each in fitted.advices],
        "placement": {"changes": dict(fitted.changes), "reasons": list(fitted.reasons)},
        "notes": list(fitted.ledger.notes),
    }


def _row(account: Account, judgement: Judgement) -> tuple[str, ...]:
    pool = account.pool
    figures = (account.weights, account.context, account.compute, account.other)
    return (
        pool.name,
        size(judgement.needed_bytes),
        size(pool.free_bytes),
        size(pool.total_bytes),
        *(size(figure.bytes) for figure in figures),
        ", ".join(sorted({figure.source for figure in figures})),
        judgement.status,
    )


def _device(account: Account, judgement: Judgement) -> dict[str, Any]:
    figures = {"weights": account.weights, "context": account.context}
    figures |= {"compute": account.compute, "other": account.other}
    sources = {figure.source for figure in figures.values()}
    return {
        "name": account.pool.name,
        "total_bytes": account.pool.total_bytes,
        "free_bytes": account.pool.free_bytes,
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
