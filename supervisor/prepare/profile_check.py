"""Checks the text of a profile before it is saved, with the messages that a start would give."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..errors import SupervisorError
from ..files import replace_file
from ..paths import Paths
from ..profile.load_layers import load
from ..profile.resolve import ProfileProblems, resolve_layer
from ..profile.store import ProfileStore, valid_name
from .prepare import Preparation, preview


@dataclass(frozen=True, slots=True)
class TextProblem:
    """``line`` and ``column`` count from 1; None where the problem is elsewhere, as the message says."""

    line: int | None
    column: int | None
    severity: Literal["error", "warning"]
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class CheckedText:
    """``plan`` is what a start would do; None where that was not asked for, or there are errors."""

    problems: tuple[TextProblem, ...]
    plan: Preparation | None = None

    @property
    def is_sound(self) -> bool:
        return all(each.severity == "warning" for each in self.problems)


def check_text(name: str, text: bytes, paths: Paths, *, plans: bool = False) -> CheckedText:
    """
    What is wrong with this text as the profile ``name``, which need not be stored.

    With ``plans`` also what `preview` finds, which may ask the hub for the model's header.  Raises UsageError
    for a name that no profile can have.
    """
    store = ProfileStore(paths.profiles)
    file = str(paths.profiles / f"{valid_name(name)}.yaml")
    try:
        profile = resolve_layer(load(text, name, file), store)
    except ProfileProblems as error:
        return CheckedText(tuple(_in_text(error, file)))
    except SupervisorError as error:
        return CheckedText((TextProblem(None, None, "error", str(error), error.hint),))
    if not profile.can_start:
        warning = "names no model, so it can be extended but not started"
        return CheckedText((TextProblem(None, None, "warning", warning),))
    return _planned(name, text, paths) if plans else CheckedText(())


def _in_text(error: ProfileProblems, file: str) -> Iterator[TextProblem]:
    """Of the other files it is said where they are: a profile that this one extends, config.yaml."""
    for problem in error.problems:
        if problem.file == file:
            mark = problem.mark
            yield TextProblem(mark.line or None, mark.column or None, "error", problem.text)
        else:
            yield TextProblem(None, None, "error", str(problem))


def _planned(name: str, text: bytes, paths: Paths) -> CheckedText:
    with _as_if_saved(name, text, paths) as there:
        try:
            found = preview(name, {}, there)
        except SupervisorError as error:
            said = str(error).replace(str(there.config), str(paths.config))
            return CheckedText((TextProblem(None, None, "error", said, error.hint),))
    refusal = found.fitted.refusal if found.fitted else ""
    warnings = (*((f"does not fit: {refusal}",) if refusal else ()), *found.warnings)
    return CheckedText(tuple(TextProblem(None, None, "warning", each) for each in warnings), found)


@contextmanager
def _as_if_saved(name: str, text: bytes, paths: Paths) -> Iterator[Paths]:
    """Copies of the user's profiles and settings, with this text among them."""
    with tempfile.TemporaryDirectory(prefix="goss-check-") as folder:
        there = replace(paths, config=Path(folder))
        there.profiles.mkdir()
        for file in (paths.config / "config.yaml", *paths.profiles.glob("*.yaml")):
            if file.is_file():
                replace_file(there.config / file.relative_to(paths.config), file.read_bytes())
        replace_file(there.profiles / f"{name}.yaml", text)
        yield there
