"""Options as they were written, in the words of any era, become meanings: renames, switches, duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import dialect, values
from .meanings import SECRETS, nearest, understand
from .types import Folded, OptionValue, Problem, Translation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .meanings import Reading


@dataclass(frozen=True, slots=True)
class Said:
    """One option as somebody wrote it, and what it is; ``name`` is of the era of the spelling."""

    written: str
    name: str
    value: OptionValue

    @property
    def meaning(self) -> str:
        return dialect.LEGACY.get(self.name, self.name)


def hear(written: str, value: OptionValue) -> Said | Problem:
    """Understand one option, or say what is wrong with it."""
    if (reading := understand(written)) is None:
        return unknown(written)
    if reading.is_action:
        return Problem(
            written, f"{written} makes llama-server print something and exit; it is not for serving"
        )
    try:
        return Said(written, reading.name, _positive(reading, values.read(reading.option, value)))
    except values.BadValue as error:
        return Problem(written, f"{written} {error}")


def unknown(written: str) -> Problem:
    """The problem of an option that no llama-server has, with the nearest that one does."""
    return Problem(written, f"llama-server has no option {written}", nearest(written))


def _positive(reading: Reading, value: OptionValue) -> OptionValue:
    return not value if reading.negated else value


def settle(said: Sequence[Said], problems: Iterable[Problem] = (), *, last_wins: bool) -> Folded:
    """
    Today's meanings of what was said, in the order of first mention.

    A thing said twice is a Problem, or with ``last_wins`` (as on a command line) a translation.
    """
    problems, translations = list(problems), list[Translation]()
    options: dict[str, OptionValue] = {}
    written: dict[str, str] = {}
    for each in _modernised(said, translations):
        if each.name not in options:
            options[each.name], written[each.name] = each.value, each.written
        elif last_wins:
            options[each.name] = _added_or_replaced(each, options[each.name], translations)
        else:
            problems.append(
                Problem(each.written, f"{each.written} and {written[each.name]} are the same option")
            )
    return Folded(options, tuple(translations), tuple(problems))


def _modernised(said: Sequence[Said], translations: list[Translation]) -> list[Said]:
    """Options of ``LEGACY`` as today's: all that share a meaning become one, where the last of them stood."""
    result = []
    legacy: dict[str, dict[str, Said]] = {}
    for each in said:
        if each.name in dialect.LEGACY:
            legacy.setdefault(each.meaning, {})[each.name] = each
    for index, each in enumerate(said):
        if each.name not in dialect.LEGACY:
            result.append(each)
        elif not any(s.name in dialect.LEGACY and s.meaning == each.meaning for s in said[index + 1 :]):
            result.append(_modern(each.meaning, legacy[each.meaning], translations))
    return result


def _modern(meaning: str, parts: dict[str, Said], translations: list[Translation]) -> Said:
    row, value = dialect.modern(meaning, {name: part.value for name, part in parts.items()})
    written = " ".join(dict.fromkeys(part.written for part in parts.values()))
    translations.append(
        Translation(written, (f"--{meaning}", str(value)), f"today's name of {written}", row.source)
    )
    return Said(written, meaning, value)


def _added_or_replaced(said: Said, before: OptionValue, translations: list[Translation]) -> OptionValue:
    reading = understand(f"--{said.name}")
    repeats = reading is not None and reading.option.many == "repeat"
    if repeats:
        return (*values.words(before), *values.words(said.value))
    if said.name in dialect.ACCUMULATING:
        return f"{before},{said.value}"
    dropped, kept = ("…", "…") if said.name in SECRETS else (before, said.value)
    reason = f"given twice: the last one wins, {dropped!r} is dropped"
    translations.append(Translation(said.written, (f"--{said.name}", *values.words(kept)), reason))
    return said.value
