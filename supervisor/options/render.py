"""Renders options as the argument list of one build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from . import dialect
from .meanings import SECRETS, canonical, closest, describe, understand
from .option_types import OptionProblem, OptionValue, Translation
from .option_values import BadOptionValue, check_fits, read_value, words_of

if TYPE_CHECKING:
    from .help import Capabilities, HelpOption


@dataclass(frozen=True, slots=True)
class Rendered:
    """The argument list for one build; usable only when ``problems`` is empty."""

    argv: tuple[str, ...] = ()
    translations: tuple[Translation, ...] = ()
    problems: tuple[OptionProblem, ...] = ()


def render(options: Mapping[str, OptionValue], capabilities: Capabilities) -> Rendered:
    """In the order of ``options``; secrets are left out, saying which environment variable has them."""
    parts = [_one(key, value, capabilities) for key, value in options.items()]
    return Rendered(
        tuple(chain.from_iterable(part.argv for part in parts)),
        tuple(chain.from_iterable(part.translations for part in parts)),
        tuple(chain.from_iterable(part.problems for part in parts)),
    )


def _one(key: str, value: OptionValue, capabilities: Capabilities) -> Rendered:
    name = canonical(key) or key
    meaning = describe(name) or capabilities.find(f"--{name}")  # a build may be newer than our vocabulary
    if meaning is None:
        return _problem(key, f"neither this release nor {_build(capabilities)} knows {key}", capabilities)
    reading = understand(name)
    if reading is not None and reading.is_action:
        problem = OptionProblem(key, f"--{name} makes llama-server print something and exit")
        return Rendered(problems=(problem,))
    if name in SECRETS:
        reason = f"passed as {SECRETS[name]} in the environment: secrets are never in an argument list"
        return Rendered(translations=(Translation(key, (), reason),))
    try:
        value = read_value(meaning, value)
    except BadOptionValue as error:
        return Rendered(problems=(OptionProblem(key, f"--{name} {error}"),))
    if refused := dialect.refusal(name, value, capabilities):
        why = f"{_build(capabilities)} cannot do {name}: {value}: {refused.reason}"
        return _problem(key, why, capabilities)
    if meaning.takes_value:
        return _valued(name, value, meaning, capabilities)
    return _flag(name, meaning, capabilities, wanted=bool(value))


def _flag(name: str, meaning: HelpOption, capabilities: Capabilities, *, wanted: bool) -> Rendered:
    spellings = (meaning.names, meaning.negative_names)
    spelling, opposite = (
        _listed(names, capabilities) for names in (spellings if wanted else spellings[::-1])
    )
    if spelling:
        return Rendered((spelling,), _renamed(name, spelling, meaning))
    if opposite:
        default = "on unless it is switched off" if wanted else "off unless it is switched on"
        note = Translation(name, (), f"left out: in {_build(capabilities)} it is {default}")
        return Rendered(translations=(note,) if meaning.negative_names else ())
    if not wanted and meaning.default not in {"enabled", "true", "prefill"}:
        note = Translation(name, (), f"left out: {_build(capabilities)} has no --{name} at all")
        return Rendered(translations=(note,))
    return _otherwise(name, wanted, capabilities)


def _listed(names: tuple[str, ...], capabilities: Capabilities) -> str:
    """The first long spelling that the build lists; short ones have changed owners between eras."""
    return next((n for n in names if n.startswith("--") and capabilities.find(n)), "")


def _renamed(name: str, spelling: str, meaning: HelpOption) -> tuple[Translation, ...]:
    if spelling in {f"--{name}", f"--no-{name}", *meaning.negative_names}:
        return ()
    return (Translation(name, (spelling,), f"{spelling} is this build's name for it"),)


def _valued(name: str, value: OptionValue, meaning: HelpOption, capabilities: Capabilities) -> Rendered:
    spelling = _listed(meaning.names, capabilities)
    option = capabilities.find(spelling)
    if option is None or not option.takes_value:
        return _otherwise(name, value, capabilities)
    if option.arity != meaning.arity or (meaning.many == "comma" and option.many != "comma"):
        return _several(name, str(value), spelling, option, capabilities)
    try:
        check_fits(option, value)
    except BadOptionValue as error:
        return _otherwise(name, value, capabilities, why=str(error))
    argv = _repeated(spelling, value) if meaning.many == "repeat" else (spelling, *words_of(value))
    return Rendered(argv, _renamed(name, spelling, meaning))


def _repeated(spelling: str, value: OptionValue) -> tuple[str, ...]:
    return tuple(chain.from_iterable((spelling, word) for word in words_of(value)))


def _several(
    name: str, value: str, spelling: str, option: HelpOption, capabilities: Capabilities
) -> Rendered:
    """A list with commas, for a build that wants the option repeated, or in two words for each."""
    items = value.split(",")
    if name in dialect.PAIRED and option.arity == 2:
        argv = tuple(chain.from_iterable((spelling, *item.rsplit(":", 1)) for item in items))
        if len(argv) != 3 * len(items):
            return _problem(name, f"--{name} takes FNAME:SCALE, not {value!r}", capabilities)
        return Rendered(argv, (Translation(name, argv, "this build takes file and scale as two words"),))
    if len(items) == 1:
        return Rendered((spelling, value), _renamed(name, spelling, option))
    if option.many != "repeat" and name not in dialect.ACCUMULATING:
        why = f"{_build(capabilities)} takes one value for {spelling}, not {value!r}"
        return _problem(name, why, capabilities)
    argv = _repeated(spelling, tuple(items))
    return Rendered(argv, (Translation(name, argv, "this build wants the option once for each value"),))


def _otherwise(name: str, value: OptionValue, capabilities: Capabilities, why: str = "") -> Rendered:
    """In the words of another era, or a problem."""
    if found := dialect.rendering(name, value, capabilities):
        row, argv = found
        return Rendered(argv, (Translation(name, argv, row.reason, row.source),))
    if why:
        return _problem(name, f"--{name} {why} in {_build(capabilities)}", capabilities)
    advice = f": {dialect.GONE[name]}" if name in dialect.GONE else ""
    shown = str(value).lower() if isinstance(value, bool) else value
    return _problem(name, f"{_build(capabilities)} cannot do {name}: {shown}{advice}", capabilities)


def _problem(key: str, message: str, capabilities: Capabilities) -> Rendered:
    spellings = tuple(name for option in capabilities.options for name in option.names)
    return Rendered(problems=(OptionProblem(key, message, closest(key, spellings)),))


def _build(capabilities: Capabilities) -> str:
    return f"b{capabilities.build}" if capabilities.build else "this build"
