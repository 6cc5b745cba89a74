"""Each run of a model, from its first answer to its end, by the events of a home; and whether it was slow."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from ..decoding import LARGEST

HomeEvent = Mapping[str, Any]
SLOWER = 0.75  # of the median of earlier runs: below the noise of machines that do other things too
RUNS_TO_KNOW = 3
RUNS_COMPARED = 50  # the last ones: a machine changes, and a file may list very many
SERVES = frozenset({"ready", "degraded"})


@dataclass(slots=True)
class Run:
    """One process of a server that was ready, from its first answer to its end; None is not known."""

    server: str
    profile: str
    ready_at: str
    build: str
    flavour: str
    digest: str
    load_seconds: float | None
    memory_bytes: int | None
    served_seconds: float | None = None
    tokens_per_second: float | None = None
    ended: str = ""  # how; "" while it runs, or where the daemon was killed
    note: str = ""


def runs_in(found: Iterable[HomeEvent]) -> Iterator[Run]:
    """In the order in which they became ready; what was only measured is left out."""
    runs: list[Run] = []
    open_: dict[str, Run] = {}
    for event in found:
        server = event.get("server")
        if event["kind"] == "daemon":
            open_.clear()  # runs of an earlier daemon: it recorded how they ended, or was killed
        elif isinstance(server, str) and _text(event, "state") in SERVES and "digest" in event:
            if not event.get("trial"):
                runs.append(_begun(event, server))
                open_[server] = runs[-1]
        elif "served_seconds" in event and (run := open_.pop(str(server), None)):
            run.served_seconds = _number(event, "served_seconds")
            run.tokens_per_second = _number(event, "tokens_per_second")
            run.ended = _text(event, "cause") or _text(event, "why") or _text(event, "state")
    return iter(runs)


def _begun(event: HomeEvent, server: str) -> Run:
    return Run(
        server,
        _text(event, "profile"),
        event["at"],
        _text(event, "build"),
        _text(event, "flavour"),
        _text(event, "digest"),
        _number(event, "load_seconds"),
        _number(event, "memory_bytes"),
    )


def _text(event: HomeEvent, name: str) -> str:
    """Another version may have written it; "" for none."""
    return value if isinstance(value := event.get(name), str) else ""


def _number(event: HomeEvent, name: str) -> Any:  # noqa: ANN401 - an int where it was one
    value: Any = event.get(name)
    return value if type(value) in {int, float} and 0 <= value <= LARGEST else None


def with_notes(runs: Iterable[Run]) -> Iterator[Run]:
    """Each compared with those before it that had the same settings, engine and build."""
    before: dict[tuple[str, str, str], deque[Run]] = defaultdict(partial(deque, maxlen=RUNS_COMPARED))
    for run in runs:
        alike = before[run.digest, run.build, run.flavour]
        run.note = ", ".join(filter(None, (_slower_load(run, alike), _slower_answers(run, alike))))
        alike.append(run)
        yield run


def _slower_load(run: Run, before: Iterable[Run]) -> str:
    usual = _usual(each.load_seconds for each in before)
    if usual is None or run.load_seconds is None or usual >= SLOWER * run.load_seconds:
        return ""
    return f"loaded slower than usual ({usual:.1f} s)" if run.load_seconds - usual >= 1 else ""


def _slower_answers(run: Run, before: Iterable[Run]) -> str:
    usual = _usual(each.tokens_per_second for each in before)
    if usual is None or run.tokens_per_second is None or run.tokens_per_second >= SLOWER * usual:
        return ""
    return f"answered slower than usual ({usual:.1f} tok/s)"


def _usual(figures: Iterable[float | None]) -> float | None:
    known = [each for each in figures if each is not None]
    return median(known) if len(known) >= RUNS_TO_KNOW else None
