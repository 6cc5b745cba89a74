"""What a draft model adds to the account of a launch.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..options.option_values import OptionValue
from .accounts import Account, Figure, Ledger

MODEL = "spec-draft-model"
# what the draft has options of its own for, which do not follow the target's; the device does
_OWN = {
    "gpu-layers": "spec-draft-ngl",
    "cpu-moe": "spec-draft-cpu-moe",
    "n-cpu-moe": "spec-draft-n-cpu-moe",
    "override-tensor": "spec-draft-override-tensor",
    "cache-type-k": "spec-draft-type-k",
    "cache-type-v": "spec-draft-type-v",
}
_FOLLOWING = {"device": "spec-draft-device"}
DRAFTED = (MODEL, "spec-type")  # what a draft that is counted is said with


def draft_options(options: Mapping[str, OptionValue]) -> Mapping[str, OptionValue]:
    """
    The options of a draft as if it were served alone: its context has as many tokens as the target's.

    Source: common_speculative_init_result in common/speculative.cpp of llama.cpp b11434.
    """
    without = {*_OWN, *_OWN.values(), *_FOLLOWING.values(), *DRAFTED}
    shared = {name: value for name, value in options.items() if name not in without}
    own = {name: options[said] for name, said in (_OWN | _FOLLOWING).items() if said in options}
    return {**shared, **own, "cache-ram": 0}


def with_draft(ledger: Ledger, draft: Ledger) -> Ledger:
    """``ledger`` with the weights, context and buffers of the draft among what is other, memory by memory."""
    accounts = tuple(_with(*both) for both in zip(ledger.accounts, draft.accounts, strict=True))
    return replace(ledger, accounts=accounts, notes=tuple(dict.fromkeys((*ledger.notes, *draft.notes))))


def _with(account: Account, draft: Account) -> Account:
    """The process and the runtime of a GPU are there already."""
    more = draft.needed_bytes - draft.other.bytes
    anonymous = max(0, draft.anonymous_bytes - draft.other.bytes)
    other = Figure(account.other.bytes + more, account.other.source)
    return replace(account, other=other, anonymous_bytes=account.anonymous_bytes + anonymous)
