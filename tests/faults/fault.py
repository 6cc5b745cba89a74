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
    the cause is gone, and promises nothing itself; ``ends_daemon`` if that does.
    """

    section: str
    name: str
    how: str
    promise: str
    check: Check
    inject: Inject | None = None
    needs_root: bool = False
    ends_daemon: bool = False


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
            return tried(ground, inject, daemon=daemon, servers=servers, breaks=breaks)

        CATALOGUE.append(Fault(section, name, how, promise, check, inject, needs_root, daemon == "new"))
        return inject

    return add


def tried(ground: Ground, inject: Inject, *, daemon: Fate, servers: Fate, breaks: bool) -> str:
    """What is seen of it where models are served; see `under_load`.  Raises AssertionError."""
    before = ground.daemon().pid, ground.servers()
    with ground.load() as load:
        load.more(6)
        began = time.monotonic()
        inject(ground, random.Random(1))
        ground.recover(time.monotonic())
        load.more(6)
    wrong = [each for each in load.asked if each.verdict in {"wrong", "cut clean", "hung"}]
    assert not wrong, wrong
    seen = Counter(each.verdict for each in load.since(began))
    told = Counter(each.detail for each in load.since(began) if each.verdict == "broken")
    assert breaks or not told, told
    assert not (harm := ground.harm()), harm
    words = [f"{seen['whole']} whole"]
    if told:
        codes = ", ".join(f"{code} {count}" for code, count in told.most_common(3))
        words.append(f"{seen['broken']} broken ({codes})")
    after = ground.daemon().pid, ground.servers()
    lived = [
        _lived("daemon", daemon, same=before[0] == after[0]),
        _lived("servers", servers, same=before[1] == after[1]),
    ]
    return "; ".join([", ".join(words), *lived])


def _lived(who: str, fate: Fate, *, same: bool) -> str:
    assert fate in {"any", "same" if same else "new"}, f"{who}: {'' if same else 'not '}the same after it"
    return f"{'same' if same else 'new'} {who}"
