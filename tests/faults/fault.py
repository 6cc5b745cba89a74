"""What a fault is: how it is injected, what is promised, and a check that says what was seen."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .ground import NAMES, Ground

Check = Callable[[Ground], str]
Inject = Callable[[Ground, random.Random], None]
Fate = Literal["same", "new", "any"]


@dataclass(frozen=True, slots=True)
class Fault:
    """
    ``check`` injects it in a fresh `Ground` and returns what was seen; it raises AssertionError where that is
    not what ``promise`` says.  ``inject`` is there for those that may happen while clients ask: it blocks until
    the cause is gone, and promises nothing itself.
    """

    section: str
    name: str
    how: str
    promise: str
    check: Check
    inject: Inject | None = None
    needs_root: bool = False


CATALOGUE: list[Fault] = []


def fault(
    section: str, name: str, *, how: str, promise: str, needs_root: bool = False
) -> Callable[[Check], Check]:
    """Put what is decorated into the catalogue."""

    def add(check: Check) -> Check:
        CATALOGUE.append(Fault(section, name, how, promise, check, needs_root=needs_root))
        return check

    return add


def under_load(
    section: str,
    name: str,
    *,
    how: str,
    promise: str,
    daemon: Fate = "same",
    servers: Fate = "same",
    breaks: bool = False,
    needs_root: bool = False,
) -> Callable[[Inject], Inject]:
    """
    The same for what happens while six clients ask three models.  Never is an answer wrong or cut but clean, no
    request hangs, and all models answer again; ``breaks``: requests may break visibly.  ``daemon`` and
    ``servers`` say whether their processes are the same afterwards; ``new``: at least one is not.
    """

    def add(inject: Inject) -> Inject:
        def check(ground: Ground) -> str:
            if ground.names != NAMES:
                ground.serve(NAMES)
            before = ground.daemon().pid, ground.servers()
            with ground.load() as load:
                load.more(6)
                began = time.monotonic()
                inject(ground, random.Random(1))
                gone = time.monotonic()
                ground.recover(gone)
                load.more(6)
            seen = Counter(each.verdict for each in load.since(began))
            told = Counter(each.detail for each in load.since(began) if each.verdict == "broken")
            wrong = [each for each in load.asked if each.verdict in {"wrong", "cut clean", "hung"}]
            assert not wrong, wrong
            assert breaks or not seen["broken"], told
            after = ground.daemon().pid, ground.servers()
            lived = [
                _lived("daemon", daemon, before[0] == after[0]),
                _lived("servers", servers, before[1] == after[1]),
            ]
            words = ", ".join(f"{count} {verdict}" for verdict, count in sorted(seen.items(), reverse=True))
            codes = (
                f" ({', '.join(f'{code} {count}' for code, count in told.most_common(3))})" if told else ""
            )
            return f"{words}{codes}; {'; '.join(lived)}"

        CATALOGUE.append(Fault(section, name, how, promise, check, inject, needs_root))
        return inject

    return add


def _lived(who: str, fate: Fate, same: bool) -> str:
    assert fate in {"any", "same" if same else "new"}, (
        f"{who}: {'the same' if same else 'not the same'} after it"
    )
    return f"{'same' if same else 'new'} {who}"
